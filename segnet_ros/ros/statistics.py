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

"""Statistics messages: segmentation.ClassStatistics as planners and plots read them."""

from diagnostic_msgs.msg import DiagnosticStatus, KeyValue
from std_msgs.msg import Float32MultiArray, MultiArrayDimension

from segnet_ros.labels import LabelSet
from segnet_ros.segmentation import ClassStatistics


def class_statuses(statistics: ClassStatistics, label_set: LabelSet, alerts: dict[str, float],
                   title: str) -> list[DiagnosticStatus]:
    """
    Return one status per class, in id order, with the values of ClassStatistics.values.

    :param alerts: by class name, the fraction above which a status is WARN.
    :param title: stands before the class in the status's name, e.g. 'segnet/front'.
    """
    return [DiagnosticStatus(
                level=DiagnosticStatus.WARN if alert else DiagnosticStatus.OK, name=name,
                message=message, hardware_id=title,
                values=[KeyValue(key=k, value=v) for k, v in values.items()])
            for alert, name, message, values in statistics.statuses(
                label_set.class_names, title, alerts)]


def fractions_message(statistics: ClassStatistics, label_set: LabelSet) -> Float32MultiArray:
    """Return one float per class in id order; the dimension's label holds the class names."""
    msg = Float32MultiArray(data=statistics.fractions.tolist())
    size = len(label_set)
    msg.layout.dim = [MultiArrayDimension(
        label=','.join(label_set.class_names), size=size, stride=size)]
    return msg
