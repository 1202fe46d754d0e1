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

"""The subscription to one camera's images: the QoS it requests, and warnings if none come."""

from collections.abc import Callable
import time

from rclpy.event_handler import SubscriptionEventCallbacks, UnsupportedEventTypeError
from rclpy.qos import QoSPolicyKind, QoSProfile, ReliabilityPolicy
from rclpy.qos_overriding_options import QoSOverridingOptions
from sensor_msgs.msg import CompressedImage, Image

from segnet_ros.ros.monitor import StreamMonitor
from segnet_ros.ros.parameters import qos_errors_named

# Reliability is not among the overrides: input_reliability and what publishers offer decide it.
_OVERRIDES = QoSOverridingOptions([QoSPolicyKind.HISTORY, QoSPolicyKind.DEPTH])


class ImageInput:
    """
    Subscribes to raw or compressed images, by the parameters input_*; knows nothing of pixels.

    :param prefix: of the topic name, '' or 'front/'.
    :param monitor: knows how long no image has come.
    :param on_image: called with each message.
    """

    def __init__(self, node, prefix: str, monitor: StreamMonitor,
                 on_image: Callable[[Image | CompressedImage], object]):
        self._node, self._prefix, self._monitor, self._on_image = node, prefix, monitor, on_image
        compressed = node.get_parameter('input_transport').value == 'compressed'
        self._type = CompressedImage if compressed else Image
        self._type_name = f'sensor_msgs/msg/{self._type.__name__}'
        self._topic = prefix + ('image/compressed' if compressed else 'image')
        self._subscription = None
        self.reliability: ReliabilityPolicy | None = None
        self._silent_since: float | None = None  # set once a warning was given
        self._received_before = 0  # images, when it started

    def start(self):
        """Subscribe."""
        self.reliability = self._silent_since = None
        self._received_before = self._monitor.counts['received']
        self._subscribe(self._choose_reliability())

    def stop(self):
        """Unsubscribe."""
        if self._subscription is not None:
            self._node.destroy_subscription(self._subscription)
            self._subscription = None

    def watch(self, limit: float) -> bool:
        """
        Follow publishers that come and go; warn once if no image comes.

        :param limit: seconds without an image that are too long; 0 for no limit.
        :return: whether images come within the limit.
        """
        reliability = self._choose_reliability()
        if reliability != self.reliability:
            self._subscribe(reliability)
        silent = self._monitor.silent_seconds()
        if not limit or silent < limit:
            since, self._silent_since = self._silent_since, None
            # The limit may have been raised meanwhile.
            if since is not None and (seconds := time.monotonic() - silent - since) > 0.1:
                self._node.get_logger().info(
                    f'images again on {self._full_topic()}, after {seconds:.1f} s')
            return True
        if self._silent_since is None:
            self._silent_since = time.monotonic() - silent
            publishers = self._publishers()
            self._node.get_logger().warning(
                f'no image on {self._full_topic()} for {silent:.1f} s; it has {len(publishers)} '
                f'publishers{self._likely_cause(publishers)}')
        return False

    def _likely_cause(self, publishers) -> str:
        came = self._monitor.counts['received'] > self._received_before
        if not publishers:
            if came:
                return ": is the camera's driver still running?"
            name, resolve = self._topic, self._node.resolve_topic_name
            if resolve(name) != resolve(name, only_expand=True):  # remapped already
                return ": is the camera's driver running, and is this its topic?"
            example = name.removeprefix(self._prefix).replace('image', 'image_raw')
            return (f"; remap `{name}` to your camera's topic, e.g. -r {name}:="
                    f"/{self._prefix or 'camera/'}{example}")
        found = f': {_offers(publishers)}'
        # DDS reports no mismatch of types.
        others = sorted({p.topic_type for p in publishers} - {self._type_name})
        if others:
            found += (f". They publish {' and '.join(others)}, this node takes "
                      f'{self._type_name}: see the parameter input_transport')
        elif (self.reliability == ReliabilityPolicy.RELIABLE and any(
                p.qos_profile.reliability == ReliabilityPolicy.BEST_EFFORT for p in publishers)):
            found += ('. This node asks for reliable: set the parameter input_reliability to '
                      "'auto' or 'best_effort'")
        elif not came:
            found += ('. Publishers in another container, or of another user, are seen but not '
                      "heard: see 'Large images over DDS' in the README")
        else:
            found += '. A driver that crashed stays listed for a while: is it still running?'
        return found

    def _subscribe(self, reliability: ReliabilityPolicy):
        self.stop()
        self.reliability = reliability
        with qos_errors_named(self._topic):
            try:
                self._subscription = self._create_subscription(message_lost=self._on_lost)
            except UnsupportedEventTypeError:  # by this middleware
                self._subscription = self._create_subscription()

    def _create_subscription(self, **callbacks):
        return self._node.create_subscription(
            self._type, self._topic, self._on_image,
            QoSProfile(depth=1, reliability=self.reliability),
            event_callbacks=SubscriptionEventCallbacks(
                incompatible_qos=self._on_incompatible, **callbacks),
            qos_overriding_options=_OVERRIDES)

    def _on_lost(self, event):
        self._monitor.lost(event.total_count_change)

    def _full_topic(self) -> str:
        return self._node.resolve_topic_name(self._topic)  # remapped

    def _publishers(self):
        # rclpy remaps the name here: one that is remapped already might become another.
        return self._node.get_publishers_info_by_topic(self._topic)

    def _choose_reliability(self) -> ReliabilityPolicy:
        """Return what to request; auto is reliable if all publishers offer it or none came yet."""
        asked = self._node.get_parameter('input_reliability').value
        if asked != 'auto':
            return ReliabilityPolicy[asked.upper()]
        publishers = [p for p in self._publishers() if p.topic_type == self._type_name]
        if not publishers and self.reliability is not None:
            return self.reliability  # a driver that restarts will offer what it did
        if all(p.qos_profile.reliability == ReliabilityPolicy.RELIABLE for p in publishers):
            return ReliabilityPolicy.RELIABLE
        return ReliabilityPolicy.BEST_EFFORT

    def _on_incompatible(self, event):
        if self._node.get_parameter('input_reliability').value != 'auto':
            self._node.get_logger().warning(
                f'{self._full_topic()}: the QoS of a publisher is incompatible with what this '
                f'node requests ({event.last_policy_kind.name.lower()}): '
                f"{_offers(self._publishers())}; set the parameter input_reliability to 'auto' or "
                "'best_effort'")


def _offers(publishers) -> str:
    """Return what publishers offer, in words."""
    return ', '.join(
        f"{p.node_namespace.rstrip('/')}/{p.node_name} offers "
        f'{p.qos_profile.reliability.name.lower()} {p.qos_profile.durability.name.lower()}'
        for p in publishers) or 'no publisher now'
