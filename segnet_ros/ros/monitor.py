# Copyright 2026 The segnet_ros authors
#
# Licensed under the Apache License, Version 2.0 (the "License");
# you may not use this file except in compliance with the License.
# You may obtain a copy of the License at
#
#     http://www.apache.org/licenses/LICENSE-2.0
#
# Unless required by applicable law or agreed to in writing, software
# distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied.
# See the License for the specific language governing permissions and
# limitations under the License.

"""What became of one camera's frames: counts, rates, latencies and their /diagnostics status."""

from collections import Counter, deque
import threading
import time

from diagnostic_msgs.msg import DiagnosticStatus, KeyValue
import numpy as np

from segnet_ros.ros.settings import Settings

STAGES = ('wait', 'convert', 'segment', 'publish', 'total')
WINDOW = 300  # frames that percentiles cover
RATE_SECONDS = 5.0  # that rates cover
RESIZES, RESIZE_SECONDS = 3, 10.0  # warn above this; a camera that restarts changes its size once
CLOCK_SECONDS = 3600.0  # greater ages mean different clocks or stamps that are not times
AHEAD_SECONDS = 0.1  # results may precede stamps by this: a simulated clock may tick so rarely
AHEAD_RESULTS = 11  # take their median: a bag that restarts is ahead for one or two
STUCK_SECONDS = 10.0  # with no frame finished: longer than a network takes to warm up

# How a frame can end. Received frames are the sum of these and of those in progress; frames that
# DDS reports as lost before they arrived are counted apart.
OUTCOMES = ('processed', 'dropped', 'stale', 'late', 'limited', 'unwatched', 'paused', 'failed')
TOO_OLD = ('stale', 'late')


