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

"""Start the segmentation node and, on request, a bag and RViz."""

import os

from launch import LaunchDescription
from launch.actions import DeclareLaunchArgument, ExecuteProcess, OpaqueFunction
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node
from launch_ros.substitutions import FindPackageShare

from segnet_ros.ros.large_images import large_image_environment
from segnet_ros.ros.launch_arguments import check_parameters_file, full_name, is_true
from segnet_ros.ros.parameters import parse_camera_names

SHARE = FindPackageShare('segnet_ros')

# Name: default, description.
ARGUMENTS = {
    'image': (
        '/camera/image_raw',
        'Topic of the camera images. Compressed images are expected below it and camera_info next '
        'to it, as image_transport names them. With camera_names, {camera} in it stands for each '
        'name.'),
    'namespace': (
        'segmentation', 'Namespace of the node and of its output topics.'),
    'camera_names': (
        '', 'Names of several cameras, separated by commas; each gets its own outputs. Empty: one '
        'camera. Set it here, not in the parameters file: the topics are remapped here.'),
    'weights': (
        '', 'Weights: a name that ships with the package or a .safetensors file. Empty: not '
        'set here.'),
    'device': (
        '', 'Where the network runs: auto, cpu, cuda or cuda:N. Empty: not set here.'),
    'precision': (
        '', 'Precision of the network: auto, float32, bfloat16, float16 or int8. Empty: not '
        'set here.'),
    'input_transport': (
        '', 'Image transport: raw or compressed. Empty: not set here.'),
    'parameters': (
        '', "File with the node's parameters, such as a copy of config/segnet.yaml, which lists "
        'them with their defaults. Empty: none.'),
    'autostart': (
        '', 'Whether the node configures and activates itself, true or false; set false under a '
        'lifecycle manager. Empty: not set here.'),
    'use_sim_time': (
        '', 'Take the time from /clock, which a bag started here then publishes; true or false. '
        'Empty: not set here, and a bag started here publishes no /clock.'),
    'bag': (
        '', 'Bag to play with `ros2 bag play`, five seconds after the node is started. Its images '
        'must be on the topic that `image` names. Empty: none.'),
    'rviz': (
        'false', 'Show camera, overlay and colour mask, of several cameras the first, in RViz '
                 '(needs rviz2); true or false.'),
    'large_images': (
        'true', 'Give the processes started here the shared memory that raw camera images need in '
        'Fast DDS; true or false. A profile already set in the environment is kept.'),
    'respawn': (
        'false', 'Restart the node after two seconds if it ends by itself, e.g. when the GPU is '
        'lost; true or false.'),
    'log_level': (
        'info', 'Minimum severity that the node logs: debug, info, warn, error or fatal.'),
}


def generate_launch_description() -> LaunchDescription:
    """Declare the arguments; their values are read when the launch starts."""
    return LaunchDescription([
        *(DeclareLaunchArgument(name, default_value=default, description=description)
          for name, (default, description) in ARGUMENTS.items()),
        OpaqueFunction(function=_start)])


def _start(context):
    values = {name: LaunchConfiguration(name).perform(context) for name in ARGUMENTS}
    sim_time, rviz, large_images, respawn = (
        is_true(name, values[name])
        for name in ('use_sim_time', 'rviz', 'large_images', 'respawn'))
    cameras = [name.strip() for name in values['camera_names'].split(',') if name.strip()]
    if cameras:  # rcl would refuse the rules that remap their topics, but not say why
        try:
            parse_camera_names(cameras)
        except ValueError as error:
            raise ValueError(f"camera_names:={values['camera_names']}: {error}") from error
    if len(cameras) > 1 and '{camera}' not in values['image']:
        raise ValueError(f"image:={values['image']} would be the topic of every camera; with "
                         'several camera_names it needs {camera} in it: /{camera}/image_raw')
    if not cameras and '{camera}' in values['image']:
        raise ValueError(f"image:={values['image']} needs camera_names to put in place of "
                         '{camera}')
    group = LaunchConfiguration('ros_namespace', default='').perform(context)
    namespace, image = (full_name(values[name], group) for name in ('namespace', 'image'))
    parameters = os.path.expanduser(values['parameters'])
    if parameters:
        check_parameters_file(parameters, namespace + '/segnet')
    if rviz:  # if it were missed only when it is started, the node would outlive the launch
        FindPackageShare('rviz2').perform(context)
    environment = large_image_environment(large_images)

    overrides = {
        name: values[name] for name in ('weights', 'device', 'precision', 'input_transport')
        if values[name]}
    overrides |= {name: is_true(name, values[name]) for name in ('autostart', 'use_sim_time')
                  if values[name]}
    if cameras:
        overrides['camera_names'] = cameras
    actions = [Node(
        package='segnet_ros', executable='segnet_node', name='segnet',
        namespace=values['namespace'], output='screen', emulate_tty=True,
        respawn=respawn, respawn_delay=2.0,
        # Not the defaults too: they would replace what a SetParameter around this says.
        parameters=[*filter(None, (parameters, overrides))],
        remappings=[rule for camera in cameras or ['']
                    for rule in _input_remappings(camera, image)],
        ros_arguments=['--log-level', values['log_level']], additional_env=environment)]
    if values['bag']:
        clock = ['--clock'] if sim_time else []
        actions.append(ExecuteProcess(
            cmd=['ros2', 'bag', 'play', os.path.expanduser(values['bag']), '--delay', '5', *clock],
            output='screen', additional_env=environment))
    if rviz:
        actions.append(_rviz(context, image, namespace, cameras, sim_time, environment))
    return actions


def _input_remappings(camera: str, image: str) -> list[tuple[str, str]]:
    """Return the rules that remap one camera's inputs to its topics."""
    topic = image.replace('{camera}', camera)
    prefix = camera + '/' if camera else ''
    return [(prefix + 'image', topic),
            (prefix + 'image/compressed', topic + '/compressed'),
            (prefix + 'camera_info', '/'.join([*topic.split('/')[:-1], 'camera_info']))]


def _rviz(context, image: str, namespace: str, cameras: list[str], sim_time: bool,
          environment: dict[str, str]) -> Node:
    """Return RViz; its configuration names the default topics, so remap those to the real ones."""
    camera = cameras[0] if cameras else ''
    outputs = f'{namespace}/{camera}'.rstrip('/')
    return Node(
        package='rviz2', executable='rviz2', name='segnet_rviz',
        arguments=['-d', SHARE.perform(context) + '/config/segnet.rviz'],
        parameters=[{'use_sim_time': True}] if sim_time else [],
        remappings=[('/segmentation/image', image.replace('{camera}', camera)),
                    ('/segmentation/overlay', outputs + '/overlay'),
                    ('/segmentation/color_mask', outputs + '/color_mask')],
        additional_env=environment)
