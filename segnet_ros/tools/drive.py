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
import os
from pathlib import Path
import re
import subprocess
import sys
import tempfile
import time

from segnet_ros.own_domain import enter_domain
from segnet_ros.processes import check_alive, running, take_signals_as_interrupts
from segnet_ros.resources import DEFAULT_WEIGHTS
from segnet_ros.tools.arguments import (
    add_device_argument, add_domain_argument, add_precision_argument, SOME_LEFT_OUT)

IMAGE_TOPIC = '/camera/image_raw'
NAMESPACE = '/segmentation'
SETTLE = 4.0  # seconds without a message after which nothing more is expected
START_TIMEOUT = 120.0
# A drive fails if one of these is false.
CHECKS = ('stamps_equal', 'sizes_equal', 'counts_sum_to_pixels')


def add_arguments(parser: argparse.ArgumentParser):
    """Declare the verb's arguments."""
    parser.add_argument('source', nargs='?', default='sample',
                        help='rosbag2, video or folder of images; default: the rendered drive. '
                             'True masks in a folder SOURCEannot, if there is one, give the mIoU')
    parser.add_argument('-o', '--output', type=Path, default=Path('demo_output'),
                        help='folder for video.mp4, contact_sheet.png and summary.json')
    parser.add_argument('--weights', default=DEFAULT_WEIGHTS,
                        help='name or path of weights')
    add_device_argument(parser)
    add_precision_argument(parser)
    parser.add_argument('--fps', type=float, default=5.0,
                        help='frame rate of a folder of images (5)')
    parser.add_argument('--rate', type=float, help='speed factor (1; 1/3 for the rendered drive)')
    parser.add_argument('--topic', help='image topic to play, if a bag has several')
    add_domain_argument(parser)


def main(args: argparse.Namespace) -> int:
    """Run the drive; print a short table and where the files are."""
    take_signals_as_interrupts()
    import rclpy  # noqa: F401 fails here if not installed, before an older report is removed
    enter_domain(args.domain)
    from segnet_ros.ros.large_images import use_large_image_profile
    use_large_image_profile()
    with tempfile.TemporaryDirectory() as scratch:
        summary = _drive(args, Path(scratch))
    _print_table(summary, args.output)
    return 0 if summary['masks_received'] > 0 and all(summary[check] for check in CHECKS) else 1


def _drive(args: argparse.Namespace, scratch: Path) -> dict:
    from tqdm import tqdm

    from segnet_ros.bags import BagTopic, IMAGE, image_topic, is_bag, write_bag
    from segnet_ros.checkpoint import find_weights, read_info
    from segnet_ros.drive_report import DriveReport, FILES
    from segnet_ros.sources import open_frames, open_labels, sample_seed
    label_set = read_info(find_weights(args.weights)).label_set
    source, is_sample = os.path.expanduser(args.source), sample_seed(args.source) is not None
    rate = (1 / 3 if is_sample else 1.0) if args.rate is None else args.rate
    if Path(source).resolve() in [(args.output / name).resolve() for name in FILES]:
        raise ValueError(f'{source} would be overwritten; give another folder with -o')
    camera = BagTopic(IMAGE_TOPIC, IMAGE, 0, [])  # for any source but a bag
    if is_bag(source):
        camera = image_topic(source, args.topic, '--topic')
    frames = open_frames(source, args.fps, camera.name)
    truths = open_labels(source, label_set)
    if is_sample:
        # Rendered before it is played, so that the drive's times are the node's alone.
        source = str(scratch / 'sample_drive')
        bar = tqdm(frames, 'rendering the sample drive', total=frames.count, unit='frame')
        write_bag(bar, source, camera.name)
    indices = {}
    if truths is not None:
        indices = {f.stamp_ns: f.index for f in tqdm(
            # The player reports what cannot be read.
            open_frames(source, args.fps, camera.name, on_error=lambda error: None), 'reading',
            frames.count, unit='frame', leave=False)}
    with DriveReport(args.output, frames.rate, label_set, rate) as report:
        def add(frame):
            index = indices.get(frame.stamp_ns)
            report.add(frame.array('image'), frame.array('mask'), frame.array('color_mask'),
                       frame.arrivals['mask'] - frame.arrivals['image'],
                       truths(index) if truths and index is not None else None,
                       frame.stamp_ns)

        return report.finish(_run_processes(args, source, rate, camera, frames.count, add))


