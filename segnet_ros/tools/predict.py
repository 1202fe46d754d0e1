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


"""`segnet predict`: parse, predict, report."""

import argparse
from pathlib import Path
import sys

from segnet_ros.processes import SOME_LEFT_OUT
from segnet_ros.resources import DEFAULT_WEIGHTS
from segnet_ros.tools.arguments import add_model_arguments, keep_stdout_for


def add_arguments(parser: argparse.ArgumentParser):
    """Declare the verb's arguments."""
    parser.epilog = ('Exit code: 0 all done; 1 ended by an error; 3 something was left out (a '
                     'file, a frame, or its place in the video), each time with a message.')
    parser.add_argument('inputs', nargs='+', metavar='INPUT',
                        help="image, folder of images, quoted pattern ('data/**/*.png'), video, "
                             'rosbag2, sample[:SEED], camera:N')
    parser.add_argument('-o', '--out', type=Path, metavar='FOLDER',
                        help='write pictures: FOLDER/mask/NAME.png and so on')
    parser.add_argument('--write', nargs='+', metavar='KIND',
                        choices=('mask', 'color_mask', 'overlay', 'confidence'),
                        help='which pictures: mask (class ids, the default), color_mask, overlay, '
                             'confidence')
    parser.add_argument('--video', type=Path, metavar='FILE.mp4',
                        help='write a video, input above, segmentation below')
    parser.add_argument('--below', choices=('color_mask', 'overlay'), default='color_mask',
                        help="the video's lower half (color_mask)")
    parser.add_argument('--statistics', type=Path, metavar='FILE.csv',
                        help="write each class's pixels, share and confidence in every frame")
    parser.add_argument('--fps', type=float, default=15.0,
                        help='frame rate of a folder of images (15)')
    parser.add_argument('--topic', help='image topic to read, if a bag has several')
    parser.add_argument('--limit', type=int, metavar='N', help='stop after N frames')
    add_model_arguments(parser, DEFAULT_WEIGHTS)


def main(args: argparse.Namespace) -> int:
    """Predict, then say where the results are."""
    if not (args.out or args.video or args.statistics):
        raise ValueError('nothing to write; give -o FOLDER, --video FILE.mp4 or '
                         '--statistics FILE.csv')
    if args.write and not args.out:
        raise ValueError('--write: say where with -o FOLDER')
    if args.limit is not None and args.limit < 1:
        raise ValueError(f'--limit {args.limit}: give at least 1')
    from tqdm import tqdm

    from segnet_ros.prediction import predict, Results
    from segnet_ros.predictor import Predictor
    results = Results(args.out, tuple(args.write or ['mask']), args.video, args.below,
                      args.statistics)
    outcome = predict(
        args.inputs, Predictor(args.weights, args.device, args.precision), results, args.fps,
        args.limit, lambda error: tqdm.write(f'left out: {error}', sys.stderr), progress=True,
        topic=args.topic)
    with keep_stdout_for(args.video, args.statistics):
        print(f'{outcome.frames} frames segmented')
        if outcome.left_out:
            print(f'messages about what was left out: {len(outcome.left_out)}')
        if not outcome.frames:
            return 1
        for path in (args.out, args.video, args.statistics):
            if path:
                print(path)
    return SOME_LEFT_OUT if outcome.left_out else 0
