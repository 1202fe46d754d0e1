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
Check the launch files and what they name; run them for real where ROS brings `launch`.

The Python wheels have no `launch`, so that without ROS the files are read, not run.
"""

import ast
import os
import shutil
import signal
import subprocess
import time

import pytest
from ros_domain import free_domain
import yaml

from segnet_ros.resources import share_directory

LAUNCH = share_directory() / 'launch'
CONFIG = share_directory() / 'config'
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
    for name in ('segnet.yaml', 'segnet.rviz', 'fastdds_large_images.xml'):
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


@pytest.fixture
def ros2_launch():
    """Return the command that runs launch files; skip where they cannot run."""
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
