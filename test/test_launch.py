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
Check the launch files and what they refer to; run them for real if ROS provides `launch`.

The Python wheels have no `launch`, so the tests use stand-ins for it, which make what the files
ask for but start nothing.
"""

import ast
import os
from pathlib import Path
import runpy
import shutil
import signal
import subprocess
import sys
import time
from types import ModuleType, SimpleNamespace

import pytest
from ros_domain import free_domain
import yaml

from segnet_ros.resources import share_directory
from segnet_ros.ros.large_images import _variables_read, OWN_SETTINGS

SHARE = share_directory()
LAUNCH = SHARE / 'launch'
CONFIG = SHARE / 'config'
FILES = sorted(path.name for path in LAUNCH.glob('*.launch.py'))
DOMAIN = int(free_domain())


def declared(file: str) -> dict[str, str]:
    """Return each declared argument's description by its name, as written in the file."""
    found = {}
    for node in ast.walk(ast.parse((LAUNCH / file).read_text())):
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == 'ARGUMENTS':
            found |= {ast.literal_eval(name): ast.literal_eval(value.elts[1])
                      for name, value in zip(node.value.keys, node.value.values, strict=True)}
        elif isinstance(node, ast.Call) and ast.unparse(node.func) == 'DeclareLaunchArgument':
            keywords = {k.arg: k.value for k in node.keywords}
            if isinstance(node.args[0], ast.Constant):
                found[node.args[0].value] = ast.literal_eval(keywords['description'])
    return found


def test_the_files_are_there():
    assert FILES == ['demo.launch.py', 'multi_camera.launch.py', 'segnet.launch.py']


@pytest.mark.parametrize('file', FILES)
def test_every_argument_is_described(file):
    arguments = declared(file)
    assert arguments
    for name, description in arguments.items():
        assert len(description) > 20 and description.endswith('.'), name


@pytest.mark.parametrize('file', ['multi_camera.launch.py', 'demo.launch.py'])
def test_what_is_handed_on_is_declared_at_the_other_end(file):
    handed = next(ast.literal_eval(node.generators[0].iter)
                  for node in ast.walk(ast.parse((LAUNCH / file).read_text()))
                  if isinstance(node, ast.DictComp))
    assert set(handed) <= set(declared(file)) & set(declared('segnet.launch.py'))


def test_files_that_are_named_exist():
    for name in ('segnet.yaml', 'segnet.rviz'):
        assert name in (LAUNCH / 'segnet.launch.py').read_text()
        assert (CONFIG / name).is_file(), name


def test_rviz_shows_what_the_launch_file_leads_to_it():
    config = yaml.safe_load((CONFIG / 'segnet.rviz').read_text())
    displays = config['Visualization Manager']['Displays']
    topics = {d['Topic']['Value']: d['Topic']['Reliability Policy'] for d in displays
              if d['Class'] == 'rviz_default_plugins/Image' and d['Enabled']}
    assert topics == {'/segmentation/image': 'Best Effort', '/segmentation/overlay': 'Reliable',
                      '/segmentation/color_mask': 'Reliable'}
    text = (LAUNCH / 'segnet.launch.py').read_text()
    assert all(f"('{topic}', " in text for topic in topics)


def maker(kind: str):
    return lambda *args, **kwargs: SimpleNamespace(kind=kind, args=args, **kwargs)


def text(value, context: dict[str, str]) -> str:
    """Return a string as it is, or the result of a substitution in the context."""
    return value if isinstance(value, str) else value.perform(context)


def substitution(perform):
    """Return a stand-in for a substitution class, which evaluates itself with `perform`."""
    return lambda *args, **kwargs: SimpleNamespace(
        perform=lambda context: perform(context, *args, **kwargs))


ACTIONS = ('DeclareLaunchArgument', 'ExecuteProcess', 'IncludeLaunchDescription', 'OpaqueFunction')
STAND_INS = {
    'launch': {'LaunchDescription': list},
    'launch.actions': {kind: maker(kind) for kind in ACTIONS},
    'launch.substitutions': {
        'LaunchConfiguration': substitution(
            lambda context, name, default=None:
            context[name] if default is None else context.get(name, default)),
        'PathJoinSubstitution': substitution(
            lambda context, parts: '/'.join(text(part, context) for part in parts))},
    'launch_ros': {},
    'launch_ros.actions': {'Node': maker('Node')},
    'launch_ros.substitutions': {
        'ExecutableInPackage': substitution(lambda _, name, package: f'/lib/{package}/{name}'),
        'FindPackageShare': substitution(lambda _, package: str(
            {'segnet_ros': SHARE, 'rviz2': '/rviz2'}[package]))},
}


