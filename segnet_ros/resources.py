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
Where the package's own files are: label sets, weights, launch and configuration files.

Works the same in a checkout, in a virtual environment and in a colcon install space, and uses no
ROS index, so that the core runs without ROS.
"""

import os
from pathlib import Path

DEFAULT_WEIGHTS = 'segnet_half_camvid11'  # of the node and of every verb


def share_directory() -> Path:
    """Return the folder that holds config/, launch/ and resource/."""
    for parent in Path(__file__).resolve().parents:
        if (parent / 'package.xml').is_file():
            return parent
        if (parent / 'share' / 'segnet_ros' / 'config').is_dir():
            return parent / 'share' / 'segnet_ros'
    raise FileNotFoundError(
        f'no share/segnet_ros above {Path(__file__).resolve()}: install the package with '
        '`pip install .` or `colcon build`')


def find_resource(name_or_path: str, folder: str, suffix: str) -> Path:
    """
    Return the file given by a path or by the bare name of one of the package's own files.

    :param name_or_path: a path to any file, or a name such as 'camvid11'.
    :param folder: the package's folder that holds the named files, e.g. 'config/labels'.
    :param suffix: what a bare name leaves out, e.g. '.yaml'.
    :raises FileNotFoundError: saying what was looked for and which names exist.
    """
    path = Path(os.path.expanduser(name_or_path))
    if path.is_file():
        return path
    own = share_directory() / folder
    named = own / (name_or_path.removesuffix(suffix) + suffix)
    if named.is_file():
        return named
    known = sorted(p.name.removesuffix(suffix) for p in own.glob('*' + suffix))
    raise FileNotFoundError(f"no file '{name_or_path}', and no such name in {own} "
                            f"(names there: {', '.join(known) or 'none'})")
