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

"""Play a recording to the real node, each in its own process, and report on its masks."""

import os
from pathlib import Path
import re
import subprocess
import sys
import tempfile
import time

import rclpy
from rclpy.signals import SignalHandlerOptions
from tqdm import tqdm

from segnet_ros.bags.reading import BagTopic, IMAGE, image_topic
from segnet_ros.bags.writing import write_bag
from segnet_ros.checkpoint import find_weights, read_info
from segnet_ros.drive_report import DriveReport, FILES
from segnet_ros.processes import check_alive, running, SOME_LEFT_OUT
from segnet_ros.ros.parameters import quoted
from segnet_ros.ros.recorder import Recorder
from segnet_ros.sources import is_bag_source, open_frames, open_labels, sample_seed

IMAGE_TOPIC = '/camera/image_raw'
NAMESPACE = '/segmentation'
SETTLE = 4.0  # seconds without a message after which nothing more is expected
FIRST_RESULT = 30.0  # seconds that a node may take to build its segmenter on a slow machine
START_TIMEOUT = 120.0
# A drive fails if one of these is false.
CHECKS = ('stamps_equal', 'sizes_equal', 'counts_sum_to_pixels')


def drive(source: str, output: Path, weights: str, device: str = 'auto', precision: str = 'auto',
          fps: float = 5.0, rate: float | None = None, topic: str | None = None) -> dict:
    """
    Play a rosbag2, video, folder of images or 'sample' to the node; return summary.json's content.

    True masks in a folder SOURCEannot, if there is one, give the mIoU.

    :param output: folder for the files of a DriveReport.
    :param fps: frame rate of a folder of images.
    :param rate: speed factor; None for 1, or 1/3 for the rendered drive.
    :param topic: image topic to play, if a bag has several.
    :raises ValueError, OSError: if the source cannot be read or the node does not run.
    """
    label_set = read_info(find_weights(weights)).label_set
    played, is_sample = os.path.expanduser(source), sample_seed(source) is not None
    rate = (1 / 3 if is_sample else 1.0) if rate is None else rate
    if os.path.realpath(played) in [os.path.realpath(output / name) for name in FILES]:
        raise ValueError(f'{played} would be overwritten; give another folder with -o')
    camera = BagTopic(IMAGE_TOPIC, IMAGE, 0, [])  # for any source but a bag
    if is_bag_source(played):
        camera = image_topic(played, topic, '--topic')
    frames = open_frames(played, fps, camera.name)
    truths = open_labels(played, label_set)
    with tempfile.TemporaryDirectory() as scratch:
        if is_sample:
            # Rendered before it is played, so that the drive's times are the node's alone.
            played = f'{scratch}/sample_drive'
            bar = tqdm(frames, 'rendering the sample drive', total=frames.count, unit='frame')
            write_bag(bar, played, camera.name)
        indices: dict[int, int | None] = {}
        if truths is not None:
            # The player reports what cannot be read.
            read = open_frames(played, fps, camera.name, on_error=lambda error: None)
            for f in tqdm(read, 'reading', frames.count, unit='frame', leave=False):
                # A stamp of several images, as in a looped recording, tells no truth from another.
                indices[f.stamp_ns] = None if f.stamp_ns in indices else f.index
        with DriveReport(output, frames.rate, label_set, rate) as report:
            def add(frame):
                index = indices.get(frame.stamp_ns)
                report.add(frame.array('image'), frame.array('mask'), frame.array('color_mask'),
                           frame.arrivals['mask'] - frame.arrivals['image'],
                           truths(index) if truths and index is not None else None,
                           frame.stamp_ns)

            measured = run_processes(_node_command(weights, device, precision, camera),
                                     _player_command(played, rate, fps, camera),
                                     camera, frames.count, add)
            return report.finish({'source': source, **measured})