def what_starts(path, context: dict[str, str]) -> list[SimpleNamespace]:
    """Return the nodes and processes that a launch file starts with these arguments."""
    found = []
    actions = runpy.run_path(str(path))['generate_launch_description']()
    while actions:
        action = actions.pop(0)
        if action.kind == 'DeclareLaunchArgument':
            # As in launch: the default applies unless the argument is set, here or by an
            # including file.
            context.setdefault(action.args[0], text(action.default_value, context))
        elif action.kind == 'OpaqueFunction':
            actions[:0] = action.function(context)
        elif action.kind == 'IncludeLaunchDescription':
            handed_on = {name: text(value, context) for name, value in action.launch_arguments}
            found += what_starts(text(action.args[0], context), context | handed_on)
        else:
            if action.kind == 'ExecuteProcess':
                action.cmd = [text(word, context) for word in action.cmd]
            found.append(action)
    return found


@pytest.fixture
def started(monkeypatch):
    """Return a function that lists what a launch file starts, using stand-ins for launch."""
    for name, members in STAND_INS.items():
        module = ModuleType(name)
        vars(module).update(members)
        monkeypatch.setitem(sys.modules, name, module)
    for name in OWN_SETTINGS:
        monkeypatch.delenv(name, raising=False)
    return lambda file, **arguments: what_starts(LAUNCH / file, arguments)


def test_one_camera_is_led_to_the_node(started):
    node, = started('segnet.launch.py')
    assert (node.package, node.executable, node.namespace, node.name) == (
        'segnet_ros', 'segnet_node', 'segmentation', 'segnet')
    assert node.remappings == [('image', '/camera/image_raw'),
                               ('image/compressed', '/camera/image_raw/compressed'),
                               ('camera_info', '/camera/camera_info')]
    assert node.parameters == []  # not even the defaults, which would replace a SetParameter's
    assert node.ros_arguments == ['--log-level', 'info']
    node, = started('segnet.launch.py', image='/robot/color', namespace='/seen', log_level='debug')
    assert node.remappings == [('image', '/robot/color'),
                               ('image/compressed', '/robot/color/compressed'),
                               ('camera_info', '/robot/camera_info')]
    assert (node.namespace, node.ros_arguments) == ('/seen', ['--log-level', 'debug'])


def test_the_node_is_started_anew_where_that_is_asked_for(started):
    assert [started('segnet.launch.py', **arguments)[0].respawn
            for arguments in ({}, {'respawn': 'true'})] == [False, True]


def test_the_demo_plays_a_bag_of_compressed_images_where_the_node_takes_them(started):
    player, node = started('demo.launch.py', source='/bag', rviz='false',
                           input_transport='compressed')
    # segnet replay adds /compressed.
    assert player.cmd[1:] == ['replay', '/bag', '--loop', '--topic', '/sample/image_raw']
    assert ('image/compressed', '/sample/image_raw/compressed') in node.remappings
    assert node.parameters == [{'input_transport': 'compressed'}]


TWO_CAMERAS = [('front/image', '/front/image_raw'),
               ('front/image/compressed', '/front/image_raw/compressed'),
               ('front/camera_info', '/front/camera_info'),
               ('rear/image', '/rear/image_raw'),
               ('rear/image/compressed', '/rear/image_raw/compressed'),
               ('rear/camera_info', '/rear/camera_info')]


@pytest.mark.parametrize('file, arguments', [
    ('segnet.launch.py', {'camera_names': 'front, rear', 'image': '/{camera}/image_raw'}),
    ('multi_camera.launch.py', {})])
def test_each_of_several_cameras_is_led_to_its_name(started, file, arguments):
    node, = started(file, **arguments)
    assert node.remappings == TWO_CAMERAS
    assert node.parameters == [{'camera_names': ['front', 'rear']}]


def test_arguments_of_multi_camera_reach_the_node(started):
    node, = started('multi_camera.launch.py', camera_names='left', image='/rig/{camera}/raw',
                    weights='mine')
    assert node.remappings == [('left/image', '/rig/left/raw'),
                               ('left/image/compressed', '/rig/left/raw/compressed'),
                               ('left/camera_info', '/rig/left/camera_info')]
    assert node.parameters == [{'camera_names': ['left'], 'weights': 'mine'}]


