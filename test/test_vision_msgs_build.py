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

"""Check that the vision_msgs of the tests are real ROS messages, in and across processes."""

import subprocess
import sys

import pytest
from vision_msgs_build import import_vision_msgs, vision_msgs_environment

rclpy = pytest.importorskip('rclpy')

ROUND_TRIP = """
from rclpy.serialization import deserialize_message, serialize_message
from vision_msgs.msg import LabelInfo, VisionClass

info = LabelInfo(class_map=[VisionClass(class_id=65535, class_name='road')], threshold=0.25)
info.header.frame_id = 'camera'
again = deserialize_message(serialize_message(info), LabelInfo)
assert again == info
assert again.get_fields_and_field_types() == {
    'header': 'std_msgs/Header', 'class_map': 'sequence<vision_msgs/VisionClass>',
    'threshold': 'float'}
assert VisionClass.get_fields_and_field_types() == {'class_id': 'uint16', 'class_name': 'string'}
"""


def test_other_processes_find_the_messages():
    subprocess.run([sys.executable, '-c', ROUND_TRIP], env=vision_msgs_environment(), check=True)


def test_this_process_finds_the_messages():
    import_vision_msgs()
    exec(ROUND_TRIP, {})
