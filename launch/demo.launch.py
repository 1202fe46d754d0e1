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

"""Show the node at work without a camera: the package's sample drive, the node and RViz."""

from launch import LaunchDescription
from launch.actions import DeclareLaunchArgument, ExecuteProcess, IncludeLaunchDescription, \
    OpaqueFunction
from launch.substitutions import LaunchConfiguration, PathJoinSubstitution
from launch_ros.substitutions import ExecutableInPackage, FindPackageShare

from segnet_ros.ros.large_images import large_image_environment
from segnet_ros.ros.launch_arguments import full_name, is_true


def generate_launch_description() -> LaunchDescription:
    """Declare what is replayed and where; segnet.launch.py declares and does the rest."""
    return LaunchDescription([
        DeclareLaunchArgument(
            'source', default_value='sample',
            description='What to replay in a loop: sample (the drive that the package renders), '
                        'a bag, a video or a folder of images. A bag of compressed images also '
                        'needs input_transport:=compressed.'),
        DeclareLaunchArgument(
            'image', default_value='/sample/image_raw',
            description='Topic that the images are published on and segmented from.'),
        DeclareLaunchArgument(
            'rviz', default_value='true',
            description='Show camera, overlay and colour mask in RViz (needs rviz2); true or '
                        'false.'),
        DeclareLaunchArgument(
            'large_images', default_value='true',
            description='Give the processes started here the shared memory that raw camera '
                        'images need in Fast DDS; true or false. A profile already set in the '
                        'environment is kept.'),
        OpaqueFunction(function=_player),
        IncludeLaunchDescription(
            PathJoinSubstitution([FindPackageShare('segnet_ros'), 'launch', 'segnet.launch.py']),
            launch_arguments={name: LaunchConfiguration(name)
                              for name in ('image', 'rviz', 'large_images')}.items()),
    ])


def _player(context) -> list[ExecuteProcess]:
    """Return the process that replays the source, in the same environment as the node."""
    image, large_images = (LaunchConfiguration(name).perform(context)
                           for name in ('image', 'large_images'))
    if '{camera}' in image:
        raise ValueError(f'image:={image}: the demo plays to one camera')
    # Declared in segnet.launch.py, which comes later, and by a group around this.
    sim_time, group = (LaunchConfiguration(name, default='').perform(context)
                       for name in ('use_sim_time', 'ros_namespace'))
    return [ExecuteProcess(
        cmd=[ExecutableInPackage('segnet', 'segnet_ros'), 'replay',
             LaunchConfiguration('source'), '--loop', '--topic', full_name(image, group),
             *['--clock'] * is_true('use_sim_time', sim_time)],
        output='screen',
        additional_env=large_image_environment(is_true('large_images', large_images)))]
