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

"""The topics of one camera's results: which are subscribed, and one reused message for each."""

from diagnostic_msgs.msg import DiagnosticArray
import numpy as np
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from rclpy.qos_overriding_options import QoSOverridingOptions
from sensor_msgs.msg import CameraInfo, CompressedImage, Image
from std_msgs.msg import Float32MultiArray, Header

from segnet_ros.labels import LabelSet
from segnet_ros.legend import draw_legend
from segnet_ros.ros.conversions import compressed_message, preallocated_image
from segnet_ros.ros.parameters import qos_errors_named
from segnet_ros.ros.settings import Settings
from segnet_ros.ros.statistics import class_statuses, fractions_message
from segnet_ros.segmentation import PICTURES, Segmentation

try:
    from vision_msgs.msg import LabelInfo, VisionClass
except ImportError:  # in every ROS distribution, but not among the Python wheels
    LabelInfo = None


# Codec of each /compressed topic; masks are never jpeg, which would invent ids.
CODECS = {'mask': 'png', 'color_mask': 'png', 'overlay': 'jpeg'}
RESULTS = {'depth': 1, 'reliability': ReliabilityPolicy.RELIABLE}
NUMBERS = {'depth': 10, 'reliability': ReliabilityPolicy.RELIABLE}
LATCHED = {**RESULTS, 'durability': DurabilityPolicy.TRANSIENT_LOCAL}


class Outputs:
    """
    Publishes one camera's segmentations, each under its input's header.

    :param prefix: of the topic names, '' or 'front/'.
    """

    def __init__(self, node, prefix: str, label_set: LabelSet):
        self._node, self._label_set = node, label_set
        self._title = f'{node.get_name()}/{prefix}'.rstrip('/')
        self._prefix = prefix
        self._publishers = {}
        self._messages: dict[str, tuple[Image, np.ndarray]] = {}
        self._latched: dict[str, object] = {}  # what each latched topic last published
        try:
            self._create_all()
        except Exception:
            self.destroy()
            raise

    def _create_all(self):
        for name in PICTURES:
            self._create(name, Image, RESULTS)
        for name in CODECS:
            self._create(name + '/compressed', CompressedImage, RESULTS)
        self._create('mask/camera_info', CameraInfo, RESULTS)
        self._create('statistics', DiagnosticArray, NUMBERS)
        self._create('class_fractions', Float32MultiArray, NUMBERS)
        self._create('legend', Image, LATCHED)
        if LabelInfo is not None:
            self._create('label_info', LabelInfo, LATCHED)

    def _create(self, name: str, message_type, qos: dict):
        # A new profile each time: rclpy writes the overrides into the one that it is given.
        with qos_errors_named(self._prefix + name):
            self._publishers[name] = self._node.create_publisher(
                message_type, self._prefix + name, QoSProfile(**qos),
                qos_overriding_options=QoSOverridingOptions.with_default_policies())

    def destroy(self):
        """Destroy the topics."""
        for publisher in self._publishers.values():
            self._node.destroy_publisher(publisher)
        self._publishers.clear()
        self._messages.clear()

    def subscribed(self, name: str) -> bool:
        """Return whether somebody subscribes to a topic, named without its prefix."""
        return self._publishers[name].get_subscription_count() > 0

    def wanted(self, region: bool = False) -> tuple[str, ...]:
        """
        Return what the segmenter must compute for the current subscribers; () if there are none.

        :param region: whether there is one to count besides the whole picture.
        """
        arrays = {array for name, (array, _) in PICTURES.items()
                  if self.subscribed(name)
                  or (name in CODECS and self.subscribed(name + '/compressed'))}
        if self.subscribed('statistics') or self.subscribed('class_fractions'):
            arrays.add('statistics')
        if region and self.subscribed('statistics'):
            arrays.add('region_statistics')
        if self.subscribed('mask/camera_info'):
            arrays.add('label_map')
        return tuple(sorted(arrays))

    def publish_latched(self, settings: Settings):
        """
        Publish the class names and the legend, latched for late joiners, if they changed.

        Nav2's layer takes each label_info for a new network, and repeats all its warnings.
        """
        header = Header(stamp=self._node.get_clock().now().to_msg())
        if LabelInfo is not None and self._is_new('label_info', settings.confidence_threshold):
            classes = [VisionClass(class_id=i, class_name=name)
                       for i, name in enumerate(self._label_set.class_names)]
            self._publishers['label_info'].publish(LabelInfo(
                header=header, class_map=classes, threshold=settings.confidence_threshold))
        if self._is_new('legend', settings.palette.tobytes()):
            picture = draw_legend(self._label_set, settings.palette)
            msg, view = preallocated_image('rgb8', *picture.shape[:2])
            np.copyto(view, picture)
            msg.header = header
            self._publishers['legend'].publish(msg)

    def _is_new(self, name: str, content) -> bool:
        """Return whether a latched topic's content is new, and remember it."""
        new = self._latched.get(name) != content
        self._latched[name] = content
        return new

    def publish(self, header: Header, segmentation: Segmentation, settings: Settings,
                camera_info: CameraInfo | None):
        """Publish to every topic that has a subscriber."""
        for name, (array_name, encoding) in PICTURES.items():
            array = getattr(segmentation, array_name)
            if array is None:
                continue
            if self.subscribed(name):
                self._publish_image(name, encoding, header, array)
            if name in CODECS and self.subscribed(name + '/compressed'):
                self._publishers[name + '/compressed'].publish(
                    compressed_message(array, CODECS[name], header, settings.jpeg_quality))
        # Those who subscribed while the frame was segmented get the next one's.
        if (camera_info is not None and segmentation.label_map is not None
                and self.subscribed('mask/camera_info')):
            size = segmentation.label_map.shape
            self._publishers['mask/camera_info'].publish(scaled_info(camera_info, size, header))
        if segmentation.statistics is not None:
            self._publish_numbers(header, segmentation, settings)

    def _publish_image(self, name: str, encoding: str, header: Header, array: np.ndarray):
        size = array.shape[:2]
        msg, view = self._messages.get(name, (None, None))
        if msg is None or (msg.height, msg.width) != size:
            msg, view = self._messages[name] = preallocated_image(encoding, *size)
        np.copyto(view, array)
        msg.header = header
        self._publishers[name].publish(msg)

    def _publish_numbers(self, header: Header, segmentation: Segmentation, settings: Settings):
        # Nor does who subscribed meanwhile get numbers without the region's.
        if self.subscribed('statistics') and (
                settings.roi is None or segmentation.region_statistics is not None):
            statuses = []
            for statistics, title in ((segmentation.statistics, self._title),
                                      (segmentation.region_statistics, self._title + '/roi')):
                if statistics is not None:
                    statuses += class_statuses(statistics, self._label_set, settings.alerts, title)
            self._publishers['statistics'].publish(DiagnosticArray(header=header, status=statuses))
        if self.subscribed('class_fractions'):
            self._publishers['class_fractions'].publish(
                fractions_message(segmentation.statistics, self._label_set))


