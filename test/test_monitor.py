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

"""Check a camera's rates and what its status on /diagnostics says."""

from collections import deque
from dataclasses import replace
import re
from types import SimpleNamespace

from class_numbers import values_of
from diagnostic_msgs.msg import DiagnosticStatus
import numpy as np
import pytest

from segnet_ros.ros import monitor as monitor_module
from segnet_ros.ros.monitor import OUTCOMES, StreamMonitor
from segnet_ros.ros.settings import Settings

NO_LIMITS = Settings(
    max_frame_age=0.0, max_rate=0.0, confidence_threshold=0.0, overlay_alpha=0.5, jpeg_quality=90,
    no_image_warning_period=5.0, output_rate_warning=0.0, latency_warning=0.0, roi=None, alerts={},
    palette=np.zeros((256, 3), np.uint8))


@pytest.fixture
def clock(monkeypatch):
    """Return a clock that the test sets: clock.now."""
    clock = SimpleNamespace(now=1000.0)
    monkeypatch.setattr(monitor_module.time, 'monotonic', lambda: clock.now)
    return clock


@pytest.mark.parametrize('rate', [0.1, 0.4, 1.0, 2.0, 5.0, 30.0, 200.0])
@pytest.mark.parametrize('later', [0.0, 0.5, 0.99])
def test_rate_of_a_steady_camera(rate, later):
    """It is the same at any time between two frames."""
    times = deque(np.arange(0, 40, 1 / rate), maxlen=monitor_module.WINDOW)
    assert monitor_module._rate(times, times[-1] + later / rate) == pytest.approx(rate, rel=1e-6)


def test_rate_falls_when_nothing_comes_any_more():
    times = deque(np.arange(0, 10, 0.1))
    rates = [monitor_module._rate(times, times[-1] + wait) for wait in (0.1, 1.0, 3.0, 6.0)]
    assert rates[0] == pytest.approx(10) and rates == sorted(rates, reverse=True)
    assert rates[-1] == 0
    assert monitor_module._rate(deque([3.0]), 3.1) == 0 == monitor_module._rate(deque(), 1.0)


def status_of(monitor, facts=None, paused=False, trouble='', **limits):
    settings = replace(NO_LIMITS, **limits)
    return monitor.status('segnet: front', facts or {}, settings, paused, trouble)


def verdict(monitor, **kwargs):
    status = status_of(monitor, **kwargs)
    return status.level, status.message


def test_a_slow_camera_is_no_missing_one(clock):
    monitor = StreamMonitor()
    assert verdict(monitor) == (DiagnosticStatus.WARN, 'no frames')
    monitor.received()
    monitor.processed([clock.now] * 5, 0.0)
    for _ in range(4):
        clock.now += 1
        assert verdict(monitor) == (DiagnosticStatus.OK, 'segmenting')
    clock.now += 2
    assert verdict(monitor) == (DiagnosticStatus.WARN, 'no frames')
    assert verdict(monitor, no_image_warning_period=10.0)[0] == DiagnosticStatus.OK


def test_a_camera_that_boots_is_given_the_same_time(clock):
    monitor = StreamMonitor()
    monitor.started()
    clock.now += 4
    assert verdict(monitor) == (DiagnosticStatus.OK, 'no frames yet')
    clock.now += 3600
    assert verdict(monitor) == (DiagnosticStatus.WARN, 'no frames')
    assert verdict(monitor, no_image_warning_period=0.0) == (DiagnosticStatus.OK, 'no frames yet')
    assert verdict(monitor, no_image_warning_period=3605.0)[0] == DiagnosticStatus.OK
    monitor.started()  # again
    assert verdict(monitor)[0] == DiagnosticStatus.OK


def test_a_camera_that_died_is_not_segmented_though_no_warning_is_wanted(clock):
    monitor = StreamMonitor()
    monitor.received()
    for wait, told in ((1, 'segmenting'), (60, 'no frame for 61 s')):
        clock.now += wait
        assert verdict(monitor, no_image_warning_period=0.0) == (DiagnosticStatus.OK, told)