def _run_processes(args, source: str, rate: float, camera, count: int | None, on_frame) -> dict:
    """
    Start node and player, record until nothing more comes; return what was measured.

    stamps_equal: every mask has the stamp and frame_id of an image; for a best effort camera,
    masks whose image did not arrive are ignored. sizes_equal: every mask has its image's size.
    counts_sum_to_pixels: the statistics' pixel counts add up to the mask's pixels.

    :param camera: the BagTopic of the images.
    :param count: number of images in the source, None if unknown.
    """
    import rclpy
    from rclpy.signals import SignalHandlerOptions
    from tqdm import tqdm

    from segnet_ros.ros.recorder import Recorder
    rclpy.init(signal_handler_options=SignalHandlerOptions.NO)
    progress = tqdm(total=count, desc='driving', unit='frame')
    matched = []

    def record(frame):
        on_frame(frame)
        mask = frame.array('mask')
        matched.append({
            'time': frame.arrivals['mask'],
            'frame_id': len(set(frame.frame_ids.values())) == 1,
            'size': frame.array('image').shape[:2] == mask.shape,
            'counts': sum(frame.pixel_counts()) == mask.size})
        progress.update()

    recorder = Recorder(camera.moved_to(IMAGE_TOPIC), NAMESPACE, record, camera.is_compressed,
                        camera.is_best_effort)
    node_command, player_command = _commands(args, source, rate, camera)
    try:
        with running(node_command) as node:
            _wait_for_results(recorder, node)
            with running(player_command, stdout=subprocess.PIPE) as player:
                _spin(recorder, node, player)
                assert player.stdout is not None
                printed = player.stdout.read()
    finally:
        progress.close()
        counts, unmatched = recorder.counts, recorder.unmatched_results()
        recorder.destroy_node()
        rclpy.try_shutdown()
    every = {check: bool(matched) and all(frame[check] for frame in matched)
             for check in ('frame_id', 'size', 'counts')}
    span = matched[-1]['time'] - matched[0]['time'] if matched else 0.0
    return {
        'source': str(args.source), 'frames_published': _published(printed),
        'images_received': counts['image'], 'masks_received': counts['mask'],
        'stamps_equal': every['frame_id'] and (
            camera.is_best_effort or not unmatched and len(matched) == counts['mask']),
        'sizes_equal': every['size'], 'counts_sum_to_pixels': every['counts'],
        'fps': round((len(matched) - 1) / span, 3) if span else 0.0,
    }


def _commands(args, source: str, rate: float, camera) -> tuple[list[str], list[str]]:
    """Return the command lines of node and player."""
    from segnet_ros.bags import is_bag
    transport = 'compressed' if camera.is_compressed else 'raw'
    input_name = 'image/compressed' if camera.is_compressed else 'image'
    node = [
        sys.executable, '-m', 'segnet_ros.ros.main', '--ros-args',
        '-r', f'__ns:={NAMESPACE}', '-r', f'{input_name}:={camera.moved_to(IMAGE_TOPIC)}',
        '-p', f'weights:={args.weights}', '-p', f'device:={args.device}',
        '-p', f'precision:={args.precision}', '-p', f'input_transport:={transport}',
        # The drive has an end, and its report says if nothing came.
        '-p', 'no_image_warning_period:=0.0']
    player = [
        sys.executable, '-m', 'segnet_ros.tools.cli', 'replay', source, '--topic', IMAGE_TOPIC,
        '--rate', str(rate), '--fps', str(args.fps), '--wait-for-subscribers', '2',
        '--wait-timeout', str(START_TIMEOUT)]
    if is_bag(source):
        # Nothing else: a segmentation recorded in the bag would be taken for this node's.
        player += ['--from-topic', camera.name, '--topics', camera.name]
    return node, player


def _published(printed: str) -> int:
    """Return how many images the player says that it published."""
    said = re.search(r'published (\d+)', printed)
    return int(said.group(1)) if said else 0


def _wait_for_results(recorder, node: subprocess.Popen):
    """Wait until the node publishes its results; the recorder would miss earlier masks."""
    import rclpy
    end = time.monotonic() + START_TIMEOUT
    while not recorder.finds_results():
        rclpy.spin_once(recorder, timeout_sec=0.1)
        check_alive(node)
        if time.monotonic() > end:
            raise ValueError(f'the node offers no results after {START_TIMEOUT:.0f} s')


def _spin(recorder, node: subprocess.Popen, player: subprocess.Popen):
    """Record until the player is done and nothing more comes."""
    import rclpy
    while True:
        rclpy.spin_once(recorder, timeout_sec=0.2)
        check_alive(node)
        if player.poll() is not None:
            if player.returncode not in (0, SOME_LEFT_OUT):
                raise ValueError(f'the player exited with code {player.returncode}')
            if time.monotonic() - (recorder.last_arrival or 0.0) > SETTLE:
                return


def _print_table(summary: dict, output: Path):
    from segnet_ros.drive_report import FILES
    latency = ['-' if value is None else f'{value:.0f}'
               for value in summary['latency_ms'].values()]
    rows = [('frames published', summary['frames_published']),
            ('masks received', summary['masks_received']),
            *((check.replace('_', ' '), 'yes' if summary[check] else 'NO') for check in CHECKS),
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
