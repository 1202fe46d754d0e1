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

"""What a benchmark ran on: device, precision, processor, versions, and how busy it was before."""

import importlib
from importlib import metadata
import os
import platform

import torch

from segnet_ros.bench.plan import Plan
from segnet_ros.runtime import device_name

BUSY = 0.3  # load average as a share of the cores; more disturbs the times


def describe(plan: Plan) -> dict:
    """Return the conditions that the results depend on; plain types."""
    load = os.getloadavg()[0]
    cores = len(os.sched_getaffinity(0))
    on_cuda = plan.device.type == 'cuda'
    return {
        'device': device_name(plan.device),
        'precision': plan.precision,
        'cpu': _cpu_model(), 'cores': cores, 'torch_threads': torch.get_num_threads(),
        'load_average': load, 'busy': load > BUSY * cores,
        'cuda': torch.version.cuda if on_cuda else None,
        'python': platform.python_version(),
        **{name: _version(name) for name in ('torch', 'numpy', 'cv2', 'openvino', 'rclpy')},
        'network': f'{plan.info.architecture}, width {plan.info.width:g}',
    }


def _cpu_model() -> str:
    with open('/proc/cpuinfo') as file:
        for line in file:
            if line.startswith(('model name', 'Model')):
                return line.partition(':')[2].strip()
    return platform.machine()


def _version(module: str) -> str | None:
    """Return a module's version, None if it is not installed."""
    try:
        found = importlib.import_module(module)
    except ImportError:
        return None
    if hasattr(found, '__version__'):
        return str(found.__version__)
    # rclpy has no __version__; its package metadata or its ROS distribution tells.
    try:
        return metadata.version(module)
    except metadata.PackageNotFoundError:
        return os.environ.get('ROS_DISTRO', 'unknown')
