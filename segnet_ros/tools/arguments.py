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

"""What several verbs of `segnet` have in common: arguments, and where they print."""

import argparse
from contextlib import AbstractContextManager, nullcontext, redirect_stdout
import os
from pathlib import Path
import sys


def keep_stdout_for(*outputs: Path | None) -> AbstractContextManager:
    """Print to stderr during the block if one of these files is standard output itself."""
    try:
        own = os.fstat(sys.stdout.fileno())
    except OSError:  # not a file
        return nullcontext()
    taken = any(path.exists() and os.path.samestat(path.stat(), own) for path in outputs if path)
    return redirect_stdout(sys.stderr) if taken else nullcontext()


def add_device_argument(parser: argparse.ArgumentParser):
    """Declare --device."""
    parser.add_argument('--device', default='auto', help='auto, cpu, cuda or cuda:N (%(default)s)')


def add_precision_argument(parser: argparse.ArgumentParser):
    """Declare --precision."""
    parser.add_argument('--precision', default='auto',
                        help='auto, float32, bfloat16, float16 or int8 (%(default)s)')


def add_model_arguments(parser: argparse.ArgumentParser, default: str | None = None):
    """
    Declare --weights, --device and --precision, as predictor.Predictor takes them.

    :param default: of --weights; without one it is required.
    """
    parser.add_argument('--weights', default=default, required=default is None,
                        help='a .safetensors file or a shipped name'
                             + (' (%(default)s)' if default else ''))
    add_device_argument(parser)
    add_precision_argument(parser)


def add_domain_argument(parser: argparse.ArgumentParser):
    """Declare --domain, as own_domain.enter_domain takes it."""
    parser.add_argument('--domain', type=int, metavar='ID',
                        help='ROS domain to run in (a private one, ignoring ROS_DOMAIN_ID, so '
                             'that no robot receives these images)')
