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

"""Check that the core never imports ROS, and that `segnet --help` imports next to nothing."""

import ast
import importlib.util
from pathlib import Path
import pkgutil
import re
import subprocess
import sys

import pytest

import segnet_ros

MODULES = sorted(module.name for module in pkgutil.walk_packages(
    segnet_ros.__path__, 'segnet_ros.') if not module.name.startswith('segnet_ros.ros'))
TOOLS = [name for name in MODULES if name.startswith('segnet_ros.tools')]
CORE = [name for name in MODULES if name not in TOOLS]

ROS = re.compile(r'(rclpy|rcl|rosidl|ament|launch|rosbag2|cv_bridge|vision_msgs'
                 r'|rosgraph_msgs|rcl_interfaces|builtin_interfaces|\w+_msgs|\w+_srvs)(_|$)')
# Run first in each process, to simulate a machine without ROS.
WITHOUT_ROS = f"""
import importlib
import re
import sys

ROS = re.compile({ROS.pattern!r})

class NoROS:
    def find_spec(self, name, path=None, target=None):
        if ROS.match(name.partition('.')[0]):
            raise ModuleNotFoundError(f'{{name}}: this machine has no ROS', name=name)

sys.meta_path.insert(0, NoROS())
"""


def run(code: str, *arguments: str) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, '-c', WITHOUT_ROS + code, *arguments],
                          capture_output=True, text=True)


def test_the_walk_finds_the_core():
    sources = {path.stem for path in Path(segnet_ros.__path__[0]).glob('*.py')} - {'__init__'}
    assert {f'segnet_ros.{name}' for name in sources} <= set(CORE)
    assert 'segnet_ros.networks.segnet' in CORE and 'segnet_ros.tools.cli' in TOOLS


@pytest.mark.parametrize('names', [CORE, TOOLS], ids=['core', 'tools'])
def test_modules_import_where_there_is_no_ros(names):
    done = run('for name in sys.argv[1:]: importlib.import_module(name)', *names)
    assert done.returncode == 0, done.stderr


def imported(source: str) -> set[str]:
    """Return the names of all modules that a source imports, including inside functions."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.module and not node.level, 'name modules in full'
            found |= {node.module, *(f'{node.module}.{alias.name}' for alias in node.names)}
    return found


def needs_ros(name: str) -> bool:
    return bool(ROS.match(name.partition('.')[0])) or f'{name}.'.startswith('segnet_ros.ros.')


@pytest.mark.parametrize('name', CORE)
def test_no_function_of_the_core_imports_ros_either(name):
    source = Path(importlib.util.find_spec(name).origin).read_text()
    assert not [module for module in imported(source) if needs_ros(module)]


def test_nothing_imports_the_command_line_but_itself():
    sources = [path for path in Path(segnet_ros.__path__[0]).rglob('*.py')
               if path.parent.name != 'tools']
    assert len(sources) > 50
    assert not [path for path in sources if any(
        f'{module}.'.startswith('segnet_ros.tools.') for module in imported(path.read_text()))]


@pytest.mark.parametrize('code', [
    'import rclpy', 'import os, sensor_msgs.msg', 'from rclpy.node import Node',
    'from segnet_ros import ros', 'from segnet_ros.ros.worker import Worker',
    'import segnet_ros.ros.worker as worker'])
def test_an_import_of_ros_inside_a_function_is_found(code):
    assert any(map(needs_ros, imported(f'def work():\n    {code}')))


@pytest.mark.parametrize('name', ['rclpy', 'sensor_msgs.msg', 'std_srvs', 'cv_bridge'])
def test_the_block_holds(name):
    done = run(f'import {name}')
    assert 'this machine has no ROS' in done.stderr


def test_help_lists_every_verb_and_loads_nothing_heavy():
    done = run("""
from segnet_ros.tools.cli import main
try:
    main(['--help'])
finally:
    heavy = {'torch', 'lightning', 'cv2', 'matplotlib', 'numpy', 'gradio'} & set(sys.modules)
    assert not heavy, heavy
""")
    assert done.returncode == 0, done.stderr
    for name in TOOLS:
        verb = name.rpartition('.')[2].replace('_', '-')
        listed = re.search(rf'^    {verb}\b', done.stdout, re.MULTILINE)
        assert verb in ('tools', 'cli', 'arguments') or listed, f'{verb} is not listed'


def test_ctrl_c_while_a_verb_is_imported_ends_without_a_traceback():
    done = run("""
import importlib
from segnet_ros.tools.cli import main
def interrupted(name):
    raise KeyboardInterrupt
importlib.import_module = interrupted
sys.exit(main(['predict', '--help']))
""")
    assert (done.returncode, done.stderr) == (130, '')