def test_frames_that_were_lost_on_their_way_are_told_once(clock):
    monitor = StreamMonitor()
    monitor.received()
    monitor.lost(50)
    monitor.lost(2)
    status = status_of(monitor)
    assert status.level == DiagnosticStatus.WARN
    assert status.message.startswith("52 frames lost in DDS: see 'Large images over DDS'")
    assert (values_of(status)['lost'], values_of(status)['received']) == ('52', '1')
    assert verdict(monitor) == (DiagnosticStatus.OK, 'segmenting')
    clock.now += 60
    monitor.lost(3)
    assert verdict(monitor)[1].startswith('no frames; 3 frames lost in DDS')


def test_trouble_from_outside_is_told_with_what_else_there_is(clock):
    monitor = StreamMonitor()
    monitor.received()
    monitor.count('dropped')
    assert verdict(monitor, trouble='no clock') == (
        DiagnosticStatus.WARN,
        'no clock; 1 of 1 frames dropped: they come faster than they can be segmented')


@pytest.mark.parametrize('limit', [{'latency_warning': 0.2}, {'max_frame_age': 1.0}])
def test_stamps_ahead_of_the_clock_are_told_where_a_limit_counts_from_them(clock, limit):
    monitor = StreamMonitor()
    assert verdict(monitor, no_image_warning_period=0.0, **limit)[0] == DiagnosticStatus.OK
    finish(monitor, clock, 0.1, 20, age=0.05)
    finish(monitor, clock, 0.1, 5, age=-3600.0)  # a bag restarts before its clock does
    assert verdict(monitor, **limit) == (DiagnosticStatus.OK, 'segmenting')
    finish(monitor, clock, 0.1, 11, age=-0.09)  # a clock that ticks ten times a second
    assert verdict(monitor, **limit) == (DiagnosticStatus.OK, 'segmenting')
    finish(monitor, clock, 0.1, 11, age=-1.9)
    assert verdict(monitor) == (DiagnosticStatus.OK, 'segmenting')
    assert verdict(monitor, **limit) == (
        DiagnosticStatus.WARN, "results 1.900 s before their frames' stamps: check the cameras' "
        'clocks; max_frame_age and latency_warning do not work')
    _, message = verdict(monitor, trouble='no images', **limit)
    assert message == 'no images'
    finish(monitor, clock, 0.1, 30, age=-1.9)
    _, message = verdict(monitor, output_rate_warning=20.0, **limit)
    assert re.fullmatch('.* results a second, .*; results 1.900 s before .* do not work', message)
    monitor.received()
    monitor.count('unwatched')  # and nobody subscribes any more
    assert verdict(monitor, **limit)[0] == DiagnosticStatus.OK


def test_a_slow_network_is_no_stuck_one(clock):
    """A slow network drops frames; a stuck one finishes none."""
    monitor = StreamMonitor()

    def second(done):
        clock.now += 1
        for number in range(30):
            monitor.received()
            if number % 3:
                monitor.count('limited')
            else:
                monitor.waiting()
        for _ in range(9):
            monitor.count('dropped')
        if done:
            monitor.processed([clock.now] * 5, 0.0)
        return verdict(monitor)

    for _ in range(20):
        level, message = second(done=True)
        assert level == DiagnosticStatus.WARN and message.startswith('9 of 30 frames dropped')
    levels = [second(done=False) for _ in range(13)]
    assert levels[5][0] == DiagnosticStatus.WARN
    assert levels[-1] == (DiagnosticStatus.ERROR, 'stuck: no frame finished for 12 s')
    assert second(done=True)[0] == DiagnosticStatus.WARN
    # Once deactivated, it holds no frame that could be stuck.
    second(done=False)
    monitor.started()
    clock.now += 3600
    assert verdict(monitor) == (DiagnosticStatus.WARN, 'no frames')