class StreamMonitor:
    """
    Counts frames by outcome and keeps the latest latencies; safe to use from several threads.

    Outcomes: processed; dropped for a newer frame; stale (older than max_frame_age when it came);
    late (older than that only later, before its results were published); limited (by max_rate);
    unwatched (nobody subscribes to a result); paused (through ~/enable); failed (could not be
    converted or run).
    """

    def __init__(self):
        self._lock = threading.RLock()
        self.counts = Counter()
        self._latencies = {stage: deque(maxlen=WINDOW) for stage in STAGES}
        self._arrivals: deque = deque(maxlen=WINDOW)
        self._finishes: deque = deque(maxlen=WINDOW)
        self.last_error = ''
        self._seen = Counter()
        self._last, self._run = '', 0  # what the latest frames came to, and how many in a row
        self._started = 0.0  # when frames began to be expected
        self._waiting_since: float | None = None  # when frames began to wait, none finished since
        self._ages: deque = deque(maxlen=WINDOW)
        self._ages_now: deque = deque(maxlen=AHEAD_RESULTS)  # since results have been wanted
        self._latest = 0.0  # greatest age since the last status; stands until newer results
        self._told = False  # whether a status has covered all results so far
        self._wanted_since: float | None = None  # start of an unbroken run of results
        self._resizes: deque = deque(maxlen=WINDOW)

    def received(self):
        """Count a received frame."""
        with self._lock:
            self.counts['received'] += 1
            self._arrivals.append(time.monotonic())

    def lost(self, count: int):
        """Count frames that DDS lost."""
        with self._lock:
            self.counts['lost'] += count

    def started(self):
        """Start to expect frames; what became of those before is no news."""
        with self._lock:
            self._seen = self.counts.copy()
            self._last, self._run = '', 0
            for before in (self._arrivals, self._finishes, self._ages, self._resizes,
                           *self._latencies.values()):
                before.clear()
            self._started = time.monotonic()
            self._waiting_since = None
            self._forget_results()

    def _forget_results(self):
        """Judge only results from now on: those that nobody wanted are not missing."""
        self._wanted_since, self._latest = None, 0.0
        self._ages_now.clear()

    def waiting(self):
        """Note that a frame waits for a worker."""
        with self._lock:
            self._waiting_since = self._waiting_since or time.monotonic()

    def count(self, outcome: str, error: str = ''):
        """Count a frame's outcome, with the error if it failed."""
        with self._lock:
            self.counts[outcome] += 1
            # These two are counted when frames come in, whether or not a worker is alive.
            if outcome not in ('dropped', 'limited'):
                self._finished(outcome)
            if outcome in ('unwatched', 'paused'):
                self._forget_results()
            if error:
                self.last_error = error

    def _finished(self, outcome: str):
        self._waiting_since = None
        same = outcome == self._last or {outcome, self._last} <= {*TOO_OLD}
        self._last, self._run = outcome, self._run + 1 if same else 1

    def resized(self):
        """Note that the frame size changed."""
        with self._lock:
            self._resizes.append(time.monotonic())

    def processed(self, marks: list[float], age: float):
        """
        Count a processed frame.

        :param marks: its monotonic times: received, and the end of each stage.
        :param age: seconds from its stamp to its results, by the node's clock.
        """
        with self._lock:
            self.counts['processed'] += 1
            self._finished('processed')
            self._measured(marks, age)
            self._finishes.append(marks[-1])
            self._ages_now.append(age)
            # Until newer results come, the last ones stand.
            self._latest = age if self._told else max(self._latest, age)
            self._told = False
            self._wanted_since = self._wanted_since or marks[-1]

    def late(self, marks: list[float], age: float):
        """Count a frame whose results came too late to publish; parameters as of processed()."""
        with self._lock:
            self.counts['late'] += 1
            self._finished('late')
            self._measured(marks, age)

    def _measured(self, marks: list[float], age: float):
        self._ages.append(age)
        steps = [b - a for a, b in zip(marks[:-1], marks[1:], strict=True)]
        for stage, seconds in zip(STAGES, [*steps, marks[-1] - marks[0]], strict=True):
            self._latencies[stage].append(seconds)

    def silent_seconds(self) -> float:
        """Return the seconds since the last frame, or since frames began to be expected."""
        with self._lock:
            return time.monotonic() - (self._arrivals[-1] if self._arrivals else self._started)

    def stuck_seconds(self) -> float:
        """Return the seconds that frames have waited with none finished; 0 if none wait."""
        with self._lock:
            return time.monotonic() - self._waiting_since if self._waiting_since else 0.0

    def status(self, name: str, facts: dict[str, str], settings: Settings, paused: bool = False,
               trouble: str = '') -> DiagnosticStatus:
        """
        Return the status for /diagnostics and begin a new period.

        The level is WARN if frames were lost, dropped or stale since the last call, kept changing
        size or did not come for too long, or if results came too rarely, too late, or before
        their stamps while a limit counts from these. It is ERROR if any frame failed, all (at
        least three) were stale or the workers are stuck. The message says which. Failed and stale
        frames are told until one of another outcome comes, or none for no_image_warning_period.

        :param trouble: an external problem to warn of, or ''.
        """
        with self._lock:
            now = time.monotonic()
            news = self.counts - self._seen
            self._seen = self.counts.copy()
            self._told = True
            if paused:
                self._forget_results()
            level, message = self._verdict(now, news, settings, paused, trouble)
            values = {**facts, **self._values(now)}
        return DiagnosticStatus(level=level, name=name, message=message, hardware_id=name,
                                values=[KeyValue(key=k, value=v) for k, v in values.items()])

    def _values(self, now: float) -> dict[str, str]:
        """Return rates, counts since the start, and the latest latencies, in words."""
        values = {'input_rate': f'{_rate(self._arrivals, now):.2f} Hz',
                  'output_rate': f'{_rate(self._finishes, now):.2f} Hz',
                  **{key: str(self.counts[key]) for key in ('received', 'lost', *OUTCOMES)}}
        if self._arrivals:
            values['age_of_last_frame'] = f'{now - self._arrivals[-1]:.3f} s'
        values |= {f'latency_{stage}_ms': _percentiles(seconds)
                   for stage, seconds in self._latencies.items() if seconds}
        if self._ages:
            age = float(np.median(self._ages))
            values['stamp_age_ms'] = (
                _percentiles(self._ages) if abs(age) < CLOCK_SECONDS else
                f"{age:.0f} s: stamps are not from the node's clock")
        return values

    def _verdict(self, now: float, news: Counter, settings: Settings, paused: bool,
                 trouble: str) -> tuple[bytes, str]:
        """Return the level and message: what is worst comes first."""
        if news['failed']:
            return DiagnosticStatus.ERROR, f"{news['failed']} frames failed: {self.last_error}"
        if (stuck := self.stuck_seconds()) > STUCK_SECONDS:
            return DiagnosticStatus.ERROR, f'stuck: no frame finished for {stuck:.0f} s'
        silent = self.silent_seconds()
        if 0 < settings.no_image_warning_period < silent:
            cause = f'the last one failed: {self.last_error}' if self._last == 'failed' else ''
            return DiagnosticStatus.WARN, _joined('no frames', cause, _losses(news))
        if paused:
            return DiagnosticStatus.OK, 'paused through ~/enable'
        if self._last == 'failed':
            return DiagnosticStatus.ERROR, f'the last frame failed: {self.last_error}'
        if self._last in TOO_OLD or any(news[key] for key in TOO_OLD):
            return self._too_old(news)
        if warning := self._warning(now, news, settings, trouble):
            return DiagnosticStatus.WARN, warning
        if news['unwatched']:
            return DiagnosticStatus.OK, 'nobody subscribes to a result: not segmenting'
        return DiagnosticStatus.OK, (
            'no frames yet' if not self._arrivals else
            'segmenting' if silent < RATE_SECONDS or _rate(self._arrivals, now) else
            f'no frame for {silent:.0f} s')

    def _warning(self, now: float, news: Counter, settings: Settings, trouble: str) -> str:
        # Without a clock, every result would be ahead.
        ahead = '' if trouble else self._ahead(settings)
        drops = (f"{news['dropped']} of {news['received']} frames dropped: they come faster than "
                 'they can be segmented' if news['dropped'] and not news['unwatched'] else '')
        return _joined(trouble or self._resizing(now) or self._missed(now, settings), ahead,
                       _losses(news), drops)

    def _resizing(self, now: float) -> str:
        resized = sum(now - t < RESIZE_SECONDS for t in self._resizes)
        if resized <= RESIZES:
            return ''
        return (f'the size of frames changed {resized} times in {RESIZE_SECONDS:.0f} s: does more '
                'than one camera publish here?')

    def _missed(self, now: float, settings: Settings) -> str:
        """Return which limit the latest results broke, or ''."""
        least_rate, most_latency = settings.output_rate_warning, settings.latency_warning
        if least_rate and self._wanted_since is not None:
            # Long enough for ten results, one of which may fall just outside.
            window = max(RATE_SECONDS, 10 / least_rate)
            recent = [t for t in self._finishes if now - t < window]
            if len(recent) == WINDOW:
                window = now - recent[0]
            if now - self._wanted_since >= window and (len(recent) + 1) / window < least_rate:
                return (f'{len(recent) / window:.2f} results a second, fewer than '
                        f'output_rate_warning: {least_rate:g}')
        if 0 < most_latency < self._latest:
            clocks = ": check the cameras' clocks" if self._latest > CLOCK_SECONDS else ''
            return (f'results up to {self._latest:.3f} s after their stamps, more than '
                    f'latency_warning: {most_latency:g}{clocks}')
        return ''

    def _ahead(self, settings: Settings) -> str:
        """Return a warning if results come before stamps from which a limit counts, else ''."""
        age = float(np.median(self._ages_now)) if self._ages_now else 0.0
        if age > -AHEAD_SECONDS or not (settings.max_frame_age or settings.latency_warning):
            return ''
        return (f"results {-age:.3f} s before their frames' stamps: check the cameras' clocks; "
                'max_frame_age and latency_warning do not work')

    def _too_old(self, news: Counter) -> tuple[bytes, str]:
        count = sum(news[key] for key in TOO_OLD)
        late = news['late'] > news['stale'] or not count and self._last == 'late'
        how = 'became older than max_frame_age here' if late else 'came older than max_frame_age'
        others = any(news[key] for key in ('processed', 'unwatched', 'paused'))
        # A few alone may be the first ones, which waited while a segmenter was built.
        if others or self._last not in TOO_OLD or self._run < 3:
            return DiagnosticStatus.WARN, f'{count or self._run} frames {how}'
        advice = 'segment faster (lighter weights, a smaller network_size) or allow more' if late \
            else ("check the cameras' clocks and this machine's load; for a recording, set "
                  'use_sim_time')
        return DiagnosticStatus.ERROR, f'the last {self._run} frames {how}: {advice}'


