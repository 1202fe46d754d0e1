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

"""
Publish a recording over ROS as it was recorded: same messages, same order, same rate.

A Programme says what is published when; a Player publishes it on time. Knows publishers and
clocks; sources.py and bags/ know what is in a video or a bag.
"""

from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
import importlib
from pathlib import Path
import time

from rclpy.duration import Duration
from rclpy.exceptions import InvalidTopicNameException
from rclpy.logging import get_logger
from rclpy.node import Node
from rclpy.publisher import Publisher
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from rclpy.type_support import NoTypeSupportImportedException
from rosbags.interfaces import QosDurability, QosHistory
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import Image

from segnet_ros.bags.reading import (
    bag_period_ns, bag_topics, BagTopic, COMPRESSED, IMAGE, read_messages)
from segnet_ros.ros.conversions import preallocated_image
from segnet_ros.sources import Frames, OnError

DEPTH = 10
ALL = 5000  # messages that Fast DDS keeps with KEEP_ALL, unless configured otherwise
MAX_DEPTH = 2**31 - 1  # that rclpy takes
CLOCK_PERIOD = 1 / 40  # seconds; `ros2 bag play` ticks as fast
POLL_PERIOD = 0.02  # seconds
LONG_WAIT = 10.0  # seconds; then people are told that nothing hangs
ACK_TIMEOUT = 5.0  # seconds; Fast DDS asks for acknowledgements every 3 s

Event = tuple[int, Publisher, Image | bytes]  # recorded time in nanoseconds, where, what


@dataclass(frozen=True)
class Programme:
    """
    What is to be published.

    :param events: called for each round; yields events in the order of their times. A message
        may be reused for the next event, so publish it before asking for that.
    :param publishers: all of them.
    :param image_publishers: those of them that publish the images.
    :param period_ns: from the last event of a round to the first of the next.
    """

    events: Callable[[], Iterator[Event]]
    publishers: list[Publisher]
    image_publishers: list[Publisher]
    period_ns: int


@dataclass
class Summary:
    """What was published: messages, seconds from first to last, worst delay in seconds."""

    messages: int = 0
    seconds: float = 0.0
    worst_delay: float = 0.0
    all_acknowledged: bool = True


def frames_programme(node: Node, frames: Frames, topic: str = 'image') -> Programme:
    """Return a programme that publishes frames as rgb8 images, reliably, in one reused message."""
    publisher = node.create_publisher(Image, topic, DEPTH)

    def events() -> Iterator[Event]:
        msg, pixels = Image(), None
        for frame in frames:
            if pixels is None or pixels.shape != frame.image.shape:
                msg, pixels = preallocated_image('rgb8', *frame.image.shape[:2])
            pixels[:] = frame.image
            msg.header.frame_id = frame.frame_id
            msg.header.stamp.sec, msg.header.stamp.nanosec = divmod(frame.stamp_ns, 10**9)
            yield frame.stamp_ns, publisher, msg

    return Programme(events, [publisher], [publisher], round(1e9 / frames.rate))


def bag_programme(node: Node, path: str | Path, on_error: OnError,
                  renamed: tuple[str, str] | None = None, own_clock: bool = False,
                  topics: Collection[str] | None = None) -> Programme:
    """
    Return a programme that publishes the messages of a bag as the recorded bytes.

    Each topic has the quality of service that its publishers offered when recorded; if unknown, it
    is reliable. Topics of several types or of types that are not installed, or with names that
    ROS 2 does not allow, are left out, with a warning.

    :param on_error: called if damage ends the bag, or messages are missing at its end.
    :param renamed: an image topic of the bag and its new name; image_publishers is then this one
        alone. A topic of the bag that already has the name is left out, with a warning.
    :param own_clock: leave out the bag's /clock, since the player publishes its own.
    :param topics: the only ones to publish, besides the renamed one; None for all.
    :raises ValueError: if the bag lacks one of them, or has none that can be published.
    """
    old, new = renamed or (None, None)
    publishers: dict[str, Publisher] = {}
    images = []
    for recorded in _chosen_topics(path, topics, old):
        is_old = recorded.name == old
        if own_clock and recorded.name == '/clock':
            continue
        if new and not is_old and recorded.name == node.resolve_topic_name(new):
            node.get_logger().warning(f'leaving out {recorded.name}: {old} takes its place')
            continue
        publisher = _create_publisher(node, recorded, new if is_old else recorded.name)
        if publisher is None:
            continue
        publishers[recorded.name] = publisher
        if is_old or (not renamed and recorded.count
                      and recorded.type_name in (IMAGE, COMPRESSED)):
            images.append(publisher)
    if not publishers:
        raise ValueError(f'{path} has no topic that can be published')

    def events() -> Iterator[Event]:
        try:
            for message in read_messages(path, publishers):
                yield message.record_ns, publishers[message.topic], message.cdr
        except ValueError as error:  # what could be read stays published
            on_error(error)

    return Programme(events, list(publishers.values()), images, bag_period_ns(path))


def _create_publisher(node: Node, recorded: BagTopic, name: str) -> Publisher | None:
    """Return a publisher; None, with a warning, for a recorded type or name that ROS refuses."""
    try:
        return node.create_publisher(
            _message_class(recorded.type_name), name, _offered_qos(recorded))
    except InvalidTopicNameException as error:
        if name != recorded.name:
            raise
        trouble = str(error).partition(':\n')[0]  # without the name and a mark below it
    except (ImportError, AttributeError, ValueError, NoTypeSupportImportedException):
        trouble = (f'its type {recorded.type_name} is not installed' if recorded.type_name else
                   'it has messages of several types')
    node.get_logger().warning(f'leaving out {recorded.name}: {trouble}')
    return None


