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

"""`segnet train`: parse, load the recipe, hand over to training."""

import argparse
from pathlib import Path

import yaml


def add_arguments(parser: argparse.ArgumentParser):
    """Declare the verb's arguments."""
    parser.add_argument('--config', help='recipe, a YAML file such as config/train/*.yaml')
    parser.add_argument('--data', help='folder with SPLIT/ images and SPLITannot/ masks (PNG ids)')
    parser.add_argument('--split', help="split to train on; several joined by '+' (train)")
    parser.add_argument('--label-set', help='your own classes: a YAML file, or a shipped name')
    parser.add_argument('--init', help='weights to start from, by path or shipped name')
    parser.add_argument('--hold-out',
                        help='leave out frames whose names start with this, and score on them')
    parser.add_argument('--epochs', type=int, help='one phase of this many epochs of whole frames')
    parser.add_argument('--set', action='append', default=[], metavar='NAME=VALUE',
                        help='any other setting of the recipe, e.g. --set width=0.25')
    parser.add_argument('--output', type=Path, default=Path('training_output'),
                        help='folder for weights, metrics and state; resumes if it holds state')
    parser.add_argument('--accelerator', default='auto', choices=('auto', 'cpu', 'gpu'),
                        help='where to train (%(default)s)')
    parser.add_argument('--devices', type=int,
                        help="GPUs or CPU processes on each machine (all GPUs; torchrun's number)")
    parser.add_argument('--nodes', type=int, help="machines (torchrun's number)")


def main(args: argparse.Namespace):
    """Train, then say where the weights are."""
    from segnet_ros.training.config import load_config
    overrides = {name: getattr(args, name)
                 for name in ('data', 'split', 'label_set', 'init', 'hold_out')
                 if getattr(args, name) is not None}
    for setting in args.set:
        name, equals, value = setting.partition('=')
        if not equals:
            raise ValueError(f"--set needs NAME=VALUE, not '{setting}'")
        try:
            overrides[name] = yaml.safe_load(value)
        except yaml.YAMLError as error:
            raise ValueError(f"--set '{setting}' is not valid YAML: {error}") from error
    config = load_config(args.config, overrides)
    if args.epochs is not None:
        config = config.whole_frames(args.epochs)
    if not config.data:
        raise ValueError('--data is needed: a folder with train/, trainannot/, val/, valannot/')

    import lightning

    from segnet_ros.training.train import train
    weights = train(config, args.output, args.accelerator, args.devices, args.nodes)
    # If there are several processes, one tells.
    lightning.pytorch.utilities.rank_zero_only(_tell)(weights, args.output)


def _tell(weights: Path, output: Path):
    for what, path in (('weights', weights), ('metrics', output / 'metrics.csv'),
                       ('curves', output / 'curves.png')):
        if path.is_file():
            print(f'{what}: {path}')