def test_several_cameras_on_one_topic_are_refused(started):
    with pytest.raises(ValueError, match='/a would be the topic of every camera'):
        started('segnet.launch.py', camera_names='front,rear', image='/a')
    node, = started('segnet.launch.py', camera_names='front', image='/a')
    assert node.remappings[0] == ('front/image', '/a')
    with pytest.raises(ValueError, match='image:=/{camera}/image_raw needs camera_names'):
        started('multi_camera.launch.py', camera_names='')


@pytest.mark.parametrize('names, why', [
    ('front-left,rear', "camera_names:=front-left,rear: 'front-left' cannot be part of a topic"),
    ('front,front', 'none of them twice')])
def test_names_that_no_topic_can_have_are_refused_before_the_remapping_rules(started, names, why):
    with pytest.raises(ValueError, match=why):
        started('multi_camera.launch.py', camera_names=names)


def test_what_is_said_overrides_the_parameters_file_and_nothing_else_does(started, tmp_path):
    said = {'weights': 'mine', 'device': 'cpu', 'precision': 'int8',
            'input_transport': 'compressed'}
    own = str(tmp_path / 'own.yaml')
    Path(own).write_text('/**:\n  ros__parameters: {overlay_alpha: 0.7}\n')
    node, = started('segnet.launch.py', parameters=own, autostart='False', use_sim_time='1',
                    **said)
    assert node.parameters == [own, {**said, 'autostart': False, 'use_sim_time': True}]
    node, = started('segnet.launch.py', autostart='True', use_sim_time='false')
    assert node.parameters == [{'autostart': True, 'use_sim_time': False}]


@pytest.mark.parametrize('content, fits', [
    ('', True), ('# weights: x', True), ('/**: {ros__parameters: {}}', True),
    ('/segmentation/segnet: {ros__parameters: {}}', True),
    ('segmentation: {segnet: {ros__parameters: {}}}', True),
    ('/segmentation/*: {ros__parameters: {}}', True), ('/**/segnet: {ros__parameters: {}}', True),
    ('{/other: {ros__parameters: {}}, /*/segnet: {ros__parameters: {}}}', True),
    ('segnet: {ros__parameters: {}}', False), ('/*: {ros__parameters: {}}', False),
    ('/segmentation/segne.: {ros__parameters: {}}', False),
    ('/segmentation/segnet: {weights: x}', False), ('weights: x', False), ('[a]', False)])
def test_a_parameters_file_that_says_nothing_for_the_node_is_refused(started, tmp_path, content,
                                                                     fits):
    (tmp_path / 'own.yaml').write_text(content)
    own = str(tmp_path / 'own.yaml')
    if fits:
        assert started('segnet.launch.py', parameters=own)[0].parameters == [own]
    else:
        with pytest.raises(ValueError, match='own.yaml says nothing for /segmentation/segnet; be'):
            started('segnet.launch.py', parameters=own)


def test_a_parameters_file_that_is_no_yaml_is_refused(started, tmp_path):
    for content in (b'/**: [', '# für vorn'.encode('latin-1')):
        (tmp_path / 'own.yaml').write_bytes(content)
        with pytest.raises(ValueError, match='parameters:=.*own.yaml is not YAML'):
            started('segnet.launch.py', parameters=str(tmp_path / 'own.yaml'))


@pytest.mark.parametrize('namespace, section', [('seen', '/seen/segnet'), ('', '/**/segnet')])
def test_a_parameters_file_is_for_the_node_in_its_namespace(started, tmp_path, namespace,
                                                            section):
    (tmp_path / 'own.yaml').write_text(f'{section}: {{ros__parameters: {{}}}}')
    assert started('segnet.launch.py', parameters=str(tmp_path / 'own.yaml'), namespace=namespace)


@pytest.mark.parametrize('file', ['segnet.launch.py', 'demo.launch.py'])
def test_rviz_is_missed_before_the_node_is_started(started, monkeypatch, file):
    started_nodes = []
    monkeypatch.setitem(vars(sys.modules['launch_ros.actions']), 'Node', started_nodes.append)
    monkeypatch.setitem(vars(sys.modules['launch_ros.substitutions']), 'FindPackageShare',
                        substitution(lambda _, package: {'segnet_ros': str(SHARE)}[package]))
    with pytest.raises(KeyError, match='rviz2'):
        started(file, rviz='true')
    assert not started_nodes


