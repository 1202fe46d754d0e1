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

"""`segnet evaluate`: parse, score, print tables, write JSON and pictures."""

import argparse
import json
from pathlib import Path

from segnet_ros.tools.arguments import add_model_arguments, keep_stdout_for
from segnet_ros.whole_file import write_whole


def add_arguments(parser: argparse.ArgumentParser):
    """Declare the verb's arguments."""
    add_model_arguments(parser)
    parser.add_argument('--data', required=True,
                        help='folder with SPLIT/ images and SPLITannot/ masks (PNG ids)')
    parser.add_argument('--split', default='val',
                        help="split; several joined by '+'; 'train:0006R0' for one drive (val)")
    parser.add_argument('--json', type=Path, help='file for all scores')
    parser.add_argument('--size', type=parse_size, metavar='HxW',
                        help="size of the network's input, height first (as it was trained)")
    parser.add_argument('--label-set', help="label set of the annotations (the weights' own)")
    parser.add_argument('--plots', type=Path, metavar='FOLDER',
                        help='write the confusion matrix and the best and worst frames as PNG')
    parser.add_argument('--robustness', action='store_true',
                        help='also score darkened, blurred, rainy, JPEG and tilted frames')


def parse_size(text: str) -> tuple[int, int]:
    """Return (height, width) from HxW, e.g. 360x480."""
    height, x, width = text.partition('x')
    if not (x and height.isdecimal() and width.isdecimal() and int(height) and int(width)):
        raise argparse.ArgumentTypeError(f"'{text}' is not HxW, e.g. 360x480")
    return int(height), int(width)


def main(args: argparse.Namespace):
    """Evaluate and print; write what was asked for."""
    from segnet_ros.training.evaluate import evaluate
    if args.plots:  # fail before scoring if matplotlib is missing
        from segnet_ros.training.plots import save_plots
    evaluation = evaluate(args.weights, args.data, args.split, args.size, args.label_set,
                          args.robustness, args.device, args.precision)
    with keep_stdout_for(args.json):
        _print_scores(evaluation.result)
        if args.json:
            write_whole(args.json, (json.dumps(evaluation.result, indent=1) + '\n').encode())
            print(f'scores: {args.json}')
        if args.plots:
            for path in save_plots(evaluation, args.plots):
                print(f'picture: {path}')


def _print_scores(result: dict):
    """Print the scores in percent, as papers give them."""
    size = 'x'.join(map(str, result['size'])) if result['size'] else "of each frame's own shape"
    print(f'{result["weights"]} on {result["frames"]} frames of {result["split"]}, network input '
          f'{size}, {result["precision"]}')
    for name, value in result['per_class_iou'].items():
        print(f'  IoU {name:18}{_percent(value)}')
    for key in ('miou', 'global_accuracy', 'class_average_accuracy', 'boundary_f1',
                'calibration_error'):
        print(f'{key.replace("_", " "):24}{_percent(result[key])}')
    if 'robustness' in result:
        print(f'{"corruption":18}{"miou":>8}{"global":>8}{"BF":>8}')
        for name, found in result['robustness'].items():
            print(f'{name:18}' + ''.join(f'  {_percent(value)}' for value in found.values()))


def _percent(value: float | None) -> str:
    return '     -' if value is None else f'{100 * value:6.1f}'
