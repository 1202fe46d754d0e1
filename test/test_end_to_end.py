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

"""
The whole main job: a bag is replayed, the node segments, a recorder hears: three processes, DDS.

On CamVid's val clip where ../shared/camvid is there, on the rendered drive elsewhere.
"""

import json
import os
from pathlib import Path
import signal
import subprocess
import sys
import time

import cv2
from labelled_folder import write_split
import numpy as np
import pytest
from ros_domain import free_domain
from rosbags.interfaces import QosReliability
from rosbags.rosbag2 import StoragePlugin, Writer
from small_network import write_small_checkpoint
from test_replay import offered

from segnet_ros import sources
from segnet_ros.bags import IMAGE, TYPES
from segnet_ros.labels import load_label_set
from segnet_ros.sample_drive.drive import SampleDrive
from segnet_ros.sources import SAMPLE_FRAMES
from segnet_ros.tools import drive as drive_verb
from segnet_ros.tools.cli import main
from segnet_ros.training.dataset import frame_paths, read_frame

CAMVID = Path(__file__).parents[2] / 'shared' / 'camvid'
# Slow enough for the default weights on two busy cores with AVX2 alone (0.8 s a frame there, and
# three times that at worst): every frame is segmented, none gives way to a newer one.
RATE = 0.3


def run_segnet(*arguments, timeout=240):
    """Run a verb in a process of its own; return what it printed."""
    environment = {**os.environ, 'ROS_DOMAIN_ID': free_domain()}
    done = subprocess.run([sys.executable, '-m', 'segnet_ros.tools.cli', *map(str, arguments)],
                          env=environment, text=True, capture_output=True, timeout=timeout)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def clip_frames() -> dict:
    """Return some 10 frames, as labelled_folder.write_split takes them."""
    if CAMVID.is_dir():
        label_set = load_label_set('camvid11')
        return {paths[0].name: read_frame(*paths, label_set)
                for paths in frame_paths(CAMVID, 'val')[::12]}
    drive = SampleDrive(seed=0)
    return {f'{index:03}.png': drive.frame(index) for index in range(0, SAMPLE_FRAMES, 20)}


@pytest.fixture(scope='module')
def drive(tmp_path_factory):
    """Return the folder of a drive's report and the number of frames in its bag."""
    folder = tmp_path_factory.mktemp('end_to_end')
    frames = clip_frames()
    write_split(folder, 'frames', frames)
    run_segnet('record-bag', folder / 'frames', folder / 'clip', '--fps', RATE)
    (folder / 'framesannot').rename(folder / 'clipannot')
    run_segnet('drive', folder / 'clip', '-o', folder / 'out')
    return folder / 'out', len(frames)


@pytest.fixture(scope='module')
def summary(drive):
    return json.loads((drive[0] / 'summary.json').read_text())


def test_every_frame_s_mask_comes_back_under_its_own_header(drive, summary):
    assert summary['frames_published'] == summary['masks_received'] == drive[1]
    assert summary['stamps_equal'] is True


def test_masks_have_the_images_size_and_statistics_add_up(summary):
    assert summary['sizes_equal'] is True
    assert summary['counts_sum_to_pixels'] is True
    assert sum(summary['class_fractions'].values()) == pytest.approx(1, abs=1e-4)


def test_the_shipped_weights_see_the_street(summary):
    assert summary['miou'] > 0.5
    assert summary['class_fractions']['road'] > 0.15


def test_the_report_is_whole(drive, summary):
    video = cv2.VideoCapture(str(drive[0] / 'video.mp4'))
    assert int(video.get(cv2.CAP_PROP_FRAME_COUNT)) == drive[1]
    ok, frame = video.read()
    assert ok and frame.shape == (720, 480, 3)
    sheet = cv2.imread(str(drive[0] / 'contact_sheet.png'))
    colors = np.unique(sheet.reshape(-1, 3), axis=0)
    assert (colors == (128, 64, 128)).all(1).any(), 'no road is painted'
    assert {'p50', 'p95'} == set(summary['latency_ms'])
    assert 0 < summary['latency_ms']['p50'] <= summary['latency_ms']['p95']
    assert summary['fps'] == pytest.approx(RATE, rel=0.1)


def test_the_rendered_drive_is_played_with_its_truth(tmp_path, monkeypatch):
    monkeypatch.setenv('ROS_DOMAIN_ID', free_domain())
    monkeypatch.setattr(sources, 'SAMPLE_FRAMES', 8)
    weights = write_small_checkpoint(tmp_path / 'small.safetensors')
    assert main(['drive', '-o', str(tmp_path), '--weights', weights]) == 0
    summary = json.loads((tmp_path / 'summary.json').read_text())
    assert summary['source'] == 'sample' and summary['frames_published'] == 8
    assert summary['masks_received'] >= 6
    assert summary['miou'] > 0