@pytest.mark.parametrize('arguments, clock', [
    ({}, []), ({'use_sim_time': 'false'}, []), ({'use_sim_time': 'True'}, ['--clock'])])
def test_a_bag_is_played_once_the_node_is_there(started, arguments, clock):
    _, player = started('segnet.launch.py', bag='/my bag', **arguments)
    assert player.cmd == ['ros2', 'bag', 'play', '/my bag', '--delay', '5', *clock]


def test_a_bag_may_be_in_the_home_folder(started, monkeypatch):
    monkeypatch.setenv('HOME', '/home/me')  # no shell puts it in place of a ~ behind :=
    _, player = started('segnet.launch.py', bag='~/drive')
    assert player.cmd[3] == '/home/me/drive'


@pytest.mark.parametrize('arguments, image, outputs', [
    ({}, '/camera/image_raw', '/segmentation'),
    ({'namespace': '/robot/seen/', 'image': '/robot/color'}, '/robot/color', '/robot/seen'),
    ({'namespace': ''}, '/camera/image_raw', ''),
    ({'camera_names': 'front,rear', 'image': '/{camera}/raw'}, '/front/raw',
     '/segmentation/front')])
def test_rviz_is_led_to_the_topics(started, arguments, image, outputs):
    _, rviz = started('segnet.launch.py', rviz='true', **arguments)
    assert (rviz.package, rviz.executable) == ('rviz2', 'rviz2')
    assert rviz.arguments == ['-d', str(CONFIG / 'segnet.rviz')]
    assert dict(rviz.remappings) == {'/segmentation/image': image,
                                     '/segmentation/overlay': outputs + '/overlay',
                                     '/segmentation/color_mask': outputs + '/color_mask'}


@pytest.mark.parametrize('said, sim_time', [('', False), ('false', False), ('true', True)])
def test_rviz_takes_the_bag_s_time(started, said, sim_time):
    _, rviz = started('segnet.launch.py', rviz='1', use_sim_time=said)
    assert rviz.parameters == [{'use_sim_time': True}] * sim_time  # else a group may say it


@pytest.mark.parametrize('large_images, own, given', [
    ('true', None, dict.fromkeys(_variables_read(), str(CONFIG / 'fastdds_large_images.xml'))),
    ('false', None, {'FASTDDS_BUILTIN_TRANSPORTS': 'DEFAULT'}),
    *(('true', name, {}) for name in OWN_SETTINGS)])
def test_all_that_is_started_gets_the_shared_memory(started, monkeypatch, large_images, own,
                                                    given):
    if own:
        monkeypatch.setenv(own, 'mine')
    for file, arguments in (('segnet.launch.py', {'bag': '/bag'}), ('demo.launch.py', {})):
        actions = started(file, rviz='true', large_images=large_images, **arguments)
        assert [action.additional_env for action in actions] == [given] * 3


def test_the_demo_replays_what_the_node_segments_and_rviz_shows(started):
    replay, node, rviz = started('demo.launch.py')
    assert replay.cmd == ['/lib/segnet_ros/segnet', 'replay', 'sample', '--loop', '--topic',
                          '/sample/image_raw']
    assert node.remappings[0] == ('image', '/sample/image_raw')
    assert dict(rviz.remappings)['/segmentation/image'] == '/sample/image_raw'
    replay, node = started('demo.launch.py', source='/a.mp4', image='/a', rviz='false')
    assert replay.cmd[1:] == ['replay', '/a.mp4', '--loop', '--topic', '/a']
    assert node.remappings[0] == ('image', '/a')
    replay, node = started('demo.launch.py', rviz='false', use_sim_time='true')
    assert replay.cmd[-1] == '--clock' and node.parameters == [{'use_sim_time': True}]
    with pytest.raises(ValueError, match='image:=/{camera}/raw: the demo plays to one camera'):
        started('demo.launch.py', image='/{camera}/raw', camera_names='front,rear')


@pytest.fixture
def ros2_launch():
    """Return the command that runs launch files; skip if they cannot run."""
    pytest.importorskip('launch_ros')
    ament_index = pytest.importorskip('ament_index_python')
    if shutil.which('ros2') is None:
        pytest.skip('no ros2 command')
    try:
        ament_index.get_package_share_directory('segnet_ros')
    except ament_index.PackageNotFoundError:
        pytest.skip('segnet_ros is not in the ament index: build it with colcon and source it')
    return ['ros2', 'launch', 'segnet_ros']


