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
Give tests the vision_msgs messages if ROS comes as Python wheels, which lack them.

Builds test/interfaces/vision_msgs with the wheels' own generators, once, into a folder of the
virtual environment. If ROS has the real vision_msgs, that is used and nothing is built.
"""

import ctypes
from functools import cache
import hashlib
import importlib.util
import os
from pathlib import Path
import shutil
import subprocess
import sys
import tempfile

SOURCE = Path(__file__).parent / 'interfaces' / 'vision_msgs'


def vision_msgs_environment() -> dict[str, str]:
    """Return an environment in which a process finds vision_msgs; build them if needed."""
    prefix = vision_msgs_prefix()
    if prefix is None:
        return dict(os.environ)
    additions = {'LD_LIBRARY_PATH': prefix / 'lib', 'PYTHONPATH': _python_folder(prefix)}
    before = {name: [os.environ[name]] if os.environ.get(name) else [] for name in additions}
    return {**os.environ, **{name: os.pathsep.join([str(folder), *before[name]])
                             for name, folder in additions.items()}}


def import_vision_msgs():
    """Make `import vision_msgs` work in this process; build them if needed."""
    prefix = vision_msgs_prefix()
    if prefix is None or str(_python_folder(prefix)) in sys.path:
        return
    sys.path.insert(0, str(_python_folder(prefix)))
    # ROS loads these by bare name, and LD_LIBRARY_PATH is read only when a process starts; a
    # library that is already loaded is found anyway.
    for library in sorted((prefix / 'lib').glob('*.so')):
        ctypes.CDLL(str(library))


@cache
def vision_msgs_prefix() -> Path | None:
    """Return the folder that vision_msgs are installed in; None if ROS itself has them."""
    if importlib.util.find_spec('vision_msgs') is not None:
        return None
    digest = hashlib.sha256(sys.version.encode())
    for path in sorted(p for p in SOURCE.rglob('*') if p.is_file()):
        digest.update(path.name.encode() + b'\0' + path.read_bytes())
    prefix = Path(sys.prefix) / 'interfaces' / f'vision_msgs-{digest.hexdigest()[:12]}'
    if not prefix.is_dir():
        _build(prefix)
    return prefix


def _build(prefix: Path):
    for tool in ('cmake', 'c++'):
        if shutil.which(tool) is None:
            raise RuntimeError(f'building vision_msgs for the tests needs {tool}: '
                               'apt-get install cmake g++')
    prefix.parent.mkdir(exist_ok=True)
    # Build next to its final place, so that it appears there atomically: others may be waiting.
    with tempfile.TemporaryDirectory(dir=prefix.parent) as folder:
        build, install = Path(folder, 'build'), Path(folder, 'install')
        _run('cmake', '-S', SOURCE, '-B', build, '-DBUILD_TESTING=OFF',
             f'-DCMAKE_INSTALL_PREFIX={install}', '-DCMAKE_INSTALL_RPATH=$ORIGIN;$ORIGIN/../../..',
             f'-DCMAKE_PREFIX_PATH={sys.prefix}', f'-DPython3_EXECUTABLE={sys.executable}')
        _run('cmake', '--build', build, '--parallel', '2', '--target', 'install')
        try:
            install.rename(prefix)
        except OSError:  # Another process was faster.
            if not prefix.is_dir():
                raise


def _run(*command):
    environment = {'AMENT_PREFIX_PATH': sys.prefix, **os.environ}
    done = subprocess.run([str(c) for c in command], env=environment, text=True,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    if done.returncode:
        raise RuntimeError(f'building vision_msgs for the tests failed:\n{done.stdout[-4000:]}')


def _python_folder(prefix: Path) -> Path:
    return next(prefix.glob('l*/python*/*-packages'))