def test_a_pause_is_counted_and_hides_no_missing_camera(clock):
    monitor = StreamMonitor()
    for _ in range(3):
        monitor.received()
        monitor.count('paused')
    status = status_of(monitor, paused=True)
    assert (status.level, status.message) == (DiagnosticStatus.OK, 'paused through ~/enable')
    assert values_of(status)['received'] == values_of(status)['paused'] == '3'
    clock.now += 6
    assert verdict(monitor, paused=True) == (DiagnosticStatus.WARN, 'no frames')


def work(monitor, clock, milliseconds, age=0.02):
    """Process a frame that is done now, after this long in each stage in turn."""
    ends = 1e-3 * np.cumsum([0, *milliseconds])
    monitor.processed(list(clock.now - ends[-1] + ends), age)


def test_the_status_tells_latency_by_stage_rates_and_age(clock):
    monitor = StreamMonitor()
    assert not any(key.startswith(('latency', 'age')) for key in values_of(
        status_of(monitor)))
    for number in range(1, 102):  # at 20 Hz, every other frame taken: 1, 2, ... 101 ms
        for _ in range(2):
            clock.now += 0.05
            monitor.received()
        monitor.count('limited')
        work(monitor, clock, np.array([1, 2, 3, 4]) * number)
    clock.now += 0.025
    status = status_of(monitor, {'device': 'a CPU', 'memory': '7 MiB resident'})
    assert (status.name, status.hardware_id) == ('segnet: front', 'segnet: front')
    assert values_of(status) == {
        'device': 'a CPU', 'memory': '7 MiB resident', 'input_rate': '20.00 Hz',
        'output_rate': '10.00 Hz', 'age_of_last_frame': '0.025 s',
        **dict.fromkeys(('lost', *OUTCOMES), '0'), 'received': '202', 'processed': '101',
        'limited': '101',
        'latency_wait_ms': 'p50 51.00, p95 96.00, max 101.00',
        'latency_convert_ms': 'p50 102.00, p95 192.00, max 202.00',
        'latency_segment_ms': 'p50 153.00, p95 288.00, max 303.00',
        'latency_publish_ms': 'p50 204.00, p95 384.00, max 404.00',
        'latency_total_ms': 'p50 510.00, p95 960.00, max 1010.00',
        'stamp_age_ms': 'p50 20.00, p95 20.00, max 20.00'}
    for _ in range(monitor_module.WINDOW):  # this pushes out the earlier ones
        work(monitor, clock, [5, 1, 1, 1])
    values = values_of(status_of(monitor))
    assert values['latency_wait_ms'] == 'p50 5.00, p95 5.00, max 5.00'
    assert values['latency_total_ms'] == 'p50 8.00, p95 8.00, max 8.00'


@pytest.mark.parametrize(('ages', 'told'), [
    ([3599.0], 'p50 3599000.00, p95 3599000.00, max 3599000.00'),
    ([-2.0], 'p50 -2000.00, p95 -2000.00, max -2000.00'),
    # Stamps from a camera's uptime.
    ([1.7e9 + 0.1, 1.7e9, 0.02], "1700000000 s: stamps are not from the node's clock"),
    ([-86400.0], "-86400 s: stamps are not from the node's clock")])
def test_ages_by_another_clock_are_no_latencies(clock, ages, told):
    monitor = StreamMonitor()
    for age in ages:
        work(monitor, clock, [1, 1, 1, 1], age)
    assert values_of(status_of(monitor))['stamp_age_ms'] == told


@pytest.mark.parametrize(('outcome', 'level', 'message'), [
    ('failed', DiagnosticStatus.ERROR, '2 frames failed: a cable came loose'),
    ('stale', DiagnosticStatus.WARN, '2 frames came older than max_frame_age'),
    ('unwatched', DiagnosticStatus.OK, 'nobody subscribes to a result: not segmenting'),
    ('dropped', DiagnosticStatus.WARN,
     '2 of 3 frames dropped: they come faster than they can be segmented')],
    ids=['failed', 'stale', 'unwatched', 'dropped'])
