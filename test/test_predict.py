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


"""Check that images, videos, bags and cameras become the files that were asked for."""

import csv
import math
import os
from pathlib import Path
import shutil
import subprocess
import sys
import time
import tracemalloc

import cv2
import numpy as np
import pytest
from several_cameras import write_several_cameras
from small_network import write_small_checkpoint
import torch

from segnet_ros.bags.writing import write_bag
from segnet_ros.frames import Frame
from segnet_ros.inputs import find_inputs, read_inputs
from segnet_ros.labels import load_label_set
from segnet_ros.prediction import COLUMNS, predict, Results
from segnet_ros.predictor import Predictor, SIZES_KEPT
from segnet_ros.sample_drive.drive import SampleDrive
from segnet_ros.sources import open_frames
from segnet_ros.tools.cli import main
from segnet_ros.video import UntrustedVideo, VideoWriter

torch.set_num_threads(1)
SIZE = (48, 64)


@pytest.fixture(scope='module')
def weights(tmp_path_factory):
    return write_small_checkpoint(
        tmp_path_factory.mktemp('weights') / 'tiny.safetensors', 1 / 16, SIZE)


@pytest.fixture(scope='module')
def predictor(weights):
    return Predictor(weights, 'cpu', 'float32')


@pytest.fixture(scope='module')
def drive():
    rendered = SampleDrive(0, SIZE)
    return [rendered.frame(index)[0] for index in range(6)]


@pytest.fixture
def folder(tmp_path, drive):
    return save(tmp_path / 'drive', {f'{i}.png': image for i, image in enumerate(drive)})


def save(folder, images):
    for name, image in images.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        assert cv2.imwrite(str(folder / name), cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
    return folder


def picture(path):
    image = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB) if image.ndim == 3 else image


def brightness_differs(one, other):
    """
    Return the mean absolute difference in brightness, from 0 to 255.

    Colours are ignored: JPEG and H.264 halve their resolution, and random weights give every pixel
    a different one.
    """
    one, other = (cv2.cvtColor(image, cv2.COLOR_RGB2GRAY).astype(int) for image in (one, other))
    return np.abs(one - other).mean()


def files(folder):
    return sorted(p.relative_to(folder).as_posix() for p in folder.rglob('*') if p.is_file())


def run(*arguments, weights):
    return main(['predict', *map(str, arguments), '--weights', str(weights), '--device', 'cpu',
                 '--precision', 'float32'])


def test_pictures_are_what_the_network_says(folder, drive, tmp_path, predictor, weights):
    kinds = ('mask', 'color_mask', 'overlay', 'confidence')
    assert run(folder, '-o', tmp_path / 'out', '--write', *kinds, weights=weights) == 0
    assert files(tmp_path / 'out') == sorted(
        f'{kind}/{i}.{"jpg" if kind == "overlay" else "png"}' for kind in kinds for i in range(6))
    for index, image in enumerate(drive):
        truth = predictor.segment(image)
        found = {kind: picture(next((tmp_path / 'out' / kind).glob(f'{index}.*')))
                 for kind in kinds}
        np.testing.assert_array_equal(found['mask'], truth.label_map)
        np.testing.assert_array_equal(found['color_mask'], truth.color_mask)
        np.testing.assert_array_equal(found['confidence'], truth.confidence)
        assert brightness_differs(found['overlay'], truth.overlay) < 4


def test_twice_gives_the_same_bytes(folder, tmp_path, weights):
    for name in ('one', 'two'):
        assert run(folder, '-o', tmp_path / name, weights=weights) == 0
    for file in files(tmp_path / 'one'):
        assert (tmp_path / 'one' / file).read_bytes() == (tmp_path / 'two' / file).read_bytes()
    assert files(tmp_path / 'one') == [f'mask/{i}.png' for i in range(6)]


