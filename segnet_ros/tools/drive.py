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

"""`segnet drive`: play a recording to the real node, each in its own process, and report."""

import argparse
from pathlib import Path

from segnet_ros.own_domain import enter_domain
from segnet_ros.resources import DEFAULT_WEIGHTS
from segnet_ros.tools.arguments import add_domain_argument, add_model_arguments


def add_arguments(parser: argparse.ArgumentParser):
    """Declare the verb's arguments."""
    parser.epilog = 'Exit code: 0 all checks hold; 1 one does not, or ended by an error.'
    parser.add_argument('source', nargs='?', default='sample',
                        help='rosbag2, video, folder of images or sample[:SEED], the rendered '
                             'drive, which is the default. True masks in a folder SOURCEannot, '
                             'if there is one, give the mIoU')
    parser.add_argument('-o', '--output', type=Path, default=Path('demo_output'),
                        help='folder for video.mp4, contact_sheet.png and summary.json')
    add_model_arguments(parser, DEFAULT_WEIGHTS)
    parser.add_argument('--fps', type=float, default=5.0,
                        help='frame rate of a folder of images (5)')
    parser.add_argument('--rate', type=float, help='speed factor (1; 1/3 for the rendered drive)')
    parser.add_argument('--topic', help='image topic to play, if a bag has several')
    add_domain_argument(parser)


def main(args: argparse.Namespace) -> int:
    """Run the drive; print a short table and where the files are."""
    from segnet_ros.ros.drive import CHECKS, drive
    from segnet_ros.ros.large_images import use_large_image_profile
    enter_domain(args.domain)
    use_large_image_profile()
    summary = drive(args.source, args.output, args.weights, args.device, args.precision,
                    args.fps, args.rate, args.topic)
    _print_table(summary, CHECKS, args.output)
    return 0 if all(summary[check] for check in CHECKS) else 1


def _print_table(summary: dict, checks: tuple[str, ...], output: Path):
    from segnet_ros.drive_report import FILES
    latency = ['-' if value is None else f'{value:.0f}'
               for value in summary['latency_ms'].values()]
    rows = [('frames published', summary['frames_published']),
            ('masks received', summary['masks_received']),
            *((check.replace('_', ' '), 'yes' if summary[check] else 'NO') for check in checks),
            ('masks a second', f"{summary['fps']:.2f}"),
            ('latency p50 / p95', f"{' / '.join(latency)} ms"),
            ('mIoU', '-' if summary['miou'] is None else f"{summary['miou']:.3f}")]
    if summary['frames_not_in_video']:
        rows.append(('not in the video', f"{summary['frames_not_in_video']} of another size"))
    largest = sorted(summary['class_fractions'].items(), key=lambda item: -item[1])
    rows += [(name, f'{100 * share:.1f} %') for name, share in largest]
    for name, value in rows:
        print(f'  {name:<22}{value}')
    for path in (output / name for name in FILES):
        if path.exists():
            print(path)
