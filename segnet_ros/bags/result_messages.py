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
A camera's results as bag messages, made without ROS, with the node's topics and contents.

Knows the message types and what they hold; knows nothing of files or networks.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
from rosbags.interfaces import Qos, QosDurability, QosHistory, QosLiveliness, QosReliability, \
    QosTime
from rosbags.typesys import get_types_from_msg

from segnet_ros.bags.reading import IMAGE, TYPES
from segnet_ros.bags.split_bag import OutTopic
from segnet_ros.bags.writing import make_header
from segnet_ros.labels import LabelSet
from segnet_ros.segmentation import ClassStatistics, PICTURES, Segmentation

LABEL_INFO = 'vision_msgs/msg/LabelInfo'
STATISTICS = 'diagnostic_msgs/msg/DiagnosticArray'
RESULTS = (*PICTURES, 'statistics')

TYPES.register({  # rosbags has no vision_msgs
    **get_types_from_msg('uint16 class_id\nstring class_name', 'vision_msgs/msg/VisionClass'),
    **get_types_from_msg('std_msgs/Header header\nvision_msgs/VisionClass[] class_map\n'
                         'float32 threshold', LABEL_INFO)})
_ENDLESS = QosTime(9223372036, 854775807)


def _qos(depth: int, durability: QosDurability) -> list[Qos]:
    return [Qos(QosHistory.KEEP_LAST, depth, QosReliability.RELIABLE, durability, _ENDLESS,
                _ENDLESS, QosLiveliness.AUTOMATIC, _ENDLESS, False)]


class CameraResults:
    """
    Makes the messages of one camera's segmentations, each under its image's header.

    :param prefix: of the topics, such as '/front/segmentation'.
    :param results: which of RESULTS; with the mask, label_info comes once, before the first mask.
    """

    def __init__(self, prefix: str, results: tuple[str, ...], label_set: LabelSet):
        self.prefix, self._results, self._label_set = prefix, results, label_set
        self.arrays = tuple(PICTURES[r][0] if r in PICTURES else r for r in results)

    def topics(self) -> list[OutTopic]:
        """Return the topics of these messages, with the node's quality of service."""
        found = [self._topic(name, IMAGE if name in PICTURES else STATISTICS,
                             _qos(1 if name in PICTURES else 10, QosDurability.VOLATILE))
                 for name in self._results]
        if 'mask' in self._results:
            found.insert(0, self._topic('label_info', LABEL_INFO,
                                        _qos(1, QosDurability.TRANSIENT_LOCAL)))
        return found

    def messages(self, stamp_ns: int, frame_id: str, segmentation: Segmentation,
                 first: bool) -> Iterator[tuple[str, memoryview]]:
        """Yield topic and CDR of each message of a frame; label_info only with the first."""
        header = make_header(stamp_ns, frame_id)
        if first and 'mask' in self._results:
            yield self._cdr('label_info', LABEL_INFO, header, self._class_map(), 0.0)
        for name in self._results:
            if name == 'statistics':
                assert segmentation.statistics is not None
                statuses = self._statuses(segmentation.statistics)
                yield self._cdr(name, STATISTICS, header, statuses)
            else:
                array, encoding = PICTURES[name]
                pixels: np.ndarray = getattr(segmentation, array)
                height, width = pixels.shape[:2]
                yield self._cdr(name, IMAGE, header, height, width, encoding, 0,
                                pixels[0].size, pixels.reshape(-1))

    def _topic(self, name: str, type_name: str, qos: list[Qos]) -> OutTopic:
        definition, _ = TYPES.generate_msgdef(type_name, ros_version=2)
        return OutTopic(f'{self.prefix}/{name}', type_name, definition,
                        TYPES.hash_rihs01(type_name), qos)

    def _cdr(self, name: str, type_name: str, *fields) -> tuple[str, memoryview]:
        message = TYPES.types[type_name](*fields)
        return f'{self.prefix}/{name}', TYPES.serialize_cdr(message, type_name)

    def _class_map(self) -> list:
        make = TYPES.types['vision_msgs/msg/VisionClass']
        return [make(class_id, name) for class_id, name in enumerate(self._label_set.class_names)]

    def _statuses(self, statistics: ClassStatistics) -> list:
        """Return what ros/statistics.py returns, without alerts."""
        make: Any = TYPES.types['diagnostic_msgs/msg/DiagnosticStatus']
        pair = TYPES.types['diagnostic_msgs/msg/KeyValue']
        title = 'segnet' + self.prefix.removesuffix('/segmentation')
        return [make(make.OK, name, message, title, [pair(*item) for item in values.items()])
                for _, name, message, values in statistics.statuses(
                    self._label_set.class_names, title, {})]
