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

"""Commands that install the optional extras of setup.py, to show to users."""

from pathlib import Path
import shlex
import sys
import sysconfig


def pip_install(*packages: str) -> str:
    """Return the pip command that installs these packages for this Python."""
    # pip refuses to change a distribution-managed Python, such as Ubuntu's, unless told (PEP 668).
    managed = sys.prefix == sys.base_prefix and Path(
        sysconfig.get_path('stdlib'), 'EXTERNALLY-MANAGED').is_file()
    return ' '.join(['pip install', *['--break-system-packages'] * managed,
                     *map(shlex.quote, packages)])


def install_extra(extra: str) -> str:
    """Return the command that installs the packages of an extra of this package."""
    # Imported here, since every command would wait for it.
    from importlib.metadata import PackageNotFoundError, requires
    # List the packages by name: segnet_ros itself is installed by colcon and on no index.
    try:
        required = requires('segnet_ros') or []
    except PackageNotFoundError:  # run from the source tree, not installed
        return pip_install(f'.[{extra}]')
    return pip_install(*(r.partition(';')[0].strip() for r in required
                         if r.endswith(f'extra == "{extra}"')))