def _percentiles(seconds) -> str:
    low, high = np.percentile(seconds, (50, 95))
    return f'p50 {1e3 * low:.2f}, p95 {1e3 * high:.2f}, max {1e3 * max(seconds):.2f}'


def state_status(name: str, state: str, error: str) -> DiagnosticStatus:
    """Return a camera's status while its node is not active; error is the last transition's."""
    return DiagnosticStatus(
        level=DiagnosticStatus.ERROR if error else DiagnosticStatus.WARN, name=name,
        message=error or f'{state}: not segmenting', hardware_id=name,
        values=[KeyValue(key='state', value=state)])


def _rate(times: deque, now: float) -> float:
    """Return the rate in Hz over the last RATE_SECONDS; it falls once frames stop."""
    recent = [t for t in times if now - t < RATE_SECONDS]
    if len(recent) < 2:
        recent = list(times)[-2:]  # of a slow camera, or one that has stopped
        if len(recent) < 2 or now - recent[1] > 2 * (recent[1] - recent[0]):
            return 0.0
    steps = len(recent) - 1
    # From the times between frames, and from the current wait once the next frame is late.
    return min(steps / max(1e-3, recent[-1] - recent[0]),
               (steps + 1) / max(1e-3, now - recent[0]))


def _joined(*parts: str) -> str:
    return '; '.join(filter(None, parts))


def _losses(news: Counter) -> str:
    return (f"{news['lost']} frames lost in DDS: see 'Large images over DDS' in the README"
            if news['lost'] else '')
