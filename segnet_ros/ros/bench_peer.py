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
The peer of a node that is measured: publishes frames to it and hears all its results.

Both in one process, so that one clock tells how long a frame took; a frame's stamp is the time at
which it was sent. Knows topics and clocks, not what is compared with what.
"""

from collections.abc import Callable
import struct
import time

from diagnostic_msgs.msg import DiagnosticArray
import numpy as np
import rclpy
from rclpy.executors import SingleThreadedExecutor
from rclpy.qos import QoSProfile
from rclpy.serialization import serialize_message
from sensor_msgs.msg import CompressedImage, Image
from std_msgs.msg import Float32MultiArray, Header

from segnet_ros.ros.conversions import compressed_message, preallocated_image

# Those whose arrival makes a frame complete; class_fractions are heard too, but have no stamp.
STAMPED = {'mask': Image, 'confidence': Image, 'color_mask': Image, 'overlay': Image,
           'statistics': DiagnosticArray}
DEPTH = 10
START_TIMEOUT = 120.0  # seconds for a node to load and be found
FRAME_TIMEOUT = 60.0  # seconds for a frame; Full HD on a small CPU takes its time
DRAIN_TIMEOUT = 5.0
# Between looks at the clock when nothing arrives. Each look costs a quarter of a millisecond of a
# CPU that the node needs.
POLL_PERIOD = 0.02
# Where serialised messages that begin with a header have its stamp: after the four bytes on the
# format, in this machine's byte order (OMG, DDS-XTypes 7.6.3).
_STAMP, _STAMP_OFFSET = '=iI', 4
FIRST_FRAMES = 3  # before anything is measured, one by one: the node allocates for a new size


class Stream:
    """One camera's frames on their way: sent, their results heard, complete or lost."""

    def __init__(self, peer: 'Peer', prefix: str, compressed: bool):
        self._compressed = compressed
        self._publisher = peer.node.create_publisher(
            CompressedImage if compressed else Image,
            prefix + ('image/compressed' if compressed else 'image'), DEPTH)
        self._subscriptions = [
            peer.node.create_subscription(
                message_type, prefix + topic, lambda data, t=topic: self._hear(t, data),
                QoSProfile(depth=DEPTH), raw=True)
            for topic, message_type in {**STAMPED, 'class_fractions': Float32MultiArray}.items()]
        self.forget()

    def forget(self):
        """Begin a new measurement; frames still on their way count no more."""
        self.on_the_way: dict[int, set[str]] = {}
        self.mask_latencies: list[float] = []
        self.completions: list[float] = []
        self.lost = 0
        self.last_sent = 0.0

    def show(self, image: np.ndarray):
        """Take the picture that is sent from now on, (H, W, 3) uint8 RGB."""
        header = Header(frame_id='camera')
        if self._compressed:
            message = compressed_message(image, 'jpeg', header)
        else:
            message, view = preallocated_image('rgb8', *image.shape[:2])
            message.header = header
            view[:] = image
        self._message = bytearray(serialize_message(message))

    def send(self):
        """Send the picture, stamped with the time."""
        now = time.monotonic_ns()
        self.last_sent = now * 1e-9
        self.on_the_way[now] = set(STAMPED)
        struct.pack_into(_STAMP, self._message, _STAMP_OFFSET, *divmod(now, 10**9))
        self._publisher.publish(bytes(self._message))

    def _hear(self, topic: str, data: bytes):
        """Note a result; serialised, since what a listener does with it is not the node's time."""
        now = time.monotonic_ns()
        if topic not in STAMPED:
            return
        sec, nanosec = struct.unpack_from(_STAMP, data, _STAMP_OFFSET)
        sent = sec * 10**9 + nanosec
        missing = self.on_the_way.get(sent)
        if missing is None:
            return
        missing.discard(topic)
        if topic == 'mask':
            self.mask_latencies.append((now - sent) * 1e-9)
        if not missing:
            # The node works in order: what was sent before and is not back was dropped.
            for stamp in [s for s in self.on_the_way if s <= sent]:
                del self.on_the_way[stamp]
                self.lost += stamp < sent
            self.completions.append(now * 1e-9)

    def connected(self) -> bool:
        """Tell whether the node listens to the frames and offers all results."""
        return (self._publisher.get_subscription_count() > 0
                and all(s.get_publisher_count() for s in self._subscriptions))


