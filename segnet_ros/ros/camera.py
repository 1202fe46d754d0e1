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

"""One camera: its inputs, its segmenters, its outputs; message in, messages out."""

from contextlib import AbstractContextManager
from dataclasses import dataclass
import math
import threading
import time

import numpy as np
from rclpy.qos import QoSPolicyKind, QoSProfile, ReliabilityPolicy
from rclpy.qos_overriding_options import QoSOverridingOptions
from sensor_msgs.msg import CameraInfo, CompressedImage, Image
from std_msgs.msg import Header

from segnet_ros.encodings import ImageConversionError
from segnet_ros.ros.conversions import image_from_message, stamp_ns
from segnet_ros.ros.frame_slots import NewestFrames
from segnet_ros.ros.image_input import ImageInput
from segnet_ros.ros.monitor import StreamMonitor
from segnet_ros.ros.outputs import calibration_trouble, Outputs
from segnet_ros.ros.parameters import qos_errors_named
from segnet_ros.ros.segmenters import Segmenters
from segnet_ros.ros.settings import Settings
from segnet_ros.segmentation import Segmentation
from segnet_ros.segmenter import Segmenter

CLOCK_PATIENCE = 1.0  # seconds that a simulated clock may need to follow a bag's new round

# Durability too, for a calibration that is published once and latched.
_INFO_OVERRIDES = QoSOverridingOptions([
    QoSPolicyKind.HISTORY, QoSPolicyKind.DEPTH, QoSPolicyKind.RELIABILITY,
    QoSPolicyKind.DURABILITY])


@dataclass(frozen=True)
class DecodedFrame:
    """
    A frame on its way from message to results.

    :param image: (H, W, 3) uint8 RGB, perhaps a view of the message.
    :param wanted: the segmenter's outputs that somebody subscribes to.
    :param times: when it was received, taken and decoded; seconds of the monotonic clock.
    """

    header: Header
    image: np.ndarray
    wanted: tuple[str, ...]
    times: list[float]