def test_the_message_tells_what_became_of_the_frames_since_the_last(clock, outcome, level,
                                                                    message):
    monitor = StreamMonitor()
    for number in range(3):
        monitor.received()
        if number:
            monitor.count(outcome, 'a cable came loose' if outcome == 'failed' else '')
    work(monitor, clock, [1, 1, 1, 1])
    assert verdict(monitor) == (level, message)
    assert verdict(monitor) == (DiagnosticStatus.OK, 'segmenting')
    assert values_of(status_of(monitor))[outcome] == '2'  # this count is cumulative


def test_frames_dropped_before_nobody_subscribed_are_no_trouble():
    monitor = StreamMonitor()
    for outcome in ('dropped', 'unwatched'):
        monitor.received()
        monitor.count(outcome)
    assert verdict(monitor) == (DiagnosticStatus.OK,
                                'nobody subscribes to a result: not segmenting')


@pytest.mark.parametrize('others, level', [
    ([], DiagnosticStatus.ERROR), (['unwatched'], DiagnosticStatus.WARN),
    (['paused'], DiagnosticStatus.WARN), (['dropped'], DiagnosticStatus.ERROR)])
@pytest.mark.parametrize('first', [True, False])
def test_a_camera_whose_frames_are_all_stale_gives_nothing_at_all(others, level, first):
    monitor = StreamMonitor()
    for outcome in others * first + ['stale'] * 3 + others * (not first):
        monitor.received()
        monitor.count(outcome)
    found, message = verdict(monitor)
    assert (found, message) == (level, {
        DiagnosticStatus.WARN: '3 frames came older than max_frame_age',
        DiagnosticStatus.ERROR:
            "the last 3 frames came older than max_frame_age: check the cameras' clocks and this "
            "machine's load; for a recording, set use_sim_time"}[level])


def test_a_first_frame_that_waited_for_its_segmenter_is_no_error():
    monitor = StreamMonitor()
    monitor.received()
    monitor.count('stale')
    assert verdict(monitor) == (DiagnosticStatus.WARN, '1 frames came older than max_frame_age')


@pytest.mark.parametrize('outcome, level, message', [
    ('failed', DiagnosticStatus.ERROR, 'the last frame failed: a cable came loose'),
    ('stale', DiagnosticStatus.ERROR,
     "the last 4 frames came older than max_frame_age: check the cameras' clocks and this "
     "machine's load; for a recording, set use_sim_time"),
    ('processed', DiagnosticStatus.OK, 'segmenting')])
def test_trouble_stands_until_a_frame_comes_to_something_else(clock, outcome, level, message):
    """A status is not OK because no frame of a slow camera has failed since the one before."""
    monitor = StreamMonitor()
    for _ in range(4):
        clock.now += 2
        monitor.received()
        monitor.count(outcome, 'a cable came loose' if outcome == 'failed' else '')
        verdict(monitor)
    assert verdict(monitor) == (level, message)
    assert verdict(monitor, paused=True) == (DiagnosticStatus.OK, 'paused through ~/enable')
    work(monitor, clock, [1, 1, 1, 1])
    assert verdict(monitor) == (DiagnosticStatus.OK, 'segmenting')


def test_silence_keeps_the_cause(clock):
    monitor = StreamMonitor()
    monitor.received()
    for error in ('no light', 'a cable came loose'):
        monitor.count('failed', error)
    verdict(monitor)
    clock.now += 6
    assert verdict(monitor) == (DiagnosticStatus.WARN,
                                'no frames; the last one failed: a cable came loose')


def test_a_few_stale_frames_are_a_warning_that_stands_too():
    monitor = StreamMonitor()
    for _ in range(2):
        monitor.received()
        monitor.count('stale')
        verdict(monitor)
    assert verdict(monitor) == (DiagnosticStatus.WARN, '2 frames came older than max_frame_age')