def write_hard_bag(path):
    """
    Write a grey best effort camera whose size changes, beside a second and a silent one.

    And what a segmentation gave when it was recorded: masks of a wrong size.
    """
    types = TYPES.types
    with Writer(path, version=9, storage_plugin=StoragePlugin.MCAP) as writer:
        # The second camera is where the drive sends what it was told to take.
        topics = [writer.add_connection(name, IMAGE, typestore=TYPES,
                                        offered_qos_profiles=offered(reliability))
                  for name, reliability in (
                      ('/front', QosReliability.BEST_EFFORT),
                      (drive_verb.IMAGE_TOPIC, QosReliability.BEST_EFFORT),
                      ('/segmentation/mask', QosReliability.RELIABLE),
                      ('/silent', QosReliability.BEST_EFFORT))]
        for index in range(6):
            stamp_ns, height = 10**18 + index * 700_000_000, 48 + 16 * (index // 2 % 2)
            header = types['std_msgs/msg/Header'](
                types['builtin_interfaces/msg/Time'](*divmod(stamp_ns, 10**9)), 'cam')
            msg = types[IMAGE](header, height, 64, 'mono8', 0, 64,
                               np.full(height * 64, 40 * index, np.uint8))
            mask = types[IMAGE](header, 2, 2, 'mono8', 0, 2, np.zeros(4, np.uint8))
            for topic, sent in zip(topics, (msg, msg, mask), strict=False):
                writer.write(topic, stamp_ns, TYPES.serialize_cdr(sent, IMAGE))


def test_a_bag_that_makes_it_hard(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv('ROS_DOMAIN_ID', free_domain())
    monkeypatch.setattr(drive_verb, 'SETTLE', 2.0)
    write_hard_bag(tmp_path / 'bag')
    command = ['drive', str(tmp_path / 'bag'), '-o', str(tmp_path / 'out'), '--weights',
               write_small_checkpoint(tmp_path / 'small.safetensors')]
    assert main(command) == 1
    assert f'choose one with --topic: {drive_verb.IMAGE_TOPIC} (Image, 6), /front (Image, 6)' \
        in capsys.readouterr().err
    assert main([*command, '--topic', '/front']) == 0
    summary = json.loads((tmp_path / 'out' / 'summary.json').read_text())
    assert summary['frames_published'] == 6
    assert 4 <= summary['masks_received'] <= 6
    assert summary['sizes_equal'] and summary['counts_sum_to_pixels']
    assert 1 <= summary['frames_not_in_video'] < summary['masks_received']
    assert f"{summary['frames_not_in_video']} of another size" in capsys.readouterr().out


def test_the_player_s_word_counts_where_a_source_may_announce_too_much():
    assert drive_verb._published('published 17 messages in 1.00 s') == 17


def test_the_report_does_not_overwrite_its_source(tmp_path, capsys):
    source = tmp_path / 'video.mp4'
    source.write_bytes(b'mine')
    assert main(['drive', str(source), '-o', str(tmp_path)]) == 1
    assert 'give another folder with -o' in capsys.readouterr().err
    assert source.read_bytes() == b'mine'


@pytest.mark.parametrize('bag,words', [('My Drive.mp4', ['My Drive.mp4']), ('', [])])
def test_make_demo_takes_a_path_with_spaces(tmp_path, bag, words):
    segnet = tmp_path / 'segnet'
    segnet.write_text('#!/bin/sh\nprintf "%s\\n" "$@"\n')
    segnet.chmod(0o755)
    done = subprocess.run(
        ['make', '--silent', '--old-file=.venv/.run', 'demo', f'BIN={tmp_path}', f'BAG={bag}'],
        cwd=Path(__file__).parents[1], text=True, capture_output=True)
    assert done.stdout.splitlines() == ['drive', *words, '-o', 'demo_output'], done.stderr


@pytest.mark.parametrize('numbers', [[signal.SIGTERM], [signal.SIGINT] * 3],
                         ids=['SIGTERM', 'SIGINT as launch sends it'])
def test_the_node_s_process_ends_well_in_the_midst_of_work(tmp_path, numbers):
    weights = write_small_checkpoint(tmp_path / 'small.safetensors')
    environment = {**os.environ, 'ROS_DOMAIN_ID': free_domain()}
    node = subprocess.Popen(
        [sys.executable, '-m', 'segnet_ros.ros.node', '--ros-args', '-p', f'weights:={weights}'],
        env=environment, text=True, stderr=subprocess.PIPE)
    player = subprocess.Popen(
        [sys.executable, '-m', 'segnet_ros.tools.cli', 'replay', 'sample', '--rate', '4',
         '--loop', '--topic', 'image'], env=environment, stdout=subprocess.DEVNULL)
    try:
        heard = ''
        while 'active after' not in heard:
            line = node.stderr.readline()
            assert line, heard
            heard += line
        time.sleep(2)  # into the midst of the player's frames
        for number in numbers:
            node.send_signal(number)
            time.sleep(0.02)
        _, rest = node.communicate(timeout=20)
    finally:
        player.kill()
        player.wait()
    assert node.returncode == 0, heard + rest
    assert 'Traceback' not in heard + rest


def test_wrong_weights_end_the_process_with_one_clear_error(tmp_path):
    done = subprocess.run(
        [sys.executable, '-m', 'segnet_ros.ros.node', '--ros-args', '-p', 'weights:=no_such'],
        env={**os.environ, 'ROS_DOMAIN_ID': free_domain()}, text=True, capture_output=True,
        timeout=60)
    assert done.returncode == 1
    assert "no file 'no_such'" in done.stderr and 'names there:' in done.stderr
    assert 'Traceback' not in done.stderr