@pytest.mark.parametrize('file', FILES)
def test_arguments_are_shown(ros2_launch, file):
    shown = subprocess.run([*ros2_launch, file, '--show-args'], capture_output=True, text=True)
    assert shown.returncode == 0, shown.stderr
    for name in declared(file):
        assert f"'{name}':" in shown.stdout
    assert 'No description given' not in shown.stdout


@pytest.mark.parametrize('large_images', ['true', 'false'])
def test_demo_sends_masks_and_ends_well(ros2_launch, large_images):
    rclpy = pytest.importorskip('rclpy')
    from rclpy.executors import SingleThreadedExecutor
    from sensor_msgs.msg import Image
    launched = subprocess.Popen(
        [*ros2_launch, 'demo.launch.py', 'rviz:=false', f'large_images:={large_images}'],
        env={**os.environ, 'ROS_DOMAIN_ID': str(DOMAIN)}, start_new_session=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    context = rclpy.Context()
    rclpy.init(context=context, domain_id=DOMAIN)
    node = rclpy.create_node('probe', context=context)
    masks = []
    node.create_subscription(Image, '/segmentation/mask', masks.append, 1)
    executor = SingleThreadedExecutor(context=context)
    executor.add_node(node)
    try:
        deadline = time.monotonic() + 60
        while len(masks) < 3 and time.monotonic() < deadline and launched.poll() is None:
            executor.spin_once(timeout_sec=0.2)
    finally:
        node.destroy_node()
        rclpy.try_shutdown(context=context)
        launched.send_signal(signal.SIGINT)
        output, _ = launched.communicate(timeout=30)
    assert len(masks) >= 3 and masks[0].encoding == 'mono8', output
    assert 'process has died' not in output and 'Traceback' not in output, output


@pytest.mark.parametrize('file', ['segnet.launch.py', 'demo.launch.py'])
@pytest.mark.parametrize('name', ['use_sim_time', 'autostart', 'rviz', 'large_images', 'respawn'])
def test_what_is_neither_true_nor_false_is_refused(started, file, name):
    with pytest.raises(ValueError, match=f'{name}:=ja is neither true nor false'):
        started(file, **{name: 'ja'})


@pytest.mark.parametrize('word, respawn', [
    ('yes', True), ('On', True), ('1', True), ('no', False), ('OFF', False), ('0', False)])
def test_other_words_for_true_and_false_are_understood(started, word, respawn):
    node, = started('segnet.launch.py', respawn=word)
    assert node.respawn is respawn


def test_a_parameters_file_that_is_not_there_is_refused(started, tmp_path, monkeypatch):
    monkeypatch.setenv('HOME', str(tmp_path))
    with pytest.raises(ValueError, match=f'parameters:={tmp_path}/my.yaml is not a file'):
        started('segnet.launch.py', parameters='~/my.yaml')
    (tmp_path / 'my.yaml').write_text('{}')
    node, = started('segnet.launch.py', parameters='~/my.yaml')
    assert node.parameters[0] == str(tmp_path / 'my.yaml')


@pytest.mark.parametrize('namespace, outputs', [
    ('segmentation', '/robot1/segmentation'), ('/segmentation', '/segmentation'),
    ('', '/robot1')])
def test_rviz_is_led_into_the_namespace_of_a_group(started, namespace, outputs):
    _, rviz = started('segnet.launch.py', rviz='true', namespace=namespace,
                      ros_namespace='/robot1')
    assert dict(rviz.remappings)['/segmentation/overlay'] == outputs + '/overlay'


@pytest.mark.parametrize('file', ['segnet.launch.py', 'demo.launch.py'])
@pytest.mark.parametrize('image, group, topic', [
    ('cam/raw', '', '/cam/raw'), ('cam/raw', '/robot1', '/robot1/cam/raw'),
    ('/cam/raw/', '/robot1', '/cam/raw')])
def test_a_relative_topic_is_the_same_one_for_all(started, file, image, group, topic):
    *player, node, rviz = started(file, rviz='true', image=image, ros_namespace=group)
    assert node.remappings[0] == ('image', topic)
    assert dict(rviz.remappings)['/segmentation/image'] == topic
    assert [process.cmd[-1] for process in player] == [topic] * (file == 'demo.launch.py')