def test_results_too_late_to_publish_are_not_laid_to_the_clocks(clock):
    monitor = StreamMonitor()
    monitor.received()
    monitor.count('stale')  # it waited for the one before it
    for _ in range(2):
        monitor.received()
        monitor.late([clock.now, clock.now, clock.now, clock.now + 0.25, clock.now + 0.25], 0.3)
    status = status_of(monitor)
    assert (status.level, status.message) == (DiagnosticStatus.ERROR, (
        'the last 3 frames became older than max_frame_age here: segment faster (lighter '
        'weights, a smaller network_size) or allow more'))
    values = values_of(status)
    assert values['late'] == '2' and values['output_rate'] == '0.00 Hz'
    assert values['latency_segment_ms'] == 'p50 250.00, p95 250.00, max 250.00'
    assert values['stamp_age_ms'] == 'p50 300.00, p95 300.00, max 300.00'


def test_the_cause_told_is_that_of_most_of_the_frames_too_old(clock):
    monitor = StreamMonitor()
    monitor.late([clock.now] * 5, 0.3)  # its segmenter was being built
    for total in (11, 21):
        for _ in range(10):
            monitor.received()
            monitor.count('stale')
        assert verdict(monitor)[1] == (
            f"the last {total} frames came older than max_frame_age: check the cameras' clocks "
            "and this machine's load; for a recording, set use_sim_time")


def test_what_was_before_it_started_anew_is_no_news(clock):
    monitor = StreamMonitor()
    finish(monitor, clock, 0.1, 2)
    monitor.count('failed', 'a cable came loose')
    monitor.count('dropped')
    for _ in range(4):
        monitor.resized()
    clock.now += 3
    monitor.started()
    status = status_of(monitor)
    assert (status.level, status.message) == (DiagnosticStatus.OK, 'no frames yet')
    assert not [key for key in values_of(status) if 'latency' in key or 'age' in key]
    assert monitor.counts['failed'] == monitor.counts['dropped'] == 1
    finish(monitor, clock, 0.1, 2)
    values = values_of(status_of(monitor))
    assert values['input_rate'] == values['output_rate'] == '10.00 Hz'


def finish(monitor, clock, period, times, age=0.0):
    for _ in range(times):
        clock.now += period
        monitor.received()
        monitor.processed([clock.now] * 5, age)


def test_too_few_results_are_told_while_somebody_wants_them(clock):
    monitor = StreamMonitor()
    monitor.started()
    limit = {'output_rate_warning': 5.0}
    finish(monitor, clock, 0.5, 9)
    assert verdict(monitor, **limit) == (DiagnosticStatus.OK, 'segmenting')  # too early to tell
    finish(monitor, clock, 0.5, 3)
    assert verdict(monitor, **limit) == (
        DiagnosticStatus.WARN, '2.00 results a second, fewer than output_rate_warning: 5')
    assert verdict(monitor) == (DiagnosticStatus.OK, 'segmenting')
    monitor.count('dropped')
    monitor.received()
    assert verdict(monitor, **limit)[1].endswith(
        'output_rate_warning: 5; 1 of 1 frames dropped: they come faster than they can be '
        'segmented')
    finish(monitor, clock, 0.1, 60)
    assert verdict(monitor, **limit) == (DiagnosticStatus.OK, 'segmenting')
    clock.now += 4  # frames keep coming, but no results
    monitor.received()
    assert verdict(monitor, **limit)[0] == DiagnosticStatus.WARN


@pytest.mark.parametrize('rate', [0.1, 0.5, 3.0, 10.0, 100.0, 400.0])
@pytest.mark.parametrize('share, level', [
    (1.0, DiagnosticStatus.OK), (1.4, DiagnosticStatus.WARN)])
def test_a_steady_rate_is_judged_the_same_at_any_time(clock, rate, share, level):
    monitor = StreamMonitor()
    rng = np.random.default_rng(0)
    finish(monitor, clock, 1 / rate, max(200, int(6 * rate)))
    for jitter in rng.uniform(-0.05, 0.05, 50):
        finish(monitor, clock, (1 + jitter) / rate, 1)
        for later in (0.0, 0.9 / rate, -0.9 / rate):  # just after one, just before the next
            clock.now += later
            assert verdict(monitor, no_image_warning_period=0.0,
                           output_rate_warning=share * rate)[0] == level


