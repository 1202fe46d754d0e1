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


"""`segnet segment-bag`: parse, segment one bag or a folder of them, report."""

import argparse
from pathlib import Path
import sys

from segnet_ros.processes import SOME_LEFT_OUT
from segnet_ros.resources import DEFAULT_WEIGHTS
from segnet_ros.tools.arguments import add_model_arguments


def add_arguments(parser: argparse.ArgumentParser):
    """Declare the verb's arguments."""
    parser.epilog = ('Results of /front/image_raw are in /front/segmentation/mask and so on. If '
                     'killed, run the same command again to resume. Exit code: 0 all done; 1 '
                     'ended by an error; 3 some images, cameras or bags, or the rest of a '
                     'damaged bag, could not be read and were left out, each named.')
    parser.add_argument('source', metavar='IN', help='rosbag2 (folder, .mcap, .db3), or a folder '
                                                     'of them')
    parser.add_argument('out', metavar='OUT', type=Path,
                        help='rosbag2 folder to create, or a folder for one per input bag')
    parser.add_argument('--write', nargs='+', default=['mask', 'statistics'], metavar='RESULT',
                        choices=('mask', 'color_mask', 'overlay', 'confidence', 'statistics'),
                        help='mask, color_mask, overlay, confidence, statistics (mask statistics)')
    parser.add_argument('--topic', action='append', default=[], metavar='TOPIC',
                        help="an image topic to segment; may be repeated (all; a camera's raw and "
                             'compressed images count as two)')
    parser.add_argument('--results-only', action='store_true',
                        help='leave the original messages out of the new bag')
    parser.add_argument('--storage', choices=('mcap', 'sqlite3'), default='mcap',
                        help="mcap (ROS 2 Jazzy's default) or sqlite3")
    parser.add_argument('--file-frames', type=int, default=1000, metavar='N',
                        help='images per file of the new bag; a resumed run repeats at most this '
                             'many (1000)')
    parser.add_argument('--workers', type=int, default=1, metavar='N',
                        help='segment N bags of a folder at a time, with ray (on the cluster that '
                             'RAY_ADDRESS names, if it is set)')
    add_model_arguments(parser, DEFAULT_WEIGHTS)


def main(args: argparse.Namespace) -> int:
    """Segment, then say how many images there were."""
    from segnet_ros.bags.folder import is_folder_of_bags
    from segnet_ros.bags.segmentation import BagOptions
    if args.workers < 1:
        raise ValueError('--workers must be at least 1')
    options = BagOptions(tuple(dict.fromkeys(args.write)), tuple(args.topic), args.results_only,
                         args.file_frames, args.storage)
    model = {'weights': args.weights, 'device': args.device, 'precision': args.precision}
    segment = _segment_folder if is_folder_of_bags(args.source) else _segment_one
    return segment(args, model, options)


def _segment_one(args: argparse.Namespace, model: dict, options) -> int:
    from tqdm import tqdm

    from segnet_ros.bags.segmentation import segment_bag
    from segnet_ros.predictor import Predictor
    outcome = segment_bag(args.source, args.out, Predictor(**model), options,
                          lambda error: tqdm.write(f'left out: {error}', sys.stderr),
                          progress=True)
    print(_describe(args.out, outcome))
    return 0 if outcome.is_whole else SOME_LEFT_OUT


def _segment_folder(args: argparse.Namespace, model: dict, options) -> int:
    from tqdm import tqdm

    from segnet_ros.bags.folder import find_jobs, segment_bags
    jobs = find_jobs(args.source, args.out, model, options)
    failed, whole = 0, True
    for report in tqdm(segment_bags(jobs, args.workers), total=len(jobs), unit='bag'):
        for error in report.errors:
            tqdm.write(f'left out: {error}', sys.stderr)
        if report.outcome is None:
            failed += 1
            continue
        whole &= report.outcome.is_whole
        tqdm.write(_describe(report.job.out, report.outcome))
    if failed == len(jobs):
        return 1
    return SOME_LEFT_OUT if failed or not whole else 0


def _describe(path: Path, outcome) -> str:
    resumed = f', {outcome.resumed} of them by an earlier run' if outcome.resumed else ''
    damaged = ', of a damaged bag' if outcome.damaged else ''
    return (f'{path}: {outcome.frames} images segmented{resumed}, '
            f'{outcome.left_out} could not be read{damaged}')
