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

"""Install the package with colcon (`colcon build`) or with pip (`pip install .[ros]`)."""

import os
from pathlib import Path

from setuptools import find_packages, setup

NAME = 'segnet_ros'
DISTRO = os.environ.get('ROS_WHEELS') or 'jazzy'  # or kilted


def wheels(*names: str) -> list[str]:
    """Return the names of ROS packages as PyPI has them."""
    return [f'ros-{DISTRO}-{name}' for name in names]


# ROS 2 as Python wheels, for a machine that has no ROS.
ROS = [
    *wheels('rclpy[fastrtps]', 'diagnostic-msgs', 'lifecycle-msgs', 'rosgraph-msgs',
            'sensor-msgs', 'std-msgs', 'std-srvs'),
    # What Ubuntu 24.04, and so Jazzy and Kilted, ship. Only here: with ROS installed, both come
    # from apt (package.xml).
    'numpy<2',
    'opencv-python-headless<5',
]

# To segment folders of bags on several machines.
RAY = ['ray']

TRAIN = ['lightning>=2.6.1', 'matplotlib>=3.10', 'pytorch-optimizer>=4.1', 'torchmetrics>=1.4']

# H.264, which OpenCV's wheels cannot write; PyAV 12.3 and later write the colours that they tag.
VIDEO = ['av>=12.3']

# PyAV 14.2 and later report the rotation of a frame.
DEMO = ['av>=14.2', 'gradio>=6.31,<7', 'pillow']

TEST = [
    *RAY,
    'catkin-pkg',
    'colcon-core',
    'colcon-output',
    'colcon-python-setup-py',
    'colcon-ros',
    'hypothesis',
    'mypy',
    'playwright',
    'pytest',
    'pytest-timeout',
    'ruff',
    'types-PyYAML',
    'types-tqdm',
    # The two ROS linters leave what they call to apt; these are the packages apt chooses.
    *wheels('ament-flake8', 'ament-pep257'),
    'flake8',
    'flake8-blind-except',
    'flake8-builtins',
    'flake8-class-newline',
    'flake8-comprehensions',
    'flake8-deprecated',
    'flake8-docstrings',
    'flake8-import-order',
    'flake8-quotes',
    'pydocstyle',
]

# The generators with which the tests build vision_msgs, which the wheels lack.
# Most of them leave what they call to apt.
ROS_TEST = [
    'cv-bridge==1.13.0.post0',  # a stand-in for ROS's own, to compare our conversions with
    'empy<4',
    *wheels('ament-cmake', 'ament-cmake-export-interfaces', 'ament-cmake-gmock',
            'ament-cmake-gtest', 'ament-cmake-include-directories', 'ament-cmake-pytest',
            'ament-cmake-ros', 'ament-package', 'rosidl-core-generators',
            'rosidl-default-generators',
            'python-cmake-module' if DISTRO == 'jazzy' else 'ament-cmake-ros-core'),
]


def data_files(*folders: str) -> list[tuple[str, list[str]]]:
    """Return all files below the folders by the directory that they are installed in."""
    found = {}
    for path in sorted(p for folder in folders for p in Path(folder).rglob('*')):
        if path.is_file() and path.name != NAME and '__pycache__' not in path.parts:
            found.setdefault(f'share/{NAME}/{path.parent.as_posix()}', []).append(path.as_posix())
    return list(found.items())


setup(
    name=NAME,
    version='0.1.0',
    packages=find_packages(exclude=['test', 'test.*']),
    data_files=[
        ('share/ament_index/resource_index/packages', [f'resource/{NAME}']),
        (f'share/{NAME}', ['LICENSE', 'package.xml']),
        *data_files('config', 'docs', 'examples', 'launch', 'resource'),
    ],
    zip_safe=True,
    python_requires='>=3.11',
    # Needed everywhere; colcon does not get these from PyPI, package.xml names them.
    install_requires=[
        'numpy', 'pyyaml', 'rosbags>=0.11.7', 'safetensors', 'torch>=2.7', 'tqdm'],
    extras_require={
        'ros': ROS, 'video': VIDEO, 'demo': DEMO, 'ray': RAY, 'train': TRAIN,
        'test': TEST, 'ros-test': ROS_TEST},
    maintainer='segnet_ros maintainers',
    maintainer_email='maintainers@segnet-ros.example',
    description='Street scene segmentation with SegNet, for ROS 2.',
    license='Apache-2.0',
    entry_points={
        'console_scripts': [
            'segnet = segnet_ros.tools.cli:main',
            'segnet_node = segnet_ros.ros.main:main',
        ],
    },
)