def run_processes(run_node: list[str], run_player: list[str], camera: BagTopic,
                  count: int | None, on_frame) -> dict:
    """
    Start node and player, record until nothing more comes; return what was measured.

    stamps_equal: every mask has the stamp and frame_id of an image; for a best effort camera,
    masks whose image did not arrive are ignored. sizes_equal: every mask has its image's size.
    counts_sum_to_pixels: the statistics' pixel counts add up to the mask's pixels.

    :param run_node: the node's command.
    :param run_player: the player's command.
    :param camera: the topic of the images in their source.
    :param count: number of images in the source, None if unknown.
    """
    rclpy.init(signal_handler_options=SignalHandlerOptions.NO)
    progress = tqdm(total=count, desc='driving', unit='frame')
    matched = []

    def record(frame):
        on_frame(frame)
        mask = frame.array('mask')
        matched.append({
            'time': frame.arrivals['mask'],
            'frame_id': len({msg.header.frame_id for msg in frame.messages.values()}) == 1,
            'size': frame.array('image').shape[:2] == mask.shape,
            'counts': sum(frame.pixel_counts()) == mask.size})
        progress.update()

    recorder = Recorder(camera.moved_to(IMAGE_TOPIC), NAMESPACE, record, camera.is_compressed,
                        camera.is_best_effort)
    try:
        with running(run_node) as node:
            _wait_for_results(recorder, node)
            with running(run_player, stdout=subprocess.PIPE) as player:
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
        'frames_published': _published(printed),
        'images_received': counts['image'], 'masks_received': counts['mask'],
        'stamps_equal': every['frame_id'] and (
            camera.is_best_effort or not unmatched and len(matched) == counts['mask']),
        'sizes_equal': every['size'], 'counts_sum_to_pixels': every['counts'],
        'fps': round((len(matched) - 1) / span, 3) if span else 0.0,
    }


def _node_command(weights: str, device: str, precision: str, camera: BagTopic) -> list[str]:
    """Return the command line of the node."""
    transport = 'compressed' if camera.is_compressed else 'raw'
    input_name = 'image/compressed' if camera.is_compressed else 'image'
    return [
        sys.executable, '-m', 'segnet_ros.ros.main', '--ros-args',
        '-r', f'__ns:={NAMESPACE}', '-r', f'{input_name}:={camera.moved_to(IMAGE_TOPIC)}',
        '-p', f'weights:={quoted(weights)}', '-p', f'device:={device}',
        '-p', f'precision:={precision}', '-p', f'input_transport:={transport}',
        # The drive has an end, and its report says if nothing came.
        '-p', 'no_image_warning_period:=0.0']


def _player_command(source: str, rate: float, fps: float, camera: BagTopic) -> list[str]:
    """Return the command line of the player."""
    command = [
        sys.executable, '-m', 'segnet_ros.tools.cli', 'replay', source, '--topic', IMAGE_TOPIC,
        '--rate', str(rate), '--fps', str(fps), '--wait-for-subscribers', '2',
        '--wait-timeout', str(START_TIMEOUT)]
    if is_bag_source(source):
        # Nothing else: a segmentation recorded in the bag would be taken for this node's.
        command += ['--from-topic', camera.name, '--topics', camera.name]
    return command


def _published(printed: str) -> int:
    """Return how many images the player says that it published."""
    said = re.search(r'published (\d+)', printed)
    return int(said.group(1)) if said else 0


def _wait_for_results(recorder: Recorder, node: subprocess.Popen):
    """Wait until the node publishes its results; the recorder would miss earlier masks."""
    end = time.monotonic() + START_TIMEOUT
    while not recorder.finds_results():
        rclpy.spin_once(recorder, timeout_sec=0.1)
        check_alive(node)
        if time.monotonic() > end:
            raise ValueError(f'the node offers no results after {START_TIMEOUT:.0f} s')


def _spin(recorder: Recorder, node: subprocess.Popen, player: subprocess.Popen):
    """Record until the player is done and nothing more comes."""
    while True:
        rclpy.spin_once(recorder, timeout_sec=0.2)
        check_alive(node)
        if player.poll() is not None:
            if player.returncode not in (0, SOME_LEFT_OUT):
                raise ValueError(f'the player exited with code {player.returncode}')
            patience = SETTLE
            if recorder.awaits_results():
                patience = max(SETTLE, 3 * recorder.slowest if recorder.slowest else FIRST_RESULT)
            if time.monotonic() - (recorder.last_arrival or 0.0) > patience:
                if recorder.awaits_results():
                    tqdm.write(f'the last image had no results after {patience:.0f} s', sys.stderr)
                return
