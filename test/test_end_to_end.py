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
Run the whole pipeline, in three processes over DDS: a bag player, the node and a recorder.

It runs on CamVid's val clip if ../shared/camvid is there, otherwise on the rendered drive.
"""

from contextlib import contextmanager, nullcontext
import io
from itertools import pairwise
import json
import os
from pathlib import Path
import signal
import subprocess
import sys
import time
from types import SimpleNamespace
from unittest import mock

import cv2
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from labelled_folder import write_split
import numpy as np
import pytest
from ros_domain import free_domain
from rosbags.interfaces import QosReliability
from rosbags.rosbag2 import StoragePlugin, Writer
from sensor_msgs.msg import Image
from small_network import write_small_checkpoint
from test_replay import offered, Receiver
import yaml

from segnet_ros import sources
from segnet_ros.bags.reading import IMAGE, TYPES
from segnet_ros.bags.writing import make_header, write_bag
from segnet_ros.drive_report import CELL_WIDTH, SHEET_COLUMNS
from segnet_ros.frames import Frame
from segnet_ros.labels import load_label_set
from segnet_ros.ros import drive as drive_module
from segnet_ros.ros.conversions import preallocated_image
from segnet_ros.ros.large_images import OWN_SETTINGS
from segnet_ros.sample_drive.drive import SAMPLE_FRAMES, SampleDrive
from segnet_ros.tools.cli import main
from segnet_ros.training.dataset import frame_paths, read_frame

CAMVID = Path(__file__).parents[2] / 'shared' / 'camvid'
# Slow enough for the default weights on two busy cores with only AVX2 (0.8 s a frame, at worst
# three times that): every frame is segmented, none is dropped for a newer one.
RATE = 0.3


@contextmanager
def own_process():
    """Undo what `segnet drive` changes in the process that it runs in."""
    handlers = {number: signal.getsignal(number)
                for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    with mock.patch.dict(os.environ):
        # If these were set, it would not load its own profile.
        for name in OWN_SETTINGS:
            os.environ.pop(name, None)
        try:
            yield
        finally:
            for number, handler in handlers.items():
                signal.signal(number, handler)


@pytest.fixture
def alone():
    with own_process():
        yield


def clip_frames() -> dict:
    """Return about 5 frames, in the form that labelled_folder.write_split takes."""
    if CAMVID.is_dir():
        label_set = load_label_set('camvid11')
        return {paths[0].name: read_frame(*paths, label_set)
                for paths in frame_paths(CAMVID, 'val')[::24]}
    drive = SampleDrive(seed=0)
    return {f'{index:03}.png': drive.frame(index) for index in range(0, SAMPLE_FRAMES, 35)}


@pytest.fixture(scope='module')
def clip():
    return clip_frames()


@pytest.fixture(scope='module')
def drive(tmp_path_factory, clip):
    """Return the folder of a drive's report and the number of frames in its bag."""
    folder = tmp_path_factory.mktemp('end_to_end')
    write_split(folder, 'frames', clip)
    assert main(['record-bag', str(folder / 'frames'), str(folder / 'clip'),
                 '--fps', str(RATE)]) == 0
    (folder / 'framesannot').rename(folder / 'clipannot')
    with own_process():
        assert main(['drive', str(folder / 'clip'), '-o', str(folder / 'out'),
                     '--domain', free_domain()]) == 0
    return folder / 'out', len(clip)


@pytest.fixture(scope='module')
def summary(drive):
    return json.loads((drive[0] / 'summary.json').read_text())


def test_the_drive_s_processes_run_as_asked(tmp_path, monkeypatch, capsys, alone):
    commands = []

    def stop(node, player, *_):
        commands.extend((node, player))
        raise ValueError('far enough')

    monkeypatch.setattr(drive_module, 'run_processes', stop)
    cv2.imwrite(str(tmp_path / '0.png'), np.zeros((24, 32, 3), np.uint8))
    weights = write_small_checkpoint(tmp_path / "run #1: 'é' 🚗.safetensors")
    assert main(['drive', str(tmp_path), '-o', str(tmp_path / 'out'), '--weights', weights,
                 '--device', 'cpu', '--precision', 'int8', '--fps', '3', '--rate', '0.5']) == 1
    assert 'far enough' in capsys.readouterr().err
    node, player = commands
    parameters = dict(value.split(':=', 1) for option, value in pairwise(node) if option == '-p')
    # rcl reads the values as YAML.
    assert {name: yaml.safe_load(value) for name, value in parameters.items()} == {
        'weights': weights, 'device': 'cpu', 'precision': 'int8', 'input_transport': 'raw',
        'no_image_warning_period': 0.0}
    assert str(tmp_path) in player
    for option, value in (('--fps', '3.0'), ('--rate', '0.5')):
        assert player[player.index(option) + 1] == value


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
    assert {'p50', 'p95'} == set(summary['latency_ms'])
    assert 0 < summary['latency_ms']['p50'] <= summary['latency_ms']['p95']
    assert summary['fps'] == pytest.approx(RATE, rel=0.1)