def calibration_trouble(info: CameraInfo, size: tuple[int, int], frame_id: str) -> str:
    """Return why a calibration does not fit images of size (height, width) and a frame, or ''."""
    # Where they differ, behaviour is undefined (sensor_msgs/Image): it is another camera's.
    if info.header.frame_id and frame_id and info.header.frame_id != frame_id:
        return f"its frame_id is '{info.header.frame_id}', that of the images '{frame_id}'"
    width = (info.roi.width or info.width) / max(1, info.binning_x)
    height = (info.roi.height or info.height) / max(1, info.binning_y)
    if not (width and height):
        return 'it gives no size'
    # Scaled images are fine, cropped or padded ones are not: the roi would have to say how. If one
    # side is equal, the other was not scaled: a video decoder may make 1088 rows of 1080.
    one_equal = width == size[1] or height == size[0]
    if abs(height * size[1] / width - size[0]) > 1 + (0 if one_equal else 0.02 * size[0]):
        return (f'it is for {width:.0f}x{height:.0f}, which has a different aspect ratio from the '
                f'images, {size[1]}x{size[0]}')
    return ''


def scaled_info(info: CameraInfo, size: tuple[int, int], header: Header) -> CameraInfo:
    """
    Return the calibration for images scaled to size (height, width), under the mask's header.

    A CameraInfo describes the whole sensor, whatever part of it the images show (roi) and however
    many of its pixels make one of theirs (binning). The result describes the mask itself: not
    cropped, not binned. K and P shift with the corner and scale with the pixels (REP-104,
    image_proc's crop_decimate and resize); distortion does not.
    """
    height, width = size
    x = width / max(1, info.roi.width or info.width)
    y = height / max(1, info.roi.height or info.height)
    move = np.array([[x, 0, -x * info.roi.x_offset], [0, y, -y * info.roi.y_offset], [0, 0, 1]])
    k = (move @ np.reshape(info.k, (3, 3))).ravel()
    p = (move @ np.reshape(info.p, (3, 4))).ravel()
    return CameraInfo(header=header, height=height, width=width,
                      distortion_model=info.distortion_model, d=info.d, k=k, r=info.r, p=p)
