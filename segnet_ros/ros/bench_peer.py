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
The peer of the node under test: publishes frames to it and receives all its results.

Both happen in one process, so one clock times each frame; a frame's stamp is its send time. Knows
topics and clocks, not what is compared with what.
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

# A frame is complete once these have arrived; class_fractions is received too, but has no stamp.
STAMPED = {'mask': Image, 'confidence': Image, 'color_mask': Image, 'overlay': Image,
           'statistics': DiagnosticArray}
DEPTH = 10
START_TIMEOUT = 120.0  # seconds for a node to load and be discovered
FRAME_TIMEOUT = 60.0  # seconds for a frame; Full HD on a small CPU takes its time
DRAIN_TIMEOUT = 5.0
# Seconds after which a single frame is sent again: the node, which sends only what is subscribed
# to, may not have discovered all subscriptions when the first one came.
RESEND = 5.0
# Seconds between polls when nothing arrives. Each poll costs a quarter of a millisecond of CPU
# time that the node needs.
POLL_PERIOD = 0.02
# Where the stamp is in a serialised message that begins with a header: after the four bytes of the
# encapsulation header, in this machine's byte order (OMG, DDS-XTypes 7.6.3).
_STAMP, _STAMP_OFFSET = '=iI', 4
FIRST_FRAMES = 3  # warm-up frames, one by one: the node allocates buffers for a new size


class Stream:
    """One camera's frames: sends them, receives their results, counts complete and lost ones."""

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
        """Start a new measurement; frames still in flight no longer count."""
        self.on_the_way: dict[int, set[str]] = {}
        self.mask_latencies: list[float] = []
        self.completions: list[float] = []
        self.lost = 0
        self.last_sent = 0.0

    def show(self, image: np.ndarray):
        """Set the image to send from now on, (H, W, 3) uint8 RGB."""
        header = Header(frame_id='camera')
        if self._compressed:
            message = compressed_message(image, 'jpeg', header)
        else:
            message, view = preallocated_image('rgb8', *image.shape[:2])
            message.header = header
            view[:] = image
        self._message = bytearray(serialize_message(message))

    def send(self):
        """Send the image, stamped with the monotonic time."""
        now = time.monotonic_ns()
        self.last_sent = now * 1e-9
        self.on_the_way[now] = set(STAMPED)
        struct.pack_into(_STAMP, self._message, _STAMP_OFFSET, *divmod(now, 10**9))
        self._publisher.publish(bytes(self._message))

    def _hear(self, topic: str, data: bytes):
        """Record a result, left serialised: the time to deserialise it is not the node's."""
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
            # The node works in order: earlier frames that are not complete were dropped.
            for stamp in [s for s in self.on_the_way if s <= sent]:
                del self.on_the_way[stamp]
                self.lost += stamp < sent
            self.completions.append(now * 1e-9)

    def connected(self) -> bool:
        """Return whether the node subscribes to the frames and publishes all results."""
        return (self._publisher.get_subscription_count() > 0
                and all(s.get_publisher_count() for s in self._subscriptions))


class Peer:
    """
    Sends frames to a node and measures what comes back.

    :param namespace: of the node.
    :param cameras: names of its cameras, '' for the only one.
    :param parallel_frames: the node's parameter.
    :param alive: raises if the node's process has ended.
    """

    def __init__(self, context: rclpy.Context, namespace: str, cameras: tuple[str, ...],
                 compressed: bool, parallel_frames: int, alive: Callable[[], object]):
        self._alive, self._parallel_frames = alive, parallel_frames
        self.node = rclpy.create_node('bench_peer', context=context, namespace=namespace)
        self._executor = SingleThreadedExecutor(context=context)
        self._executor.add_node(self.node)
        self.streams = [Stream(self, name + '/' if name else '', compressed) for name in cameras]
        self._spin_until(lambda: all(s.connected() for s in self.streams), START_TIMEOUT,
                         'the node did not offer its results')

    def destroy(self):
        """Destroy the executor and the ROS node, with its topics."""
        self._executor.shutdown()
        self.node.destroy_node()

    def show(self, image: np.ndarray):
        """Set the image that every camera sends from now on, and send the warm-up frames."""
        for stream in self.streams:
            stream.show(image)
            for _ in range(FIRST_FRAMES):
                self._send_one(stream)
            self._gap = stream.mask_latencies[0] / 4 / self._parallel_frames

    def send_first(self, image: np.ndarray):
        """Send the image once, from the first camera, and wait for all its results."""
        stream = self.streams[0]
        stream.show(image)
        self._send_one(stream)

    def _send_one(self, stream: Stream):
        stream.forget()

        def complete() -> bool:
            if time.monotonic() - stream.last_sent > RESEND:
                stream.send()
            return bool(stream.completions)
        self._spin_until(complete)

    def saturate(self, frames: int, cameras: int | None = None) -> float:
        """
        Send as fast as the node takes frames; return complete frames a second over all cameras.

        Just enough frames are in flight that one waits while others are segmented. With several
        cameras that is one each, since a newer frame would replace the older.
        """
        active = self.streams[:cameras]
        for stream in active:
            stream.forget()
        # The first frames find the node idle and are not counted.
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
            # The node needs a moment to take the previous frame, or would drop it for this one.
            if (len(stream.on_the_way) < depth
                    and time.monotonic() - stream.last_sent >= self._gap):
                stream.send()
        return sum(len(stream.completions) for stream in active)

    def pace(self, frames: int, rate: float) -> Stream:
        """Send frames at a fixed rate from the first camera; return its stream of results."""
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
        """Wait until a subscription has added `count` more messages to the list `heard`."""
        wanted = len(heard) + count
        self._spin_until(lambda: len(heard) >= wanted)

    def _drain(self):
        """Wait for frames in flight, at most DRAIN_TIMEOUT: lost ones never arrive."""
        end = time.monotonic() + DRAIN_TIMEOUT
        while any(s.on_the_way for s in self.streams) and time.monotonic() < end:
            self._spin(0.01)

    def _spin(self, timeout: float):
        self._executor.spin_once(timeout_sec=timeout)

    def _spin_until(self, condition: Callable[[], object], timeout: float = FRAME_TIMEOUT,
                    what: str = 'the node sent no results'):
        end = time.monotonic() + timeout
        while not condition():
            self._spin(POLL_PERIOD)
            self._alive()
            if time.monotonic() > end:
                raise ValueError(f'{what} within {timeout:.0f} s')
