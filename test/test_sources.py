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

"""Check where frames come from: folders, single images, videos, bags and the sample drive."""

import os
import tracemalloc
from types import SimpleNamespace
from unittest.mock import MagicMock

import cv2
import numpy as np
import pytest
from rosbags.rosbag2 import StoragePlugin, Writer
from uneven_video import write_uneven_video

from segnet_ros.bags.reading import IMAGE, TYPES
from segnet_ros.bags.writing import make_header, write_bag
from segnet_ros.frames import decode_image, encode_image, Frame, is_whole_image
from segnet_ros.labels import LabelSet, load_label_set
from segnet_ros.sample_drive.drive import SampleDrive
from segnet_ros.sources import (
    Frames, image_files, is_bag_source, keep_frames, open_frames, open_labels, sample_seed,
    video_frames)
from segnet_ros.video import VideoWriter


def picture(seed, height=37, width=51):
    """Return a smooth random image, RGB, which survives lossy codecs."""
    small = np.random.default_rng(seed).integers(0, 256, (3, 4, 3), np.uint8)
    return cv2.resize(small, (width, height), interpolation=cv2.INTER_LINEAR)


def save(path, image):
    assert cv2.imwrite(str(path), cv2.cvtColor(image, cv2.COLOR_RGB2BGR))


def close(a, b, tolerance):
    return a.shape == b.shape and np.abs(a.astype(int) - b).mean() < tolerance


@pytest.fixture
def folder(tmp_path):
    """Create a folder of three images of different formats and sizes, not written in order."""
    path = tmp_path / 'drive'
    path.mkdir()
    save(path / 'c.jpg', picture(2, 30, 41))
    save(path / 'b.PNG', picture(1, 61, 33))
    save(path / 'a.webp', picture(0))
    (path / 'notes.txt').write_text('no image')
    return path


@pytest.fixture
def video(tmp_path):
    path = tmp_path / 'drive.avi'
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*'MJPG'), 12.5, (50, 38))
    for seed in range(5):
        writer.write(cv2.cvtColor(picture(seed, 38, 50), cv2.COLOR_RGB2BGR))
    writer.release()
    return path


def test_folder_in_order_of_names(folder):
    frames = open_frames(str(folder), fps=7.5)
    assert (frames.rate, frames.count) == (7.5, 3)
    found = list(frames)
    assert [f.name for f in found] == ['a', 'b', 'c']
    assert [f.index for f in found] == [0, 1, 2]
    assert [f.stamp_ns for f in found] == [0, 133333333, 266666667]
    assert {f.frame_id for f in found} == {'camera'}
    np.testing.assert_array_equal(found[1].image, picture(1, 61, 33))
    assert close(found[0].image, picture(0), 12) and close(found[2].image, picture(2, 30, 41), 12)
    assert [f.name for f in frames] == ['a', 'b', 'c']  # a second time, from the start


def test_one_image_is_a_source_too(folder):
    [frame] = open_frames(folder / 'b.PNG')
    assert frame.name == 'b'  # a video's frames have numbers
    np.testing.assert_array_equal(frame.image, picture(1, 61, 33))