class Camera:
    """
    Takes one camera's frames from the topic to the results.

    :param name: '' for the only camera, else the prefix of its topics.
    :param build_segmenter: (height, width) -> Segmenter; called for each new resolution, once for
        each frame that is processed at the same time.
    """

    def __init__(self, node, name: str, label_set, build_segmenter):
        self._node, self.name = node, name
        self._prefix = name + '/' if name else ''
        self._segmenters = Segmenters(build_segmenter, self._log_sizes)
        self.outputs = Outputs(node, self._prefix, label_set)
        self.monitor = StreamMonitor()
        # One frame's results are published together, and never after those of a newer frame.
        self._publishing = threading.Lock()
        self._newest_published = 0.0
        self._images = ImageInput(node, self._prefix, self.monitor, self._on_image)
        self._info_subscription = None
        self._camera_info: CameraInfo | None = None
        self._last_stamp, self._clock_before_jump = -math.inf, -1  # nanoseconds
        self._jumped = 0.0  # when stamps last went back
        self._due = 0.0
        self._log_error_again = self._log_sizes_again = 0.0
        self._told = ''
        self._told_of_info: set[str] = set()

    def start(self, frames: NewestFrames):
        """Subscribe; images go to `frames`, from which the workers take them."""
        self._frames = frames
        self._camera_info = None  # another camera may be there now
        self._told_of_info.clear()
        self._first_image: float | None = None
        self.monitor.started()
        topic = self._prefix + 'camera_info'
        with qos_errors_named(topic):
            self._info_subscription = self._node.create_subscription(
                CameraInfo, topic, self._on_camera_info,
                # Compatible with anything a driver offers.
                QoSProfile(depth=1, reliability=ReliabilityPolicy.BEST_EFFORT),
                qos_overriding_options=_INFO_OVERRIDES)
        self._images.start()

    def stop(self):
        """Unsubscribe."""
        self._images.stop()
        if self._info_subscription is not None:
            self._node.destroy_subscription(self._info_subscription)
            self._info_subscription = None

    def destroy(self):
        """Destroy the topics and release the buffers."""
        self.stop()
        self.outputs.destroy()
        self._segmenters.clear()

    def watch(self, settings: Settings):
        """Follow publishers that come and go; warn once if images or camera_info stay away."""
        limit = settings.no_image_warning_period
        begun = self._first_image
        if (self._images.watch(limit) and limit and self._camera_info is None and begun
                and time.monotonic() > begun + limit):
            self._warn_of_info('no message received')

    def _on_camera_info(self, msg: CameraInfo):
        self._camera_info = msg

    def _calibration(self, frame: DecodedFrame) -> CameraInfo | None:
        """Return the calibration if there is one and it fits the frame, else None."""
        info, header = self._camera_info, frame.header
        if info is not None and (
                trouble := calibration_trouble(info, frame.image.shape[:2], header.frame_id)):
            self._warn_of_info(trouble)
            return None
        return info

    def _warn_of_info(self, trouble: str):
        """Warn once why mask/camera_info is not published, if somebody subscribes to it."""
        if trouble not in self._told_of_info and self.outputs.subscribed('mask/camera_info'):
            self._told_of_info.add(trouble)
            name = self._prefix + 'camera_info'
            self._node.get_logger().warning(
                f'{self._prefix}mask/camera_info cannot be published from '
                f'{self._node.resolve_topic_name(name)}: {trouble}')

    def _on_image(self, msg: Image | CompressedImage):
        """Hand the frame to the workers, within max_rate; the newest wins."""
        now = time.monotonic()
        self._first_image = self._first_image or now
        self._note_restart(msg.header)
        self.monitor.received()
        max_rate = self._node.settings.max_rate
        if max_rate:
            # Up to a tenth of a period early is on time, or jitter would halve the rate.
            period = 1 / max_rate
            # Never further off than this rate allows: max_rate may just have been raised.
            self._due = min(self._due, now + 1.1 * period)
            if now < self._due - 0.1 * period:
                return self.monitor.count('limited')
            # A late frame does not shift the schedule: at a max_rate of 10, 10 of 12 frames a
            # second pass, not every second one. After a gap it restarts, without catching up.
            if now >= self._due + period:
                self._due = now - 0.1 * period
            self._due += period
        self.monitor.waiting()
        if self._frames.put(self, (msg, now)):
            self.monitor.count('dropped')

    def decode(self, msg: Image | CompressedImage, received: float,
               settings: Settings) -> DecodedFrame | None:
        """
        Return the decoded frame; None, and counted, if it is too old, unwatched or unreadable.

        :param received: when it was received, in seconds of the monotonic clock.
        """
        begun = time.monotonic()
        if self._is_stale(msg.header, settings):
            # It may have become so while it waited for its turn.
            came_stale = self._is_stale(msg.header, settings, begun - received)
            return self.monitor.count('stale' if came_stale else 'late')
        wanted = self.outputs.wanted(settings.roi is not None)
        if not wanted:
            return self.monitor.count('unwatched')
        try:
            image = image_from_message(msg)
        except ImageConversionError as error:
            self.monitor.count('failed', str(error))
            self.log_error(f'frame dropped: {error}')
            return None
        return DecodedFrame(msg.header, image, wanted, [received, begun, time.monotonic()])

    def log_error(self, trouble: str, where: str = ''):
        """
        Log what is wrong with a frame, at most once a second for each camera.

        :param where: a traceback, logged too unless the same trouble was the last one logged.
        """
        now = time.monotonic()
        if now >= self._log_error_again:
            self._log_error_again = now + 1.0
            new, self._told = trouble != self._told, trouble
            lines = [f'{self.name or "camera"}: {trouble}', *([where] if where and new else [])]
            self._node.get_logger().error('\n'.join(lines))

    def lend_segmenter(self, frame: DecodedFrame,
                       settings: Settings) -> AbstractContextManager[Segmenter]:
        """Lend a segmenter for the frame; publish its results before the context ends."""
        return self._segmenters.lend(frame.image.shape[:2], settings)

    def publish(self, frame: DecodedFrame, segmentation: Segmentation, segmented: float,
                settings: Settings):
        """
        Publish what is subscribed, unless a newer frame overtook this one or it became stale.

        :param segmented: when it was segmented, in seconds of the monotonic clock.
        """
        if not self._node.enabled:
            return self.monitor.count('paused')
        received = frame.times[0]
        # The first frame waits while its segmenter is built.
        if self._is_stale(frame.header, settings):
            return self.monitor.late([*frame.times, segmented, time.monotonic()],
                                     self._age(frame.header))
        with self._publishing:
            if received < self._newest_published:
                return self.monitor.count('dropped')
            self._newest_published = received
            self.outputs.publish(frame.header, segmentation, settings,
                                 self._calibration(frame))
        self.monitor.processed([*frame.times, segmented, time.monotonic()],
                               self._age(frame.header))

    def _note_restart(self, header: Header):
        """Note that stamps went back: a bag began anew, maybe before the simulated clock did."""
        stamp = stamp_ns(header)
        if stamp < self._last_stamp:
            self._jumped = time.monotonic()
            self._clock_before_jump = self._node.get_clock().now().nanoseconds
        self._last_stamp = stamp

    def _is_stale(self, header: Header, settings: Settings, seconds_ago: float = 0.0) -> bool:
        # A bag that loops or a clock that jumps back gives negative ages, which are not stale.
        return 0 < settings.max_frame_age < self._age(header) - seconds_ago

    def _age(self, header: Header) -> float:
        """Return the seconds since the stamp, by the node's clock; 0 if that is a round behind."""
        now = self._node.get_clock().now().nanoseconds
        # Only a simulated clock can still stand where it stood; until its next tick, if that comes
        # soon, the frames of a new round are taken for new.
        if now == self._clock_before_jump and time.monotonic() < self._jumped + CLOCK_PATIENCE:
            return 0.0
        return (now - stamp_ns(header)) * 1e-9

    def _log_sizes(self, *sizes: tuple[int, int]):
        self.monitor.resized()
        now = time.monotonic()
        if now < self._log_sizes_again:  # two cameras on one topic change size every frame
            return
        self._log_sizes_again = now + 1.0
        camera, network, output = (f'{width}x{height}' for height, width in sizes)
        self._node.get_logger().info(f'{self.name or "camera"}: {camera} frames, network at '
                                     f'{network}, results {output}')