def test_statistics_have_a_row_for_each_frame_and_class(folder, tmp_path, weights):
    table = tmp_path / 'new' / 's.csv'
    assert run(folder, '-o', tmp_path / 'out', '--statistics', table, '--fps', 8,
               weights=weights) == 0
    with table.open(newline='') as file:
        rows = list(csv.DictReader(file))
    assert tuple(rows[0]) == COLUMNS and len(rows) == 6 * 11
    assert [row['stamp'] for row in rows[::11]] == [f'{i / 8:.9f}' for i in range(6)]
    for row in rows:
        mask = picture(tmp_path / 'out' / 'mask' / f'{row["frame"]}.png')
        assert int(row['pixel_count']) == (mask == int(row['class_id'])).sum()
        assert float(row['fraction']) == pytest.approx(int(row['pixel_count']) / mask.size,
                                                       abs=1e-6)
        assert row['class_name'] == load_label_set('camvid11').class_names[int(row['class_id'])]
        assert 0 <= float(row['mean_confidence']) <= 1


@pytest.mark.parametrize('below', ['color_mask', 'overlay'])
def test_the_video_shows_every_frame_above_its_segmentation(folder, drive, tmp_path, predictor,
                                                            weights, below):
    video = tmp_path / 'v.mp4'
    assert run(folder, '--video', video, '--below', below, '--fps', 10, weights=weights) == 0
    assert files(tmp_path) == sorted(['v.mp4', *(f'drive/{i}.png' for i in range(6))])
    frames = open_frames(video)
    assert frames.rate == 10
    shown = [frame.image for frame in frames]
    assert len(shown) == 6
    for image, found in zip(drive, shown, strict=True):
        expected = np.concatenate((image, getattr(predictor.segment(image), below)))
        assert brightness_differs(expected, found) < 4


@pytest.mark.parametrize('kind', ['video', 'bag', 'sample'])
def test_frames_of_a_recording_go_by_its_name(folder, tmp_path, weights, kind):
    if kind == 'video':
        source = tmp_path / 'clip.mp4'
        with VideoWriter(source, 10) as video:
            for frame in open_frames(folder):
                video.write(frame.image)
    elif kind == 'bag':
        source = tmp_path / 'clip'
        write_bag(open_frames(folder), source)
    else:
        source = 'sample:3'
    assert run(source, '-o', tmp_path / 'out', '--limit', 4, weights=weights) == 0
    name = 'sample3' if kind == 'sample' else 'clip'
    assert files(tmp_path / 'out') == [f'mask/{name}/{i:06d}.png' for i in range(4)]


class Camera:
    """Stands in for cv2.VideoCapture: gives frames until somebody presses Ctrl-C."""

    rate = 0.0
    is_released = False

    def __init__(self, index):
        assert index == 2
        self.left = 3

    def isOpened(self):
        return True

    def get(self, _):
        return self.rate

    def read(self):
        self.left -= 1
        if self.left < 0:
            raise KeyboardInterrupt
        return True, np.full((*SIZE, 3), (self.left, 0, 0), np.uint8)  # blue

    def release(self):
        Camera.is_released = True


