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

"""`segnet balance`: parse, find the class biases, print the line for a recipe and its gain."""

import argparse
import math
from pathlib import Path

import yaml

from segnet_ros.tools.arguments import add_device_argument, keep_stdout_for


def add_arguments(parser: argparse.ArgumentParser):
    """Declare the verb's arguments."""
    parser.add_argument('--weights', required=True,
                        help='a .safetensors file or a shipped name, not trained on these frames')
    parser.add_argument('--data', required=True,
                        help='folder with SPLIT/ images and SPLITannot/ masks (PNG ids)')
    parser.add_argument('--split', action='append', metavar='SPLIT[:NAME]',
                        help='split, or its images whose names start with NAME, e.g. '
                             "'train:0006R0'; may be repeated, with equal weight (val)")
    parser.add_argument('--output', type=Path, help='file for the weights with the biases added')
    add_device_argument(parser)


def main(args: argparse.Namespace):
    """Balance and print."""
    from segnet_ros.training.balance import balance
    with keep_stdout_for(args.output):
        found = balance(args.weights, args.data, args.split or ['val'], args.device, args.output)
        for split, (before, after) in found.miou.items():
            print(f'{split:24}mIoU {100 * before:5.1f} -> {100 * after:5.1f}')
        rounded = {name: round(bias, 2) for name, bias in found.class_bias.items()}
        # YAML that a recipe accepts, whatever the classes are called.
        print('class_bias: ' + yaml.safe_dump(rounded, default_flow_style=True, sort_keys=False,
                                              width=math.inf).strip())
        if args.output:
            print(f'weights: {args.output}')