def read_cells(path, count: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return each frame's image and class colours on a contact sheet of 4:3 images, as RGB."""
    sheet, height = cv2.imread(str(path))[..., ::-1], CELL_WIDTH * 3 // 4
    corners = [(index // SHEET_COLUMNS * (2 * height + 6), index % SHEET_COLUMNS * CELL_WIDTH)
               for index in range(count)]
    return [(sheet[y:y + height, x:x + CELL_WIDTH],
             sheet[y + height:y + 2 * height, x:x + CELL_WIDTH]) for y, x in corners]


def test_the_contact_sheet_shows_camera_and_classes_in_their_colors(drive, summary, clip):
    label_set = load_label_set('camvid11')
    cells = read_cells(drive[0] / 'contact_sheet.png', drive[1])
    for (image, _), (camera, _) in zip(clip.values(), cells, strict=True):
        small = cv2.resize(image, (CELL_WIDTH, CELL_WIDTH * 3 // 4), interpolation=cv2.INTER_AREA)
        np.testing.assert_array_equal(camera, small)
    colors = np.stack([painted for _, painted in cells])
    # Swapped red and blue would show in building and tree, which occur in the frames.
    for name, color in zip(label_set.class_names, label_set.colors, strict=True):
        assert (colors == color).all(-1).mean() \
            == pytest.approx(summary['class_fractions'][name], abs=0.005), name


def test_the_video_shows_the_camera_above_the_classes_in_their_colors(drive, clip):
    video = cv2.VideoCapture(str(drive[0] / 'video.mp4'))
    cells = read_cells(drive[0] / 'contact_sheet.png', drive[1])
    for (image, _), (_, painted) in zip(clip.values(), cells, strict=True):
        ok, frame = video.read()
        assert ok and frame.shape == (720, 480, 3)
        above, below = frame[:360, :, ::-1], frame[360:, :, ::-1]
        assert np.abs(above.astype(int) - image).mean() < 6
        small = cv2.resize(below, painted.shape[1::-1], interpolation=cv2.INTER_NEAREST)
        assert np.abs(small.astype(int) - painted).mean() < 6


def test_the_rendered_drive_is_played_with_its_truth(tmp_path, monkeypatch, alone):
    monkeypatch.setattr(sources, 'SAMPLE_FRAMES', 8)
    monkeypatch.setattr(drive_module, 'SETTLE', 2.0)
    weights = write_small_checkpoint(tmp_path / 'small.safetensors')
    assert main(['drive', '-o', str(tmp_path), '--weights', weights,
                 '--domain', free_domain()]) == 0
    summary = json.loads((tmp_path / 'summary.json').read_text())
    assert summary['source'] == 'sample' and summary['frames_published'] == 8
    assert summary['masks_received'] >= 6
    assert summary['miou'] > 0


def write_hard_bag(path):
    """
    Write a bag with a grey best-effort camera whose size changes, a second and a silent one.

    It also holds masks of a wrong size, as if recorded from an earlier segmentation.
    """
    types = TYPES.types
    with Writer(path, version=9, storage_plugin=StoragePlugin.MCAP) as writer:
        # The second camera's topic is the one on which the drive publishes the chosen camera.
        topics = [writer.add_connection(name, IMAGE, typestore=TYPES,
                                        offered_qos_profiles=offered(reliability))
                  for name, reliability in (
                      ('/front', QosReliability.BEST_EFFORT),
                      (drive_module.IMAGE_TOPIC, QosReliability.BEST_EFFORT),
                      ('/segmentation/mask', QosReliability.RELIABLE),
                      ('/silent', QosReliability.BEST_EFFORT))]
        for index in range(6):
            stamp_ns, height = 10**18 + index * 700_000_000, 48 + 16 * (index // 2 % 2)
            header = make_header(stamp_ns, 'cam')
            msg = types[IMAGE](header, height, 64, 'mono8', 0, 64,
                               np.full(height * 64, 40 * index, np.uint8))
            mask = types[IMAGE](header, 2, 2, 'mono8', 0, 2, np.zeros(4, np.uint8))
            for topic, sent in zip(topics, (msg, msg, mask), strict=False):
                writer.write(topic, stamp_ns, TYPES.serialize_cdr(sent, IMAGE))


def test_a_bag_that_makes_it_hard(tmp_path, monkeypatch, capsys, alone):
    monkeypatch.setattr(drive_module, 'SETTLE', 2.0)
    write_hard_bag(tmp_path / 'bag')
    command = ['drive', str(tmp_path / 'bag'), '-o', str(tmp_path / 'out'),
               '--domain', free_domain(), '--weights',
               write_small_checkpoint(tmp_path / 'small.safetensors')]
    assert main(command) == 1
    assert f'choose one with --topic: {drive_module.IMAGE_TOPIC} (Image, 6), /front (Image, 6)' \
        in capsys.readouterr().err
    assert main([*command, '--topic', '/front']) == 0
    summary = json.loads((tmp_path / 'out' / 'summary.json').read_text())
    assert summary['frames_published'] == 6
    assert 4 <= summary['masks_received'] <= 6
    assert summary['sizes_equal'] and summary['counts_sum_to_pixels']
    assert 1 <= summary['frames_not_in_video'] < summary['masks_received']
    assert f"{summary['frames_not_in_video']} of another size" in capsys.readouterr().out


def image_of(array, encoding, stamp_ns, frame_id='camera'):
    """Return an array as an Image message."""
    msg, pixels = preallocated_image(encoding, *array.shape[:2])
    pixels[:] = array
    msg.header.frame_id = frame_id
    msg.header.stamp.sec, msg.header.stamp.nanosec = divmod(stamp_ns, 10**9)
    return msg


def frame_messages(index: int, mask_size=(24, 32), frame_id='camera', late_ns=0, pixels=24 * 32,
                   without=()) -> dict:
    """Return the messages of one 24x32 frame by topic; the arguments introduce errors."""
    stamp_ns, colors = 10**18 + index * 10**9, np.zeros((24, 32, 3), np.uint8)
    statistics = DiagnosticArray(status=[
        DiagnosticStatus(values=[KeyValue(key='pixel_count', value=str(count))])
        for count in (500, pixels - 500)])
    color_mask = image_of(colors, 'rgb8', stamp_ns)
    statistics.header = color_mask.header
    messages = {'image': image_of(colors, 'rgb8', stamp_ns),
                'mask': image_of(np.zeros(mask_size, np.uint8), 'mono8', stamp_ns + late_ns,
                                 frame_id),
                'color_mask': color_mask, 'statistics': statistics}
    return {topic: msg for topic, msg in messages.items() if topic not in without}


def drive_hearing(messages, folder, monkeypatch, source='in') -> tuple[int, dict]:
    """Run a drive whose recorder gets these (topic, message); return exit code and summary."""
    def hear(recorder, node, player):
        for topic, msg in messages:
            recorder._take(topic, msg)

    process = SimpleNamespace(stdout=io.StringIO('published 3 messages in 1.00 s'))
    monkeypatch.setattr(drive_module, 'running', lambda *_, **__: nullcontext(process))
    monkeypatch.setattr(drive_module, '_wait_for_results', lambda *_: None)
    monkeypatch.setattr(drive_module, '_spin', hear)
    for name in ('in', 'inannot'):  # 1.png cannot be read and has no true mask
        (folder / name).mkdir()
    cv2.imwrite(str(folder / 'in' / '0.png'), np.zeros((24, 32, 3), np.uint8))
    cv2.imwrite(str(folder / 'inannot' / '0.png'), np.zeros((24, 32), np.uint8))
    (folder / 'in' / '1.png').write_bytes(b'no picture')
    code = main(['drive', str(folder / source), '-o', str(folder / 'out'),
                 '--domain', free_domain()])
    return code, json.loads((folder / 'out' / 'summary.json').read_text())


@pytest.mark.parametrize('wrong, said_false', [
    ({}, []),
    ({'frame_id': 'rear'}, ['stamps_equal']),
    ({'late_ns': 1}, ['stamps_equal']),
    ({'without': ('image',)}, ['stamps_equal']),
    ({'without': ('statistics',)}, ['stamps_equal']),
    ({'without': ('image', 'mask')}, ['stamps_equal']),
    ({'mask_size': (32, 24)}, ['sizes_equal']),
    ({'pixels': 24 * 32 - 1}, ['counts_sum_to_pixels']),
], ids=str)
@pytest.mark.parametrize('place', [1, 2], ids=['in the middle', 'at the end'])
def test_what_is_wrong_with_a_frame_is_told(tmp_path, monkeypatch, capsys, alone, wrong,
                                            said_false, place):
    messages = [pair for index in range(3)
                for pair in frame_messages(index, **(wrong if index == place else {})).items()]
    code, summary = drive_hearing(messages, tmp_path, monkeypatch)
    assert [check for check in drive_module.CHECKS if not summary[check]] == said_false
    assert capsys.readouterr().out.count('NO') == len(said_false)
    assert code == bool(said_false)


def test_images_that_share_a_stamp_are_not_scored(tmp_path, monkeypatch, alone):
    places = (0, 1, 0)  # the recording began anew, its clock too
    black = np.zeros((24, 32, 3), np.uint8)
    write_bag([Frame(i, 10**18 + place * 10**9, 'camera', str(i), black, record_ns=10**18 + i)
               for i, place in enumerate(places)], tmp_path / 'bag')
    (tmp_path / 'bagannot').mkdir()
    for i in range(3):  # of the two at place 0, one is all building
        cv2.imwrite(str(tmp_path / 'bagannot' / f'{i}.png'), np.full((24, 32), i // 2, np.uint8))
    messages = [pair for place in places for pair in frame_messages(place).items()]
    code, summary = drive_hearing(messages, tmp_path, monkeypatch, 'bag')
    assert (code, summary['masks_received'], summary['miou']) == (0, 3, 1)


@pytest.mark.parametrize('waits, slowest, seconds', [
    (False, 0.0, 4), (False, 9.0, 4), (True, 0.0, 30), (True, 1.0, 4), (True, 9.0, 27)])
def test_a_slow_node_s_last_results_are_waited_for(monkeypatch, capsys, waits, slowest, seconds):
    clock = SimpleNamespace(now=100.0)

    def spin_once(*_, timeout_sec):
        clock.now += timeout_sec

    monkeypatch.setattr(drive_module, 'rclpy', SimpleNamespace(spin_once=spin_once))
    monkeypatch.setattr(drive_module, 'time', SimpleNamespace(monotonic=lambda: clock.now))
    recorder = SimpleNamespace(last_arrival=100.0, slowest=slowest, awaits_results=lambda: waits)
    node, player = (SimpleNamespace(poll=lambda code=code: code, returncode=code)
                    for code in (None, 0))
    drive_module._spin(recorder, node, player)
    assert seconds < clock.now - 100 < seconds + 1
    assert ('the last image had no results' in capsys.readouterr().err) == waits


def test_without_a_mask_nothing_is_called_equal(tmp_path, monkeypatch, alone):
    code, summary = drive_hearing([], tmp_path, monkeypatch)
    assert code == 1 and not any(summary[check] for check in drive_module.CHECKS)


def test_the_player_s_word_counts_where_a_source_may_announce_too_much():
    assert drive_module._published('published 17 messages in 1.00 s') == 17


def test_the_report_does_not_overwrite_its_source(tmp_path, capsys):
    source = tmp_path / 'video.mp4'
    source.write_bytes(b'mine')
    assert main(['drive', str(source), '-o', str(tmp_path), '--domain', free_domain()]) == 1
    assert 'give another folder with -o' in capsys.readouterr().err
    assert source.read_bytes() == b'mine'
    (tmp_path / 'loop.mp4').symlink_to('loop.mp4')
    assert main(['drive', str(tmp_path / 'loop.mp4'), '--domain', free_domain()]) == 1
    assert "no file or folder '" in capsys.readouterr().err


@pytest.mark.parametrize('bag,topic,words', [
    ('My Drive.mp4', '', ['My Drive.mp4']), ('', '', []),
    ('bag', '/front/image', ['bag', '--topic', '/front/image'])])
def test_make_demo_takes_a_path_with_spaces_and_a_topic(tmp_path, bag, topic, words):
    segnet = tmp_path / 'segnet'
    segnet.write_text('#!/bin/sh\nprintf "%s\\n" "$@"\n')
    segnet.chmod(0o755)
    done = subprocess.run(
        ['make', '--silent', '--old-file=.venv/.run', 'demo', 'VENV=.venv', f'BIN={tmp_path}',
         f'BAG={bag}', f'TOPIC={topic}'],
        cwd=Path(__file__).parents[1], text=True, capture_output=True)
    assert done.stdout.splitlines() == ['drive', *words, '-o', 'demo_output'], done.stderr


@pytest.mark.parametrize('made_with, sourced, wheels, told', [
    ('none', '', '', ''), ('jazzy', 'jazzy', '', ''), ('', 'jazzy', '', ''),  # '': made before
    ('jazzy', '', '', 'was made in a shell with ROS jazzy sourced, now it is none: use such'),
    ('none', 'kilted', '', 'was made in a shell with ROS none sourced, now it is kilted'),
    ('none', 'jazzy', 'kilted', 'ROS_WHEELS is for a shell without ROS')])
def test_make_tells_that_its_environment_was_made_for_another_ros(tmp_path, made_with, sourced,
                                                                  wheels, told):
    (tmp_path / '.python').write_text(f'{made_with}\n')
    # Without what `make test ROS_WHEELS=kilted` hands on to other makes.
    environment = {k: v for k, v in os.environ.items() if not k.startswith('MAKE')}
    environment |= {'ROS_DISTRO': sourced, 'ROS_WHEELS': wheels}
    done = subprocess.run(
        ['make', '--dry-run', 'demo', f'VENV={tmp_path}'], cwd=Path(__file__).parents[1],
        text=True, capture_output=True, env={k: v for k, v in environment.items() if v})
    assert done.returncode == (2 if told else 0) and told in done.stderr, done.stderr
    if not (sourced and wheels):
        done = subprocess.run(
            ['make', '--dry-run', 'clean', 'venv', f'VENV={tmp_path}'], text=True,
            cwd=Path(__file__).parents[1], env={k: v for k, v in environment.items() if v})
        assert done.returncode == 0, 'this is what helps'


@pytest.mark.parametrize('numbers', [[signal.SIGTERM], [signal.SIGINT] * 3, [signal.SIGHUP]],
                         ids=['SIGTERM', 'SIGINT as launch sends it', 'SIGHUP'])
def test_the_node_s_process_ends_well_in_the_midst_of_work(tmp_path, numbers):
    weights = write_small_checkpoint(tmp_path / 'small.safetensors')
    environment = {**os.environ, 'ROS_DOMAIN_ID': free_domain()}
    node = subprocess.Popen(
        [sys.executable, '-m', 'segnet_ros.ros.main', '--ros-args', '-p', f'weights:={weights}'],
        env=environment, text=True, stderr=subprocess.PIPE,
        # Under nohup, the node would ignore SIGHUP.
        preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_DFL))
    receiver = Receiver()
    masks, overlays = (receiver.listen(Image, name, 10) for name in ('mask', 'overlay'))
    publisher = receiver.node.create_publisher(Image, 'image', 1)
    msg = image_of(np.zeros((240, 320, 3), np.uint8), 'rgb8', 0)

    def send():
        """Send the next frame; frames come faster than they are segmented."""
        msg.header.stamp.nanosec += 1
        publisher.publish(msg)
    receiver.node.create_timer(0.005, send)
    try:
        receiver.spin_until(lambda: len(masks) > 3 and overlays or node.poll() is not None)
        for number in numbers:
            node.send_signal(number)
            time.sleep(0.02)
        receiver.spin_until(lambda: node.poll() is not None, seconds=20)
    finally:
        receiver.close()
        node.kill()
        _, printed = node.communicate()
    assert node.returncode == 0, printed
    assert 'active after' in printed and 'Traceback' not in printed
    assert len(masks) > 3 and overlays


def test_wrong_weights_end_the_process_with_one_clear_error():
    done = subprocess.run(
        [sys.executable, '-m', 'segnet_ros.ros.main', '--ros-args', '-p', 'weights:=no_such'],
        env={**os.environ, 'ROS_DOMAIN_ID': free_domain()}, text=True, capture_output=True,
        timeout=60)
    assert done.returncode == 1
    assert "no file 'no_such'" in done.stderr and 'names there:' in done.stderr
    assert 'Traceback' not in done.stderr
