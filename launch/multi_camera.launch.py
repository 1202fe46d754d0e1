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

"""Start one segmentation node for several cameras that share one network."""

from launch import LaunchDescription
from launch.actions import DeclareLaunchArgument, IncludeLaunchDescription
from launch.substitutions import LaunchConfiguration, PathJoinSubstitution
from launch_ros.substitutions import FindPackageShare


def generate_launch_description() -> LaunchDescription:
    """Declare what differs with several cameras; segnet.launch.py declares and does the rest."""
    return LaunchDescription([
        DeclareLaunchArgument(
            'camera_names', default_value='front,rear',
            description='Names of the cameras, separated by commas; outputs are '
                        'NAMESPACE/NAME/mask and so on.'),
        DeclareLaunchArgument(
            'image', default_value='/{camera}/image_raw',
            description='Topic of the camera images; {camera} in it stands for each name.'),
        IncludeLaunchDescription(
            PathJoinSubstitution([FindPackageShare('segnet_ros'), 'launch', 'segnet.launch.py']),
            launch_arguments={name: LaunchConfiguration(name)
                              for name in ('camera_names', 'image')}.items()),
    ])