@pytest.mark.parametrize('pause', ['unwatched', 'paused', 'by status', 'deactivated'])
def test_results_that_nobody_wanted_are_not_missing(clock, pause):
    monitor = StreamMonitor()
    finish(monitor, clock, 0.1, 60, age=2.0)
    clock.now += 4
    limits = {'output_rate_warning': 5.0, 'latency_warning': 1.0}
    assert verdict(monitor, **limits)[0] == DiagnosticStatus.WARN
    monitor.received()
    if pause == 'by status':
        verdict(monitor, paused=True)
    elif pause == 'deactivated':
        monitor.started()
    else:
        monitor.count(pause)
    assert verdict(monitor, **limits)[0] == DiagnosticStatus.OK
    clock.now += 20
    finish(monitor, clock, 0.1, 2)
    assert verdict(monitor, **limits) == (DiagnosticStatus.OK, 'segmenting')
    clock.now += 6  # and no results after these
    monitor.received()
    assert verdict(monitor, **limits)[0] == DiagnosticStatus.WARN


def test_late_results_are_told_until_others_come(clock):
    monitor = StreamMonitor()
    finish(monitor, clock, 0.1, 3, age=0.2)
    finish(monitor, clock, 0.1, 1, age=0.6)
    finish(monitor, clock, 0.1, 1, age=0.2)
    told = (DiagnosticStatus.WARN, 'results up to 0.600 s after their stamps, more than '
                                   'latency_warning: 0.5')
    assert verdict(monitor, latency_warning=0.5) == told
    assert verdict(monitor, latency_warning=0.5) == told  # until a newer result comes
    assert verdict(monitor) == (DiagnosticStatus.OK, 'segmenting')  # 0: no limit
    finish(monitor, clock, 0.1, 1, age=0.2)
    assert verdict(monitor, latency_warning=0.5) == (DiagnosticStatus.OK, 'segmenting')
    finish(monitor, clock, 0.1, 1, age=0.6)
    finish(monitor, clock, 0.1, 1, age=0.2)
    assert verdict(monitor, latency_warning=0.5) == told
    finish(monitor, clock, 0.1, 1, age=1.8e9)
    assert verdict(monitor, latency_warning=0.5)[1].endswith("0.5: check the cameras' clocks")


def test_two_cameras_on_one_topic_are_told(clock):
    monitor = StreamMonitor()
    monitor.received()
    for later, level in ((0, DiagnosticStatus.OK), (1, DiagnosticStatus.OK),
                         (2, DiagnosticStatus.OK), (3, DiagnosticStatus.WARN),
                         (9, DiagnosticStatus.OK)):
        clock.now += later
        monitor.received()
        monitor.resized()
        found, message = verdict(monitor)
        assert found == level
        assert ('the size of frames changed 4 times in 10 s' in message) == (later == 3)


def test_seconds_that_frames_wait_without_an_end(clock):
    monitor = StreamMonitor()
    assert monitor.stuck_seconds() == 0
    monitor.waiting()
    clock.now += 7
    assert monitor.stuck_seconds() == pytest.approx(7)
    monitor.count('failed', 'a cable came loose')
    assert monitor.stuck_seconds() == 0


@pytest.mark.parametrize(('error', 'level', 'message'), [
    ('', DiagnosticStatus.WARN, 'unconfigured: not segmenting'),
    ('configure failed: no weights', DiagnosticStatus.ERROR,
     'configure failed: no weights')])
def test_a_node_that_is_not_active_says_so(error, level, message):
    status = monitor_module.state_status('segnet: front', 'unconfigured', error)
    assert (status.level, status.name, status.message) == (level, 'segnet: front', message)
    assert values_of(status) == {'state': 'unconfigured'}
