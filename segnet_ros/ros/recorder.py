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

"""Recorder: matches a camera's frames and the node's results by their stamps."""

from collections.abc import Callable
from dataclasses import dataclass, field
import time

from diagnostic_msgs.msg import DiagnosticArray
import numpy as np
from rclpy.node import Node
from rclpy.qos import QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import CompressedImage, Image

from segnet_ros.ros.conversions import image_from_message, stamp_ns

DEPTH = 30  # a recorder may lag for a moment but must not lose frames
# Images wait for their results as long as any come; if none do, at most this many bytes wait.
WAITING_BYTES = 2**30
PATIENCE = 15.0  # seconds without a result


@dataclass
class RecordedFrame:
    """
    All messages that came with one stamp.

    :param arrivals: by topic, the monotonic time in seconds at which its message came.
    """

    stamp_ns: int
    arrivals: dict[str, float] = field(default_factory=dict)
    messages: dict[str, object] = field(default_factory=dict)

    def array(self, topic: str) -> np.ndarray:
        """Return a topic's image: (H, W, 3) uint8 RGB; of 'mask' (H, W) uint8 class ids."""
        msg = self.messages[topic]
        if topic == 'mask':
            return np.frombuffer(msg.data, np.uint8).reshape(msg.height, msg.step)[:, :msg.width]
        return image_from_message(msg)

    def image_bytes(self) -> int:
        """Return the size of the image as it came; 0 if it has not come."""
        return len(self.messages['image'].data) if 'image' in self.messages else 0

    def pixel_counts(self) -> list[int]:
        """Return each class's pixel count from the statistics."""
        return [int(value.value) for status in self.messages['statistics'].status
                for value in status.values if value.key == 'pixel_count']


class Recorder(Node):
    """
    Calls on_frame(RecordedFrame) for each frame once all its results are there, in order.

    Two images with one stamp, while the first awaits its results, raise ValueError: whose results
    come then cannot be told.

    :param image_topic: the camera's; CompressedImage where `compressed`.
    :param namespace: of the node's results.
    :param best_effort: whether the camera offers only that; a reliable one loses no frames.
    """

    RESULTS = {'mask': Image, 'color_mask': Image, 'statistics': DiagnosticArray}

    def __init__(self, image_topic: str, namespace: str,
                 on_frame: Callable[[RecordedFrame], None], compressed: bool = False,
                 best_effort: bool = False, **kwargs):
        super().__init__('segnet_recorder', **kwargs)
        self._on_frame, self._namespace = on_frame, namespace
        self._waiting: dict[int, RecordedFrame] = {}
        self._waiting_bytes = 0
        self._last_result = 0.0  # when it came; if none has, when the first image did
        self._unmatched = 0
        self.counts: dict[str, int] = {}
        self.slowest = 0.0  # most seconds from an image to its mask
        self.last_arrival: float | None = None
        image_type = CompressedImage if compressed else Image
        # Requesting reliable messages from a best-effort publisher would give none at all.
        reliability = ReliabilityPolicy.BEST_EFFORT if best_effort else ReliabilityPolicy.RELIABLE
        self._listen('image', image_type, image_topic, reliability)
        for topic, message_type in self.RESULTS.items():
            self._listen(topic, message_type, f'{namespace}/{topic}')

    def _listen(self, topic: str, message_type, name: str,
                reliability: ReliabilityPolicy = ReliabilityPolicy.RELIABLE):
        self.counts[topic] = 0
        self.create_subscription(message_type, name, lambda msg: self._take(topic, msg),
                                 QoSProfile(depth=DEPTH, reliability=reliability))

    def awaits_results(self) -> bool:
        """Return whether the newest image still lacks results."""
        return any('image' in frame.messages for frame in self._waiting.values())

    def finds_results(self) -> bool:
        """Return whether a node publishes all the results."""
        return all(self.count_publishers(f'{self._namespace}/{topic}') for topic in self.RESULTS)

    def _take(self, topic: str, msg):
        self.last_arrival = time.monotonic()
        self.counts[topic] += 1
        stamp = stamp_ns(msg.header)
        frame = self._waiting.setdefault(stamp, RecordedFrame(stamp))
        if topic == 'image':
            if topic in frame.messages:
                raise ValueError(
                    f'two images have the stamp {stamp / 1e9:.3f}: their results cannot be told '
                    'apart. Does the driver stamp its images? `segnet predict` and `segnet '
                    'segment-bag` need no stamps')
            self._waiting_bytes += len(msg.data)
        frame.arrivals[topic] = self.last_arrival
        frame.messages[topic] = msg
        if len(frame.messages) == len(self.counts):
            self._finish(frame)
        if topic != 'image' or not self._last_result:
            self._last_result = self.last_arrival
        if self.last_arrival - self._last_result > PATIENCE:
            while self._waiting_bytes > WAITING_BYTES:
                self._give_up(next(iter(self._waiting)))

    def _finish(self, frame: RecordedFrame):
        # The node works in order: frames that began to wait before this one were dropped.
        for stamp in list(self._waiting):
            self._give_up(stamp)
            if stamp == frame.stamp_ns:
                break
        self.slowest = max(self.slowest, frame.arrivals['mask'] - frame.arrivals['image'])
        self._on_frame(frame)

    def _give_up(self, stamp: int):
        frame = self._waiting.pop(stamp)
        self._waiting_bytes -= frame.image_bytes()
        self._unmatched += 'image' not in frame.messages

    def unmatched_results(self) -> int:
        """Return for how many stamps results came but no image."""
        return self._unmatched + sum(
            'image' not in frame.messages for frame in self._waiting.values())