def test_a_camera_is_read_until_an_interrupt_and_the_files_are_whole(tmp_path, weights,
                                                                     monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(cv2, 'VideoCapture', Camera)
        assert run('camera:2', '-o', tmp_path / 'out', '--video', tmp_path / 'v.mp4',
                   weights=weights) == 0
    assert files(tmp_path / 'out') == [f'mask/camera2/{i:06d}.png' for i in range(3)]
    assert len(list(open_frames(tmp_path / 'v.mp4'))) == 3


@pytest.mark.parametrize('own, rate', [(0.0, 15), (math.nan, 15), (1000.0, 15), (30.0, 30)])
def test_a_camera_s_frames_are_rgb_with_its_rate_and_the_time_they_came(monkeypatch, own, rate):
    monkeypatch.setattr(cv2, 'VideoCapture', Camera)
    monkeypatch.setattr(Camera, 'rate', own)
    monkeypatch.setattr(Camera, 'is_released', False)
    before = time.time_ns()
    frames = read_inputs(find_inputs(['camera:2']), 15, pytest.fail)
    _, found, frame = next(frames)
    assert found == rate and before <= frame.stamp_ns <= time.time_ns()
    assert frame.image[0, 0].tolist() == [0, 0, 2]
    with pytest.raises(KeyboardInterrupt):
        list(frames)
    assert Camera.is_released


def test_no_such_camera(tmp_path, weights, capsys):
    assert run('camera:77', '-o', tmp_path / 'out', weights=weights) == 1
    assert 'camera:77: OpenCV cannot open /dev/video77' in capsys.readouterr().err
    assert run('camera:front', '-o', tmp_path / 'out', weights=weights) == 1
    assert 'such as camera:0' in capsys.readouterr().err


def test_broken_files_are_named_and_left_out(folder, tmp_path, weights, capsys):
    (folder / '2.png').write_bytes((folder / '2.png').read_bytes()[:200])
    (folder / '4.png').write_text('no image')
    (tmp_path / 'clip.mp4').write_text('no video')
    assert run(folder, tmp_path / 'clip.mp4', '-o', tmp_path / 'out', weights=weights) == 3
    assert files(tmp_path / 'out') == [f'mask/{i}.png' for i in (0, 1, 3, 5)]
    said = capsys.readouterr()
    assert '4 frames segmented\nmessages about what was left out: 3' in said.out
    for name in ('2.png', '4.png', 'clip.mp4'):
        assert f'left out: {tmp_path}' in said.err and name in said.err


def test_nothing_done_is_an_error(tmp_path, weights, capsys):
    (tmp_path / 'a.png').write_text('no image')
    assert run(tmp_path / 'a.png', '-o', tmp_path / 'out', weights=weights) == 1
    assert run(tmp_path / 'no.png', '-o', tmp_path / 'out', weights=weights) == 1
    assert "no file or folder '" in capsys.readouterr().err
    assert run(tmp_path / 'a.png', weights=weights) == 1
    assert 'nothing to write' in capsys.readouterr().err
    video = tmp_path / 'a.mp4'
    assert run(tmp_path / 'a.png', '--video', video, '--write', 'overlay', weights=weights) == 1
    assert '--write: say where with -o FOLDER' in capsys.readouterr().err
    assert not (tmp_path / 'out').exists()


def test_a_clip_that_is_cut_off_is_told(drive, tmp_path, weights, capsys):
    clip = tmp_path / 'clip.mp4'
    with VideoWriter(clip, 10) as video:
        for image in drive * 5:
            video.write(image)
    clip.write_bytes(clip.read_bytes()[:clip.stat().st_size * 2 // 3])
    assert run(clip, '-o', tmp_path / 'out', weights=weights) == 3
    assert f'left out: {clip} is cut off' in capsys.readouterr().err


@pytest.mark.parametrize('name,arguments', [
    ('clip.mp4', ('--video', 'clip.mp4')), ('clip.mp4', ('--video', 'link.mp4')),
    ('clip.mp4', ('--statistics', 'clip.mp4')), ('bag', ('--statistics', 'bag/bag.mcap')),
    ('data/mask', ('-o', 'data')), ('out/mask/clip/000000.png', ('clip.mp4', '-o', 'out'))])
def test_an_input_is_never_overwritten(folder, drive, tmp_path, weights, capsys, monkeypatch,
                                       name, arguments):
    monkeypatch.chdir(tmp_path)
    with VideoWriter('clip.mp4', 10) as video:
        video.write(drive[0])
    Path('link.mp4').symlink_to('clip.mp4')
    write_bag(open_frames(folder), 'bag')
    save(Path('data/mask'), {'a.png': drive[0]})
    save(Path('out/mask/clip'), {'000000.png': drive[0]})
    before = {file: Path(file).read_bytes() for file in files(tmp_path)}
    assert run(name, *arguments, weights=weights) == 1
    assert 'would overwrite the input ' + name in capsys.readouterr().err
    assert {file: Path(file).read_bytes() for file in files(tmp_path)} == before


def test_no_file_is_given_for_two_results(folder, tmp_path, weights, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert run(folder, '--video', 'a.mp4', '--statistics', tmp_path / 'a.mp4',
               weights=weights) == 1
    assert 'a.mp4 cannot be both the video and the statistics' in capsys.readouterr().err
    assert not Path('a.mp4').exists()
    Path('a.mp4').symlink_to('a.mp4')  # leads nowhere
    assert run(folder, '--video', 'a.mp4', '--statistics', 't.csv', weights=weights) == 0


@pytest.mark.parametrize('arguments,words', [
    (('-o', 'file'), 'file/mask: Not a directory'),
    (('--video', 'file/v.mp4'), 'file: File exists'),
    (('--statistics', '/dev/full'), '/dev/full: No space left on device')])
def test_what_cannot_be_written_is_named_in_one_line(folder, tmp_path, weights, capsys,
                                                     monkeypatch, arguments, words):
    monkeypatch.chdir(tmp_path)
    Path('file').touch()
    assert run(folder, *arguments, weights=weights) == 1
    assert capsys.readouterr().err.splitlines()[-1] == f'segnet predict: {words}'


def test_on_a_full_disk_no_half_picture_is_left(folder, tmp_path, weights, capsys, full_disk):
    large = np.random.default_rng(0).integers(0, 256, (96, 128, 3), np.uint8)
    save(folder, {'1.png': large})
    with full_disk():
        assert run(folder, '-o', tmp_path / 'out', '--write', 'overlay', weights=weights) == 1
    assert f'{tmp_path}/out/overlay/1.jpg: File too large' in capsys.readouterr().err
    assert files(tmp_path / 'out') == ['overlay/0.jpg']


def test_on_a_full_disk_the_older_table_stays(folder, drive, tmp_path, weights, capsys, full_disk):
    save(folder, {f'{index}.png': drive[0] for index in range(30)})
    (tmp_path / 't.csv').write_text('older')
    with full_disk():
        assert run(folder, '--statistics', tmp_path / 't.csv', weights=weights) == 1
    assert f'{tmp_path}/t.csv: File too large' in capsys.readouterr().err
    assert (tmp_path / 't.csv').read_text() == 'older'
    assert not (tmp_path / 't.csv.part').exists()


def test_frames_of_another_size_are_segmented_but_not_in_the_video(folder, drive, tmp_path,
                                                                   weights, capsys):
    save(folder, {'3.png': drive[3][:32]})
    assert run(folder, '-o', tmp_path / 'out', '--video', tmp_path / 'v.mp4',
               weights=weights) == 3
    assert picture(tmp_path / 'out' / 'mask' / '3.png').shape == (32, 64)
    # The frames after it follow without a gap.
    assert [frame.stamp_ns for frame in open_frames(tmp_path / 'v.mp4')] == pytest.approx(
        [i * 10**9 / 15 for i in range(5)], abs=2e6)
    assert '3 is not in the video' in capsys.readouterr().err


def test_what_no_format_or_name_can_hold_is_left_out_alone(tmp_path, drive, weights, capsys):
    wide = np.zeros((2, 65600, 3), np.uint8)  # a JPEG side has 16 bits
    long = 'n' * 250  # most disks allow 255 bytes, and the .part file has more
    folder = save(tmp_path / 'in', {'a.png': drive[0], 'b.png': wide, f'{long}.png': drive[1],
                                    'z.png': drive[2]})
    assert run(folder, '-o', tmp_path / 'out', '--write', 'overlay', weights=weights) == 3
    assert files(tmp_path / 'out') == ['overlay/a.jpg', 'overlay/z.jpg']
    told = capsys.readouterr().err
    assert 'cannot write the overlay of b: 65600x2 pixels' in told
    assert f'cannot write the overlay of {long}: ' in told


def test_a_picture_too_large_for_a_video_is_left_out_of_it(tmp_path, drive, weights, capsys):
    folder = save(tmp_path / 'in', {'a.png': np.zeros((8200, 2, 3), np.uint8), 'b.png': drive[0]})
    assert run(folder, '--video', tmp_path / 'v.mp4', weights=weights) == 3
    assert len(list(open_frames(tmp_path / 'v.mp4'))) == 1
    assert 'a is not in the video' in capsys.readouterr().err


def test_a_video_keeps_to_the_stamps_and_recordings_follow_at_once(tmp_path, drive, weights):
    for number, start in ((1, 10**18), (2, 0), (3, 2 * 10**18)):  # recorded years apart
        write_bag([Frame(i, start + stamp, 'camera', str(i),
                         drive[i][:32] if number == 2 or (number, i) == (3, 0) else drive[i])
                   for i, stamp in enumerate((0, 10**9, 3 * 10**9))], tmp_path / f'bag{number}')
    save(tmp_path, {'a.png': drive[0], 'b.png': drive[1]})
    inputs = [tmp_path / name for name in ('bag1', 'bag2', 'a.png', 'bag3', 'b.png')]
    # No frame of bag2 fits into the video; all but the first of bag3 do.
    assert run(*inputs, '--video', tmp_path / 'v.mp4', '--fps', 5, weights=weights) == 3
    stamps = [time / 1e9 for time, _ in UntrustedVideo(tmp_path / 'v.mp4').read()]
    step = 1.5  # the first bag's mean
    assert stamps == pytest.approx(
        [0, 1, 3, 3 + step, 3 + 2 * step, 5 + 2 * step, 5 + 3 * step], abs=0.02)


@pytest.mark.parametrize('argument', ['.', '..', 'x/..'])
def test_a_bag_that_one_stands_in_has_its_folder_s_name(tmp_path, drive, weights, monkeypatch,
                                                        argument):
    write_bag([Frame(0, 0, 'camera', '0', drive[0])], tmp_path / 'my_bag')
    (tmp_path / 'my_bag' / 'x').mkdir()
    monkeypatch.chdir(tmp_path / 'my_bag' / ('x' if argument == '..' else ''))
    assert run(argument, '-o', tmp_path / 'out', weights=weights) == 0
    assert files(tmp_path / 'out') == ['mask/my_bag/000000.png']


def test_names_that_mean_something_elsewhere_are_names(tmp_path, drive, weights, monkeypatch):
    monkeypatch.chdir(tmp_path)
    save(tmp_path / 'in', {'~lock.png': drive[0]})
    with VideoWriter('in/2024-01-02T12:30:05.mp4', 10) as video:
        video.write(drive[1])
    monkeypatch.chdir('in')
    clip, results = '2024-01-02T12:30:05.mp4', '2024-01-02T123005/000000'
    for number, (argument, name) in enumerate((
            ('.', '~lock'), ('~lock.png', '~lock'), (clip, results), ('./' + clip, results))):
        out = tmp_path / str(number)
        assert run(argument, '-o', out, '--video', 'o:o.mp4', weights=weights) == 0
        assert files(out) == [f'mask/{name}.png']
        assert len(list(open_frames('o:o.mp4'))) == 1
        os.remove('o:o.mp4')


def test_a_video_whose_name_is_no_text_is_refused(tmp_path, drive):
    with VideoWriter(tmp_path / 'v.mp4', 10) as video:
        video.write(drive[0])
    name = os.fsdecode(os.fsencode(tmp_path) + b'/caf\xe9.mp4')
    os.rename(tmp_path / 'v.mp4', name)
    with pytest.raises(ValueError, match='whose name is not UTF-8; rename it'):
        open_frames(name)


def test_one_of_a_bag_s_cameras_is_segmented(folder, tmp_path, weights):
    write_bag(open_frames(folder), tmp_path / 'one')
    write_several_cameras(tmp_path / 'two', tmp_path / 'one', '/front', '/rear')
    assert run(tmp_path / 'two', '-o', tmp_path / 'out', '--topic', '/rear', weights=weights) == 0


def test_a_limit_below_one_is_refused(folder, tmp_path, weights, capsys):
    assert main(['predict', str(folder), '-o', str(tmp_path / 'out'), '--weights', weights,
                 '--limit', '0']) == 1
    assert '--limit 0: give at least 1' in capsys.readouterr().err


def names(*arguments):
    return [item.name for item in find_inputs(map(str, arguments))]


def test_names(tmp_path, drive, monkeypatch):
    image = drive[0]
    save(tmp_path, {'a/x.png': image, 'b/x.png': image, 'b/y.png': image, 'c/z.png': image})
    assert names(tmp_path / 'b', tmp_path / 'c') == ['x', 'y', 'z']
    assert names(tmp_path / 'a', tmp_path / 'b') == ['a/x', 'b/x', 'b/y']
    assert names(tmp_path / '**' / 'x.png') == ['a/x', 'b/x']
    assert names(tmp_path / '?') == ['a/x', 'b/x', 'b/y', 'c/z']
    # A file given twice counts once.
    assert names(tmp_path / 'a', tmp_path / 'a' / '*.png') == ['x']
    monkeypatch.chdir(tmp_path)
    assert names('a/x.png', './a/x.png', 'b/../a/x.png', tmp_path / 'a' / 'x.png') == ['x']
    save(tmp_path / 'l', {'deep/er/v.png': image, 'deep/w.png': image, 'w.png': image})
    (tmp_path / 'l' / 'link').symlink_to('deep/er')  # so link/.. is deep
    (tmp_path / 'l' / 'same.png').symlink_to('w.png')
    assert len(names('l/w.png', 'l/link/../w.png', 'l/same.png', 'l/link/v.png')) == 4
    assert names('l/link', 'l/deep/er', 'l/deep/er/../er') == ['v']
    assert names('l/**/w.png') == ['deep/w', 'w'], 'of any depth'
    monkeypatch.setenv('HOME', str(tmp_path))
    assert names('~/c') == ['z']
    save(tmp_path, {'a/x.jpg': image})
    assert names(tmp_path / 'a') == ['x_jpg', 'x_png']
    save(tmp_path / 'd', {'a.b.png': image, 'a_b.png': image, 'a_b.jpg': image})
    assert names(tmp_path / 'd') == ['a_b_png', 'a_b_jpg', 'a_b_png_2']
    # A recording's results are in a folder of its name, which no picture's results may share.
    save(tmp_path / 'q', {'clip/000000.png': image, 'other/000000.png': image})
    (tmp_path / 'q' / 'clip.mp4').touch()
    found = names(tmp_path / 'q' / 'clip', tmp_path / 'q' / 'other', tmp_path / 'q' / 'clip.mp4')
    assert found == ['clip/000000_png', 'other/000000_png', 'clip_mp4']
    shutil.copytree(tmp_path / 'a', tmp_path / '[a]')
    [found] = find_inputs([str(tmp_path / '[a]' / 'x.png')])
    assert found.source == str(tmp_path / '[a]' / 'x.png'), 'not what it means as a pattern'


def test_files_are_never_taken_for_the_sample_drive_or_a_camera(tmp_path, folder, drive,
                                                                monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_bag(open_frames(folder), 'sample')
    save(tmp_path / 'pictures', {'camera:0.png': drive[3]})
    for argument in ('./sample', 'sample/', '[s]ample'):
        found = find_inputs([argument])
        assert [item.name for item in found] == ['sample']
        frames = [frame for _, _, frame in read_inputs(found, 15, pytest.fail)]
        assert len(frames) == 6 and all(
            np.array_equal(frame.image, image) for frame, image in zip(frames, drive, strict=True))
    monkeypatch.chdir('pictures')
    for argument in ('.', '*.png', './camera:0.png'):
        [(_, _, frame)] = read_inputs(find_inputs([argument]), 15, pytest.fail)
        np.testing.assert_array_equal(frame.image, drive[3])


def test_a_picture_whose_suffix_is_in_capitals_is_one(tmp_path, drive, predictor):
    save(tmp_path, {'a.PNG': drive[0]})
    predict([str(tmp_path / 'a.PNG')], predictor, Results(tmp_path / 'out'))
    assert files(tmp_path / 'out') == ['mask/a.png']


def test_colliding_names_keep_all_pictures(tmp_path, drive, predictor):
    save(tmp_path, {'a/x.png': drive[0], 'b/x.png': drive[5]})
    predict([str(tmp_path / '?')], predictor, Results(tmp_path / 'out'))
    assert files(tmp_path / 'out') == ['mask/a/x.png', 'mask/b/x.png']
    for name, image in (('a', drive[0]), ('b', drive[5])):
        np.testing.assert_array_equal(picture(tmp_path / 'out' / 'mask' / name / 'x.png'),
                                      predictor.segment(image).label_map)


def test_any_number_of_frames_in_constant_memory(tmp_path, folder, predictor):
    results = Results(tmp_path / 'out', ('mask', 'overlay'), statistics=tmp_path / 's.csv')
    for number in range(120):
        Path(folder, f'more{number}.png').symlink_to(folder / '0.png')
    predict([str(folder)], predictor, results, limit=20)
    tracemalloc.start()
    try:
        predict([str(folder)], predictor, results, limit=20)
        few = tracemalloc.get_traced_memory()[1]
        tracemalloc.reset_peak()
        predict([str(folder)], predictor, results)
        many = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    # Keeping them all would take 106 more images.
    assert many - few < 10 * SIZE[0] * SIZE[1] * 3


def test_segmenters_are_kept_for_the_last_sizes_only(weights, monkeypatch):
    made = []
    real = Predictor.segment.__globals__['Segmenter']

    def counting(network, info, size):
        made.append(size)
        return real(network, info, size)
    monkeypatch.setitem(Predictor.segment.__globals__, 'Segmenter', counting)
    predictor = Predictor(weights, 'cpu', 'float32')
    sizes = [(16 + 8 * i, 32) for i in range(SIZES_KEPT + 1)]

    def use(*numbers):
        for number in numbers:
            label_map = predictor.segment(np.zeros((*sizes[number], 3), np.uint8)).label_map
            assert label_map.shape == sizes[number]
    use(0, 0, 1, 0, 2, 3)
    assert made == sizes[:4]
    use(4)  # replaces 1, the least recently used
    use(0, 2, 3)
    assert made == sizes
    use(1)
    assert made == [*sizes, sizes[1]]


def test_large_pictures_are_not_kept_room_for(weights, monkeypatch):
    monkeypatch.setattr('segnet_ros.predictor.PIXELS_KEPT', 2 * 64 * 64)
    predictor = Predictor(weights, 'cpu', 'float32')
    for size in ((64, 64), (32, 96), (64, 96), (96, 128)):
        predictor.segment(np.zeros((*size, 3), np.uint8))
    assert list(predictor._segmenters) == [(96, 128)]
    predictor.segment(np.zeros((16, 16, 3), np.uint8))
    assert list(predictor._segmenters) == [(16, 16)]


def test_an_empty_picture_is_told(predictor):
    with pytest.raises(ValueError, match='an image of 10x0 pixels is empty'):
        predictor.segment(np.zeros((0, 10, 3), np.uint8))


@pytest.mark.parametrize('closed', ['stdout', 'stderr'])
def test_work_is_done_though_the_shell_closed_its_streams(folder, tmp_path, weights, monkeypatch,
                                                          closed):
    monkeypatch.setattr(sys, closed, None)
    assert run(folder, '-o', tmp_path / 'out', weights=weights) == 0
    assert len(files(tmp_path / 'out')) == len(files(folder))


def test_a_name_that_is_no_text_goes_into_the_table(tmp_path, weights):
    os.mkdir(tmp_path / 'in')
    write_picture = cv2.imencode('.png', np.zeros((32, 48, 3), np.uint8))[1].tobytes()
    name = os.fsdecode(b'caf\xe9.png')
    (tmp_path / 'in' / name).write_bytes(write_picture)
    assert main(['predict', str(tmp_path / 'in'), '--statistics', str(tmp_path / 't.csv'),
                 '--weights', str(weights), '--device', 'cpu']) == 0
    assert b'caf\xe9,0.0' in (tmp_path / 't.csv').read_bytes()


def test_times_before_1970_have_one_sign(tmp_path, weights):
    image = np.zeros((32, 48, 3), np.uint8)
    write_bag([Frame(0, -1_500_000_000, 'camera', '0', image, record_ns=0)], tmp_path / 'bag')
    assert run(tmp_path / 'bag', '--statistics', tmp_path / 't.csv', weights=weights) == 0
    assert ',-1.500000000,' in (tmp_path / 't.csv').read_text()


def test_a_signal_closes_the_video(tmp_path, weights):
    """The signal is SIGTERM, as `docker stop` sends it."""
    command = [sys.executable, '-m', 'segnet_ros.tools.cli', 'predict', 'sample', '--video',
               str(tmp_path / 'v.mp4'), '--weights', str(weights), '--device', 'cpu']
    with subprocess.Popen(command, stderr=subprocess.PIPE) as process:
        while not (tmp_path / 'v.mp4.part').exists() and process.poll() is None:
            time.sleep(0.01)
        process.terminate()
        assert process.wait(timeout=60) == 130
    assert [path.name for path in tmp_path.iterdir()] == ['v.mp4']
    assert len(list(open_frames(tmp_path / 'v.mp4'))) >= 1