def _chosen_topics(path: str | Path, names: Collection[str] | None,
                   besides: str | None) -> list[BagTopic]:
    found = bag_topics(path)
    if names is None:
        return found
    if missing := set(names).difference(topic.name for topic in found):
        raise ValueError(f"{path} has no topic {', '.join(sorted(missing))}; it has "
                         + ', '.join(topic.name for topic in found))
    return [topic for topic in found if topic.name in {*names, besides}]


def wait_for_subscribers(publishers: list[Publisher], count: int, timeout: float = 60.0):
    """
    Wait until each of the publishers has `count` subscribers.

    :raises TimeoutError: naming the topic that has too few after `timeout` seconds.
    """
    end = time.monotonic() + timeout
    for publisher in publishers:
        while (found := publisher.get_subscription_count()) < count:
            if time.monotonic() > end:
                raise TimeoutError(
                    f'{publisher.topic_name} has {found} subscribers after {timeout:g} s, '
                    f'expected {count}; are they running, with the same ROS_DOMAIN_ID and '
                    'compatible QoS?')
            time.sleep(POLL_PERIOD)


class Player:
    """
    Publishes a programme `rate` times as fast as recorded.

    Every message has its due time on one monotonic clock, so that delays do not add up. Late
    messages are published at once; none are skipped. Only what delays all by more than LONG_WAIT,
    a source that opens late, or a round that ends late, delays what follows.
    """

    def __init__(self, node: Node, programme: Programme, rate: float = 1.0, clock: bool = False):
        if not rate >= 0.001:
            raise ValueError(f'rate {rate}: it must be at least 0.001')
        self.summary = Summary()
        self._first = 0.0
        self._programme = programme
        self._rate = rate
        self._clock = node.create_publisher(Clock, '/clock', DEPTH) if clock else None

    def play(self, loop: bool = False):
        """
        Publish everything, then wait until it has arrived; with `loop`, repeat until interrupted.

        :raises ValueError: if there is nothing to publish.
        """
        start = self._play_round(time.monotonic())
        while loop:
            start = self._play_round(start)
        self._wait_for_acknowledgements()

    def _play_round(self, start: float) -> float:
        """Publish all once, not before `start`; return when the next round is to begin."""
        first_ns = last_ns = None
        for time_ns, publisher, message in self._programme.events():
            if first_ns is None:
                # Only now is the source open; neither that nor a slow round is made up for.
                first_ns, start = time_ns, max(start, time.monotonic())
            last_ns = time_ns
            due = start + (time_ns - first_ns) / 1e9 / self._rate
            if (late := time.monotonic() - due) > LONG_WAIT:
                get_logger('segnet_replay').warning(
                    f'{late:.0f} s late: the clock was set back while recording, or this process '
                    'was stopped or is too slow; going on from here')
                start, due = start + late, due + late
            self._wait_until(due, time_ns)
            publisher.publish(message)
            self._count(due)
        if first_ns is None or last_ns is None:
            raise ValueError('the source holds nothing that can be published')
        return start + (last_ns - first_ns + self._programme.period_ns) / 1e9 / self._rate

    def _wait_until(self, due: float, time_ns: int):
        """Sleep until due, which is `time_ns` in recorded time; publish /clock meanwhile."""
        if (left := due - time.monotonic()) > LONG_WAIT:
            get_logger('segnet_replay').info(
                f'nothing was recorded for the next {left * self._rate:.0f} s; waiting')
        while (left := due - time.monotonic()) > 0:
            self._tick(time_ns - round(left * self._rate * 1e9))
            # A signal that another thread takes would not end a longer sleep.
            time.sleep(min(left, CLOCK_PERIOD if self._clock else 1.0))
        self._tick(time_ns)

    def _tick(self, time_ns: int):
        if self._clock is not None:
            msg = Clock()
            msg.clock.sec, msg.clock.nanosec = divmod(max(time_ns, 1), 10**9)  # 0: no clock
            self._clock.publish(msg)

    def _count(self, due: float):
        now = time.monotonic()
        self._first = self._first or now
        self.summary.messages += 1
        self.summary.seconds = now - self._first
        self.summary.worst_delay = max(self.summary.worst_delay, now - due)

    def _wait_for_acknowledgements(self):
        end = time.monotonic() + ACK_TIMEOUT
        for publisher in self._programme.publishers:
            left = Duration(seconds=max(0.0, end - time.monotonic()))
            self.summary.all_acknowledged &= publisher.wait_for_all_acked(left)


def _message_class(type_name: str) -> type:
    """Return the class of a type such as 'sensor_msgs/msg/Image'."""
    package, kind, name = type_name.split('/')
    return getattr(importlib.import_module(f'{package}.{kind}'), name)


def _offered_qos(topic: BagTopic) -> QoSProfile:
    """
    Return the strongest quality of service that any of a topic's publishers offered.

    A recorded depth below DEPTH may be wrong, since DDS does not announce a publisher's depth. One
    publisher here may stand for several, as on /tf_static, so its depth is the sum of theirs.
    With KEEP_ALL, the recorded depth is 0 or, from Cyclone DDS, may be 2**32 - 1.
    """
    depth = sum(ALL if qos.history == QosHistory.KEEP_ALL else max(1, qos.depth)
                for qos in topic.qos)
    profile = QoSProfile(depth=min(MAX_DEPTH, max(DEPTH, depth)))
    if topic.is_best_effort:
        profile.reliability = ReliabilityPolicy.BEST_EFFORT
    if any(q.durability == QosDurability.TRANSIENT_LOCAL for q in topic.qos):
        profile.durability = DurabilityPolicy.TRANSIENT_LOCAL
    return profile