class Peer:
    """
    Sends frames to a node and measures what comes back.

    :param namespace: of the node.
    :param cameras: names of its cameras, '' for the only one.
    :param parallel_frames: the node's parameter.
    :param alive: raises where the node's process has ended.
    """

    def __init__(self, context: rclpy.Context, namespace: str, cameras: tuple[str, ...] = ('',),
                 compressed: bool = False, parallel_frames: int = 1,
                 alive: Callable[[], object] = lambda: None):
        self._alive, self._parallel_frames = alive, parallel_frames
        self.node = rclpy.create_node('bench_peer', context=context, namespace=namespace)
        self._executor = SingleThreadedExecutor(context=context)
        self._executor.add_node(self.node)
        self.streams = [Stream(self, name + '/' if name else '', compressed) for name in cameras]
        self._spin_until(lambda: all(s.connected() for s in self.streams), START_TIMEOUT,
                         'the node does not offer its results')

    def destroy(self):
        """Take the topics down."""
        self._executor.shutdown()
        self.node.destroy_node()

    def show(self, image: np.ndarray):
        """Send this picture from now on, from every camera; wait until it is known."""
        for stream in self.streams:
            stream.show(image)
            for _ in range(FIRST_FRAMES):
                self._send_one(stream)
            self._gap = stream.mask_latencies[0] / 4 / self._parallel_frames

    def send_first(self, image: np.ndarray):
        """Send the picture once, from the first camera, and wait for all its results."""
        stream = self.streams[0]
        stream.show(image)
        self._send_one(stream)

    def _send_one(self, stream: Stream):
        stream.forget()
        stream.send()
        self._spin_until(lambda: stream.completions)

    def saturate(self, frames: int, cameras: int | None = None) -> float:
        """
        Send as fast as the node takes them; return complete frames a second, all cameras together.

        So many frames are on the way that one waits while others are segmented, and no more: with
        several cameras one of each, since a newer frame would replace the older.
        """
        active = self.streams[:cameras]
        for stream in active:
            stream.forget()
        # Those that find the node idle are not counted.
        first = len(active)
        self._spin_until(lambda: self._refill(active) >= first + frames,
                         FRAME_TIMEOUT * (first + frames))
        times = sorted(t for s in active for t in s.completions)
        self._drain()
        return frames / (times[first + frames - 1] - times[first - 1])

    def _refill(self, active: list[Stream]) -> int:
        """Send what the node can take; return how many frames are complete."""
        depth = 1 + self._parallel_frames if len(active) == 1 else 1
        for stream in active:
            # The node needs a moment to take the frame before, or would drop it for this one.
            if (len(stream.on_the_way) < depth
                    and time.monotonic() - stream.last_sent >= self._gap):
                stream.send()
        return sum(len(stream.completions) for stream in active)

    def pace(self, frames: int, rate: float) -> Stream:
        """Send so many frames at a rate from the first camera; return what became of them."""
        stream = self.streams[0]
        stream.forget()
        start = time.monotonic()
        for index in range(frames):
            due = start + index / rate
            while (left := due - time.monotonic()) > 0:
                self._spin(left)
            stream.send()
        self._drain()
        stream.lost += len(stream.on_the_way)
        return stream

    def hear_next(self, heard: list, count: int = 1):
        """Wait until so many more are in a list that a subscription of the node fills."""
        wanted = len(heard) + count
        self._spin_until(lambda: len(heard) >= wanted)

    def _drain(self):
        """Wait for what is on the way; what was lost never comes."""
        end = time.monotonic() + DRAIN_TIMEOUT
        while any(s.on_the_way for s in self.streams) and time.monotonic() < end:
            self._spin(0.01)

    def _spin(self, timeout: float):
        self._executor.spin_once(timeout_sec=timeout)

    def _spin_until(self, condition: Callable[[], object], timeout: float = FRAME_TIMEOUT,
                    what: str = 'the node sends no results'):
        end = time.monotonic() + timeout
        while not condition():
            self._spin(POLL_PERIOD)
            self._alive()
            if time.monotonic() > end:
                raise ValueError(f'{what} within {timeout:.0f} s')
