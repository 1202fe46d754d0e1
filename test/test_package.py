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

"""Build the package with colcon and with pip, and check what is installed and what is declared."""

import ast
import os
from pathlib import Path
import shutil
import subprocess
import sys
from zipfile import ZipFile

import pytest

ROOT = Path(__file__).parent.parent
LISTED = subprocess.run('git ls-files', cwd=ROOT, capture_output=True, text=True, shell=True)
if LISTED.returncode:
    pytest.skip('no git checkout, or no git', allow_module_level=True)
TRACKED = [name for name in LISTED.stdout.splitlines() if (ROOT / name).is_file()]
FOLDERS = ('config', 'docs', 'examples', 'launch', 'resource')
SHARED = [name for name in TRACKED if name.split('/')[0] in FOLDERS
          and name != 'resource/segnet_ros'] + ['LICENSE', 'package.xml']

# What package.xml calls the modules that are not ROS packages. None if rosdep has no key, or if
# the node works without the module and an extra in setup.py installs it.
ROSDEP_KEYS = {
    'cv2': 'python3-opencv', 'numpy': 'python3-numpy', 'rosbags': 'python3-rosbags-pip',
    'torch': 'python3-pytorch-pip', 'tqdm': 'python3-tqdm', 'yaml': 'python3-yaml',
    'safetensors': None, **dict.fromkeys(('backports', 'compression'), 'python3-rosbags-pip'),
    **dict.fromkeys(
        ('av', 'gradio', 'lightning', 'matplotlib', 'PIL', 'pytorch_optimizer', 'ray',
         'torchmetrics'))}


@pytest.fixture(scope='module')
def checkout(tmp_path_factory):
    """Return a copy of what a fresh clone would have."""
    copy = tmp_path_factory.mktemp('workspace') / 'src' / 'segnet_ros'
    for name in TRACKED:
        (copy / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, copy / name)
    return copy


@pytest.fixture(scope='module', params=[(), ('--symlink-install',)], ids=['copied', 'symlinked'])
def installed(request, checkout, tmp_path_factory):
    """Return the package's prefix in an install space that colcon built."""
    workspace = tmp_path_factory.mktemp('colcon')
    colcon = Path(sys.executable).with_name('colcon')
    if not colcon.is_file():
        colcon = shutil.which('colcon') or pytest.skip('no colcon: pip install .[test]')
    done = subprocess.run(
        [colcon, 'build', '--base-paths', checkout, *request.param], cwd=workspace,
        env={'AMENT_PREFIX_PATH': sys.prefix, **os.environ}, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    assert done.returncode == 0, done.stdout
    return workspace / 'install' / 'segnet_ros'


def run_installed(prefix: Path, *command, cwd) -> str:
    """Run a command in a shell that has sourced the install space; return what it prints."""
    script = '. "$0/share/segnet_ros/package.sh" && exec "$@"'
    environment = {**os.environ, 'COLCON_CURRENT_PREFIX': str(prefix)}
    done = subprocess.run(['sh', '-c', script, prefix, *command], cwd=cwd, env=environment,
                          capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_share_holds_all_that_a_user_may_name(installed):
    share = installed / 'share' / 'segnet_ros'
    assert [name for name in SHARED if not (share / name).is_file()] == []
    assert (installed / 'share/ament_index/resource_index/packages/segnet_ros').is_file()


def test_ros2_run_finds_the_executables(installed, tmp_path):
    folder = installed / 'lib' / 'segnet_ros'
    assert {path.name for path in folder.iterdir()} == {'segnet', 'segnet_node'}
    assert all(os.access(path, os.X_OK) for path in folder.iterdir())
    assert 'VERB' in run_installed(installed, folder / 'segnet', '--help', cwd=tmp_path)


def test_node_is_found_from_the_install_space(installed, tmp_path):
    pytest.importorskip('rclpy')
    code = ('from importlib.metadata import distribution as d; '
            "print(d('segnet_ros').entry_points['segnet_node'].load().__module__)")
    printed = run_installed(installed, sys.executable, '-c', code, cwd=tmp_path)
    assert printed.strip() == 'segnet_ros.ros.main'


def test_labels_and_weights_are_found_from_the_install_space(installed, checkout, tmp_path):
    code = """
import sys
import segnet_ros
from segnet_ros.labels import load_label_set
from segnet_ros.resources import find_resource
print(segnet_ros.__file__)
for name in sys.argv[1:]:
    folder, _, file = name.rpartition('/')
    found = find_resource(file, folder, '.' + file.rpartition('.')[2])
    if folder == 'config/labels':
        load_label_set(file.removesuffix('.yaml'))
    print(found)
"""
    names = [name for name in SHARED if name.startswith('config/labels/')
             or name.endswith('.safetensors')]
    assert 'config/labels/camvid11.yaml' in names
    printed = run_installed(installed, sys.executable, '-c', code, *names, cwd=tmp_path)
    for path in map(Path, printed.split()):
        assert {installed, checkout} & set(path.resolve().parents), path


def test_versions_agree(installed, tmp_path):
    code = "from importlib.metadata import version; print(version('segnet_ros'))"
    printed = run_installed(installed, sys.executable, '-c', code, cwd=tmp_path)
    assert printed.strip() == package_xml().version


def test_wheel_puts_the_commands_and_files_in_place(checkout, tmp_path):
    subprocess.run([sys.executable, '-m', 'pip', 'wheel', '-q', '--no-deps', '-w', tmp_path,
                    '--no-build-isolation', checkout], check=True, capture_output=True)
    wheel = ZipFile(next(tmp_path.glob('segnet_ros-*.whl')))
    names = set(wheel.namelist())
    data = next(name.split('/')[0] for name in names if '.data/' in name)
    assert {f'{data}/data/share/segnet_ros/{name}' for name in SHARED} <= names
    assert {name.split('/')[0].split('-')[0] for name in names} == {'segnet_ros'}
    info = next(name for name in names if name.endswith('entry_points.txt'))
    for command in ('segnet = segnet_ros.tools.cli:main',
                    'segnet_node = segnet_ros.ros.main:main'):
        assert command in wheel.read(info).decode()


def package_xml():
    catkin_pkg = pytest.importorskip('catkin_pkg.package')
    return catkin_pkg.parse_package(str(ROOT / 'package.xml'))


def test_package_xml_is_valid():
    package, warnings = package_xml(), []
    package.validate(warnings=warnings)
    assert warnings == []
    assert package.get_build_type() == 'ament_python'
    assert package.licenses == ['Apache-2.0', 'LicenseRef-CamVid-research']


def test_package_xml_names_all_that_is_imported():
    declared = {d.name for d in package_xml().exec_depends}
    imported = {module.partition('.')[0] for name in TRACKED if name.endswith('.py')
                and name.split('/')[0] in ('segnet_ros', 'launch', 'examples')
                for module in imports(ROOT / name)}
    needed = {ROSDEP_KEYS.get(module, module)
              for module in imported - sys.stdlib_module_names - {'segnet_ros'}}
    assert needed - {None} - declared == set()


def imports(path: Path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level:
            yield node.module
