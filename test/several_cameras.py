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

"""A bag of several cameras that all show the same images."""

from pathlib import Path

from rosbags.rosbag2 import StoragePlugin, Writer

from segnet_ros.bags.reading import IMAGE, read_messages, TYPES


def write_several_cameras(bag: Path, source: Path, *topics: str):
    """Write a bag with the images of a bag of one raw camera on each of these topics."""
    with Writer(bag, version=9, storage_plugin=StoragePlugin.MCAP) as writer:
        cameras = [writer.add_connection(name, IMAGE, typestore=TYPES) for name in topics]
        for message in read_messages(source):
            for camera in cameras:
                writer.write(camera, message.record_ns, message.cdr)