def test_broken_image_is_named(folder):
    whole = (folder / 'c.jpg').read_bytes()
    (folder / 'b2.jpg').write_bytes(whole[:len(whole) * 2 // 3])
    (folder / 'b3.png').write_bytes(b'')
    (folder / 'd.png').symlink_to('unplugged')
    with pytest.raises(ValueError, match=r'b2\.jpg.*not a whole image'):
        list(open_frames(folder))
    errors = []
    found = list(open_frames(folder, fps=1, on_error=errors.append))
    assert [(f.name, f.index, f.stamp_ns // 10**9) for f in found] == [
        ('a', 0, 0), ('b', 1, 1), ('c', 4, 4)]
    assert [type(e) for e in errors] == [ValueError] * 3
    for name, error in zip(('b2.jpg', 'b3.png', 'd.png'), errors, strict=True):
        assert name in str(error)


def test_photographs_are_turned_upright_and_messages_are_not(tmp_path):
    image = picture(3)
    jpeg = cv2.imencode('.jpg', cv2.cvtColor(image, cv2.COLOR_RGB2BGR))[1].tobytes()
    # Orientation 6: turn by 90 degrees clockwise to see it upright.
    tag = b'\x12\x01\x03\x00\x01\x00\x00\x00\x06\x00\x00\x00'
    exif = b'Exif\0\0II*\0\x08\x00\x00\x00\x01\x00' + tag + bytes(4)
    turned = jpeg[:2] + b'\xff\xe1' + (len(exif) + 2).to_bytes(2, 'big') + exif + jpeg[2:]
    assert close(decode_image(turned), image, 12)
    (tmp_path / 'turned.jpg').write_bytes(turned)
    (tmp_path / 'turned.jfif').write_bytes(turned)
    for source in (tmp_path, tmp_path / 'turned.jfif'):
        assert all(close(frame.image, np.rot90(image, -1), 12) for frame in open_frames(source))
    assert open_frames(tmp_path).count == 2


def test_a_picture_beyond_opencv_s_limit_is_not_called_damaged(monkeypatch):
    def refuse(*_):
        raise cv2.error('too large')
    monkeypatch.setattr(cv2, 'imdecode', refuse)
    monkeypatch.setattr(cv2.error, 'err', 'pixels <= CV_IO_MAX_IMAGE_PIXELS', raising=False)
    with pytest.raises(ValueError, match='OpenCV can read: pixels <= CV_IO_MAX_IMAGE_PIXELS$'):
        decode_image(encode_image(picture(0), 'png'))


def test_a_pipe_is_no_source(tmp_path):
    os.mkfifo(tmp_path / 'pipe')
    with pytest.raises(ValueError, match='pipe is a pipe; write it to a file first'):
        open_frames(tmp_path / 'pipe')


def jpeg(progressive, thumbnail):
    """Return a JPEG; a thumbnail, as phones add one, is a JPEG in the EXIF segment."""
    options = [cv2.IMWRITE_JPEG_PROGRESSIVE, progressive]
    data = cv2.imencode('.jpg', picture(3), options)[1].tobytes()
    if thumbnail:
        inner = b'Exif\0\0' + cv2.imencode('.jpg', picture(4, 12, 16))[1].tobytes()
        data = data[:2] + b'\xff\xe1' + (len(inner) + 2).to_bytes(2, 'big') + inner + data[2:]
    return data


@pytest.mark.parametrize('progressive', [0, 1])
@pytest.mark.parametrize('thumbnail', [False, True])
def test_a_jpeg_is_whole_with_a_video_behind_it_and_not_when_it_is_cut(progressive, thumbnail):
    whole = jpeg(progressive, thumbnail)
    assert (whole.count(b'\xff\xda') > 1 + thumbnail) == bool(progressive)
    motion_photo = whole + b'\0\0\0\x18ftypmp42' + b'\xff\xd9 \xff\xda' * 3
    np.testing.assert_array_equal(decode_image(motion_photo), decode_image(whole))
    assert not any(is_whole_image(whole[:length]) for length in range(len(whole)))


def test_video_has_its_own_rate(video):
    frames = open_frames(video, fps=99)
    assert (frames.rate, frames.count) == (12.5, 5)
    found = list(frames)
    assert [f.stamp_ns for f in found] == [i * 80_000_000 for i in range(5)]
    assert [f.name for f in found] == [f'{i:06d}' for i in range(5)]
    assert all(close(f.image, picture(i, 38, 50), 12) for i, f in enumerate(found))


@pytest.mark.parametrize('suffix', ['mp4', 'mkv'])
def test_frames_of_an_uneven_video_have_their_own_times(tmp_path, suffix):
    times = [33 * i for i in range(10)] + [400 + 200 * i for i in range(10)]
    write_uneven_video(tmp_path / f'v.{suffix}', times)
    # An mkv reports the frame count that its duration implies at the camera's rate: 73.
    errors = []
    found = list(open_frames(tmp_path / f'v.{suffix}', on_error=errors.append))
    assert [round(frame.stamp_ns / 1e6) for frame in found] == times and not errors


def test_a_video_without_times_has_those_of_its_rate(video, monkeypatch):
    class Timeless:
        """Stands in for cv2.VideoCapture of a file without timestamps."""

        def __init__(self, path):
            self.real = real(path)

        def get(self, what):
            return 0.0 if what == cv2.CAP_PROP_POS_MSEC else self.real.get(what)

        def __getattr__(self, name):
            return getattr(self.real, name)
    real = cv2.VideoCapture
    monkeypatch.setattr(cv2, 'VideoCapture', Timeless)
    assert [f.stamp_ns for f in open_frames(video)] == [i * 80_000_000 for i in range(5)]


def test_a_video_that_is_cut_off_is_reported(tmp_path):
    path = tmp_path / 'v.mp4'
    with VideoWriter(path, 10) as writer:
        for seed in range(40):
            writer.write(picture(seed, 48, 64))
    errors = []
    assert len(list(open_frames(path, on_error=errors.append))) == 40 and not errors
    path.write_bytes(path.read_bytes()[:path.stat().st_size * 2 // 3])
    found = list(open_frames(path, on_error=errors.append))
    assert 5 < len(found) < 35
    assert f'{path} is cut off or damaged, or its sound is longer: it ends after' in str(errors[0])
    assert f' after {len(found)} frames' in str(errors[0])
    with pytest.raises(ValueError, match='cut off'):
        list(open_frames(path))


@pytest.mark.parametrize('suffix', [
    # Before 4.11 OpenCV does not tell the time of a file's first frame.
    pytest.param('mkv', marks=pytest.mark.skipif(not hasattr(cv2, 'CAP_PROP_PTS'),
                                                 reason='needs OpenCV 4.11')),
    'avi', 'mp4', 'ts'])
def test_a_part_of_a_recording_is_whole_though_its_times_begin_late(tmp_path, suffix):
    """As of the parts that the segment muxer of FFmpeg makes of a camera's stream."""
    path = tmp_path / f'v.{suffix}'
    write_uneven_video(path, [10_000 + 33 * index for index in range(30)])
    errors = []
    frames = list(open_frames(path, on_error=errors.append))
    assert len(frames) == 30 and frames[0].stamp_ns == 0 and not errors


def test_sample_is_the_drive_though_a_bag_has_its_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_bag([Frame(0, 0, 'front', '', picture(0))], tmp_path / 'sample')
    assert is_bag_source('./sample') and is_bag_source(tmp_path / 'sample')
    assert not is_bag_source('sample') and not is_bag_source('sample:7')


def test_bag_gives_what_was_written(tmp_path):
    written = [Frame(i, 1_700_000_000_123_456_789 + i * 50_000_000, 'front', '', picture(i))
               for i in range(5)]
    write_bag(written, tmp_path / 'bag', '/front/image')
    frames = open_frames(tmp_path / 'bag')
    assert frames.count == 5 and frames.rate == pytest.approx(20)
    for before, after in zip(written, frames, strict=True):
        assert (after.index, after.stamp_ns, after.frame_id) == (
            before.index, before.stamp_ns, 'front')
        np.testing.assert_array_equal(after.image, before.image)


def test_broken_message_is_left_out(tmp_path, monkeypatch):
    real = cv2.imencode
    monkeypatch.setattr('segnet_ros.frames.cv2.imencode',
                        lambda *args: (True, real(*args)[1][:-30 if calls.pop() else None]))
    calls = [False, True, False]
    frames = [Frame(i, i * 10**9, '', '', picture(i)) for i in range(3)]
    write_bag(frames, tmp_path / 'bag', image_format='png')
    errors = []
    found = list(open_frames(tmp_path / 'bag', on_error=errors.append))
    assert [f.index for f in found] == [0, 2]
    assert len(errors) == 1 and '/image, message at time 1.000' in str(errors[0])


def test_sample_drive():
    frames = open_frames('sample:4')
    assert (frames.rate, frames.count) == (15.0, 150)
    first = next(iter(frames))
    np.testing.assert_array_equal(first.image, SampleDrive(4).frame(0)[0])
    assert not np.array_equal(first.image, next(iter(open_frames('sample'))).image)
    assert (sample_seed('sample'), sample_seed('sample:4')) == (0, 4)
    for source in ('samples/clip.mp4', 'sample_drive', './sample'):
        assert sample_seed(source) is None


def test_kept_frames_are_read_once(folder):
    read = []

    def frames():
        for frame in open_frames(folder):
            read.append(frame.index)
            yield frame
    kept = keep_frames(Frames(7.5, 2, frames))
    assert (kept.rate, kept.count) == (7.5, 2)
    first = next(iter(kept))  # a pass that ends early
    again, third = list(kept), list(kept)
    assert read == [frame.index for frame in open_frames(folder)] and len(read) > 1
    assert again[0] is first and all(a is b for a, b in zip(again, third, strict=True))
    assert [frame.index for frame in again] == read


def test_kept_frames_may_be_read_by_two_at_a_time(folder):
    frames = open_frames(folder)
    kept = keep_frames(frames)
    slow = iter(kept)
    begun = [next(slow).index]
    assert [frame.index for frame in kept] == [frame.index for frame in frames]
    assert begun + [frame.index for frame in slow] == [frame.index for frame in frames]


@pytest.mark.parametrize('source,words', [
    ('sample:x', 'sample:SEED'),
    ('nowhere', "no file or folder 'nowhere'"),
    ('empty', 'no images'),
    ('text.txt', 'is not an image, a video'),
])
def test_sources_that_are_none(tmp_path, monkeypatch, source, words):
    monkeypatch.chdir(tmp_path)
    (tmp_path / 'empty').mkdir()
    (tmp_path / 'text.txt').write_text('hello')
    with pytest.raises((ValueError, FileNotFoundError), match=words):
        open_frames(source)


@pytest.mark.parametrize('rate', [0, -1, 1e-300, float('nan')])
def test_a_rate_must_be_above_zero(folder, rate):
    with pytest.raises(ValueError, match='at least 0.001'):
        open_frames(folder, fps=rate)


@pytest.mark.parametrize('answer', [(False, np.zeros(0, np.uint8)), cv2.error('too large')])
def test_what_no_codec_can_hold_is_told_whatever_the_version_of_opencv(monkeypatch, answer):
    monkeypatch.setattr(cv2, 'imencode', MagicMock(side_effect=[answer]))
    with pytest.raises(ValueError, match='51x37 pixels are too many for a jpeg'):
        encode_image(picture(0), 'jpeg')


def test_memory_does_not_grow_with_the_recording(tmp_path):
    image = np.zeros((200, 300, 3), np.uint8)
    write_bag((Frame(i, i, '', '', image) for i in range(200)), tmp_path / 'bag')  # 36 MB
    tracemalloc.start()
    try:
        assert sum(1 for _ in open_frames(tmp_path / 'bag')) == 200
        assert tracemalloc.get_traced_memory()[1] < 8e6
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize('own, rate', [
    (25.0, 25.0), (240.0, 240.0), (0.0, 15.0), (90_000.0, 15.0)])
def test_a_video_that_tells_its_clock_for_its_rate_has_the_one_given(tmp_path, own, rate):
    images = [(0, picture(0)), (0, picture(1))]
    frames = video_frames(tmp_path / 'v', SimpleNamespace(
        rate=own, count=0, read=lambda: iter(images)), 15.0, pytest.fail)
    assert frames.rate == rate
    assert [frame.stamp_ns for frame in frames] == [0, round(1e9 / rate)]


def test_labels_of_images_by_stem(folder, monkeypatch):
    camvid = load_label_set('camvid11')
    assert open_labels(folder, camvid) is None
    annotations = folder.with_name('driveannot')
    annotations.mkdir()
    ids = np.full((30, 41), 3, np.uint8)
    ids[0] = 11
    cv2.imwrite(str(annotations / 'c.png'), ids)
    cv2.imwrite(str(annotations / 'b.png'), np.full((61, 33), 77, np.uint8))
    labels = open_labels(f'{folder}/', camvid)
    assert labels(0) is None and labels(99) is None
    assert (labels(2)[0] == 255).all() and (labels(2)[1:] == 3).all()
    with pytest.raises(ValueError, match=r'b\.png.*ids \[77\]'):
        labels(1)
    monkeypatch.chdir(folder)
    assert (open_labels('.', camvid)(2) == labels(2)).all()


def test_what_macos_leaves_beside_images_are_none(folder):
    names = [path.name for path in image_files(folder)]
    (folder / '._b.png').write_bytes(b'an icon')
    assert [path.name for path in image_files(folder)] == names


def test_labels_of_a_video_in_order(video):
    annotations = video.with_name('driveannot')
    annotations.mkdir()
    (annotations / '._x7.png').write_bytes(b'an icon of macOS')
    for place, name in enumerate(('x7', 'x8', 'x9')):
        cv2.imwrite(str(annotations / f'{name}.png'), np.full((38, 50), place, np.uint8))
    labels = open_labels(video, load_label_set('camvid11'))
    assert [labels(i)[0, 0] for i in range(3)] == [0, 1, 2]
    assert labels(3) is None


def test_labels_of_a_bag_whose_folder_has_a_point_in_its_name(tmp_path, monkeypatch):
    write_bag([Frame(0, 0, '', '', picture(0))], tmp_path / 'bag.v1')
    (tmp_path / 'bag.v1annot').mkdir()
    cv2.imwrite(str(tmp_path / 'bag.v1annot' / '0.png'), np.full((37, 51), 3, np.uint8))
    monkeypatch.setenv('HOME', str(tmp_path))
    assert is_bag_source('~/bag.v1')
    assert (open_labels('~/bag.v1', load_label_set('camvid11'))(0) == 3).all()


def test_labels_of_the_sample_drive():
    labels = open_labels('sample:4', load_label_set('camvid11'))
    np.testing.assert_array_equal(labels(7), SampleDrive(4).frame(7)[1])
    assert labels(150) is None
    assert open_labels('sample', LabelSet('own', ('a', 'b'), ((0, 0, 0), (1, 1, 1)))) is None


def test_labels_of_a_folder_in_the_home(folder, monkeypatch):
    monkeypatch.setenv('HOME', str(folder.parent))
    (folder.parent / 'driveannot').mkdir()
    cv2.imwrite(str(folder.parent / 'driveannot' / 'c.png'), np.full((30, 41), 3, np.uint8))
    assert len(list(open_frames('~/drive'))) == 3
    assert (open_labels('~/drive', load_label_set('camvid11'))(2) == 3).all()


def test_labels_in_capitals_are_found_and_those_of_nothing_told(folder):
    camvid = load_label_set('camvid11')
    annotations = folder.with_name('driveannot')
    annotations.mkdir()
    cv2.imwrite(str(annotations / 'other.png'), np.zeros((30, 41), np.uint8))
    with pytest.raises(ValueError, match='driveannot holds no PNG.* with the name of an image'):
        open_labels(folder, camvid)
    (annotations / 'other.png').rename(annotations / 'c.PNG')
    assert open_labels(folder, camvid)(2).shape == (30, 41)


@pytest.mark.parametrize('others', [[100 * 10**9], [-10**18]])  # a clock set while recording
def test_a_bag_s_rate_is_its_camera_s(tmp_path, others):
    start = 2 * 10**18
    with Writer(tmp_path / 'bag', version=9, storage_plugin=StoragePlugin.MCAP) as writer:
        camera = writer.add_connection('/image', IMAGE, typestore=TYPES)
        other = writer.add_connection('/time', 'std_msgs/msg/Header', typestore=TYPES)
        for index in range(6):
            image = TYPES.types[IMAGE](make_header(0, ''), 1, 1, 'mono8', 0, 1,
                                       np.zeros(1, np.uint8))
            writer.write(camera, start + index * 50_000_000, TYPES.serialize_cdr(image, IMAGE))
        for time in others:
            writer.write(other, start + time,
                         TYPES.serialize_cdr(make_header(0, ''), 'std_msgs/msg/Header'))
    assert open_frames(tmp_path / 'bag').rate == pytest.approx(20)


@pytest.mark.parametrize('jump', [1, 3600, 56 * 365 * 24 * 3600])
def test_a_bag_s_rate_is_that_of_the_time_before_and_after_its_clock_was_set(tmp_path, jump):
    write_bag([Frame(i, i * 50_000_000 + (i >= 4) * jump * 10**9, '', '', picture(0))
               for i in range(8)], tmp_path / 'bag')
    assert open_frames(tmp_path / 'bag').rate == pytest.approx(20)


@pytest.mark.parametrize('times, rate', [([0, 50], 20), ([0, 40, 100], 20), ([0, 10, 100], 20),
                                         ([0, 0, 50, 50, 100], 40), ([0, 5, 10], 200)])
def test_a_bag_of_few_images_has_their_mean_rate(tmp_path, times, rate):
    write_bag([Frame(i, time * 10**6, '', '', picture(0)) for i, time in enumerate(times)],
              tmp_path / 'bag')
    assert open_frames(tmp_path / 'bag', fps=7).rate == pytest.approx(rate)


def test_a_bag_recorded_in_one_burst_has_no_rate(tmp_path):
    frames = [Frame(i, i * 1000, '', '', picture(i)) for i in range(3)]
    write_bag(frames, tmp_path / 'bag')
    assert open_frames(tmp_path / 'bag', fps=12).rate == 12


def test_damage_ends_a_bag_as_it_ends_a_video(tmp_path):
    write_bag([Frame(i, i * 10**9, '', '', picture(i)) for i in range(3)], tmp_path / 'bag')
    metadata = tmp_path / 'bag' / 'metadata.yaml'
    metadata.write_text(metadata.read_text().replace('message_count: 3', 'message_count: 5'))
    errors = []
    assert len(list(open_frames(tmp_path / 'bag', on_error=errors.append))) == 3
    assert len(errors) == 1 and '2 of /image' in str(errors[0])
    with pytest.raises(ValueError, match='2 of /image'):
        list(open_frames(tmp_path / 'bag'))


def test_last_frames_without_times_go_on_as_the_ones_before(tmp_path):
    """Frames that the decoder held back have none in OpenCV 4.6, as in Ubuntu 24.04."""
    times = [0, 100, 200, 400, 600, 0, 0]
    video = SimpleNamespace(rate=10, count=7, read=lambda: (
        (round(time * 1e6), picture(0)) for time in times))
    errors = []
    found = list(video_frames(tmp_path / 'v', video, 15, errors.append))
    assert [f.stamp_ns // 10**6 for f in found] == [0, 100, 200, 400, 600, 800, 1000]
    assert not errors
