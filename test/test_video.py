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


"""Check that videos hold what was written, in a form that browsers play."""

from fractions import Fraction
from pathlib import Path
import re
import subprocess
import sys

import av
import cv2
import numpy as np
import pytest
from rendered_pictures import picture

from segnet_ros import video as video_module
from segnet_ros.extras import install_extra
from segnet_ros.video import Timeline, UntrustedVideo, VideoWriter


def pictures(count, size=(96, 128)):
    """Return rendered pictures, each drawn once for all tests."""
    return [picture(index, size) for index in range(count)]


def write(path, images, fps=15.0):
    with VideoWriter(path, fps) as video:
        for image in images:
            video.write(image)
    assert video.count == len(images)
    return path


def read(path):
    """Return what OpenCV reads, as RGB."""
    capture = cv2.VideoCapture(str(path))
    images = []
    while (found := capture.read())[0]:
        images.append(cv2.cvtColor(found[1], cv2.COLOR_BGR2RGB))
    return images


def test_every_frame_comes_back_in_order_and_alike(tmp_path):
    images = pictures(30)
    found = read(write(tmp_path / 'new' / 'v.mp4', images))
    assert len(found) == 30
    for image, back in zip(images, found, strict=True):
        distances = [np.abs(other.astype(int) - back).mean() for other in images]
        assert np.argmin(distances) == [i is image for i in images].index(True)
        # Colours have half the resolution in H.264.
        assert min(distances) < 5


@pytest.mark.parametrize('color', [(255, 0, 0), (0, 128, 0), (128, 64, 128), (70, 130, 180)])
def test_colors_stay(tmp_path, color):
    image = np.empty((64, 64, 3), np.uint8)
    image[:] = color
    back = read(write(tmp_path / 'v.mp4', [image]))[0]
    assert np.abs(back.astype(int) - image).max() <= 4


def test_it_is_what_browsers_play(tmp_path):
    path = write(tmp_path / 'v.mp4', pictures(3))
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        assert stream.codec_context.name == 'h264'
        assert stream.codec_context.pix_fmt == 'yuv420p'
        # BT.601, 16 to 235, stated so that no player has to guess.
        assert (stream.codec_context.colorspace, stream.codec_context.color_range) == (6, 1)
    data = path.read_bytes()
    assert data.index(b'moov') < data.index(b'mdat'), 'the index must come first'


@pytest.mark.parametrize('fps', [15.0, 30000 / 1001, 7.5])
def test_rate(tmp_path, fps):
    with av.open(str(write(tmp_path / 'v.mp4', pictures(4), fps))) as container:
        stream = container.streams.video[0]
        assert float(stream.average_rate) == pytest.approx(fps, rel=1e-6)
        times = [frame.time for frame in container.decode(stream)]
    assert times == pytest.approx([i / fps for i in range(4)], abs=1e-4)


def test_odd_sides_are_made_even_by_repeating_the_edge(tmp_path):
    image = pictures(1, (45, 61))[0]
    back = read(write(tmp_path / 'v.mp4', [image]))[0]
    assert back.shape == (46, 62, 3)
    assert np.abs(back[:45, :61].astype(int) - image).mean() < 5
    assert np.abs(back[45].astype(int) - back[44]).mean() < 5


def test_any_strides(tmp_path):
    image = pictures(1)[0]
    one = read(write(tmp_path / 'one.mp4', [np.ascontiguousarray(image[:, ::-1])]))
    other = read(write(tmp_path / 'other.mp4', [image[:, ::-1]]))
    np.testing.assert_array_equal(one, other)


def test_what_was_written_before_an_error_is_a_whole_video(tmp_path):
    def interrupted():
        yield from pictures(5)
        raise KeyboardInterrupt
    with pytest.raises(KeyboardInterrupt):
        write(tmp_path / 'v.mp4', interrupted())
    assert len(read(tmp_path / 'v.mp4')) == 5


def test_an_older_video_stays_until_the_new_one_is_whole(tmp_path, monkeypatch):
    image = np.zeros((48, 64, 3), np.uint8)
    path = write(tmp_path / 'v.mp4', [image] * 2)
    before = path.read_bytes()
    with VideoWriter(path, 15) as video:
        video.write(image)
        assert path.read_bytes() == before
    after = path.read_bytes()
    assert len(read(path)) == 1 and [p.name for p in tmp_path.iterdir()] == ['v.mp4']

    def full(*args):
        raise OSError(28, 'No space left on device')
    monkeypatch.setattr(Path, 'replace', full)
    with pytest.raises(OSError, match='No space left'):
        write(path, [image] * 2)
    assert path.read_bytes() == after and [p.name for p in tmp_path.iterdir()] == ['v.mp4']


def test_size_of_a_video_and_of_what_is_none(tmp_path):
    image = np.zeros((48, 64, 3), np.uint8)
    video = UntrustedVideo(write(tmp_path / 'v.mp4', [image]))
    assert (video.height, video.width, video.count) == (48, 64, 1)
    for suffix in ('.png', '.jpg'):
        (tmp_path / 'v.mp4').write_bytes(cv2.imencode(suffix, image)[1])
        with pytest.raises(ValueError, match='v.mp4 is not a video'):
            UntrustedVideo(tmp_path / 'v.mp4')


def test_pixels_that_are_not_square_are_made_so(tmp_path):
    """As of DV and HDV cameras."""
    left = np.zeros((48, 64, 3), np.uint8)
    left[:, :32] = 255
    with av.open(str(tmp_path / 'v.mp4'), 'w') as container:
        stream = container.add_stream('libx264', 5)
        stream.height, stream.width, stream.pix_fmt = 48, 64, 'yuv420p'
        stream.codec_context.sample_aspect_ratio = Fraction(3, 2)
        for packet in (*stream.encode(av.VideoFrame.from_ndarray(left)), *stream.encode()):
            container.mux(packet)
    video = UntrustedVideo(tmp_path / 'v.mp4')
    [(_, image)] = video.read()
    assert image.shape == (48, 96, 3) and (video.height, video.width) == (48, 96)
    assert image[:, :45].min() > 200 and image[:, 51:].max() < 50


def test_a_title_may_be_in_any_code_page(tmp_path):
    with av.open(str(tmp_path / 'v.mp4'), 'w') as container:
        container.metadata['title'] = 'Strasse'
        stream = container.add_stream('libx264', 5)
        stream.height, stream.width, stream.pix_fmt = 48, 64, 'yuv420p'
        picture = av.VideoFrame.from_ndarray(np.zeros((48, 64, 3), np.uint8))
        for packet in (*stream.encode(picture), *stream.encode()):
            container.mux(packet)
    whole = (tmp_path / 'v.mp4').read_bytes()
    assert b'Strasse' in whole
    (tmp_path / 'v.mp4').write_bytes(whole.replace(b'Strasse', 'Stra\xdfe!'.encode('latin-1')))
    assert len(list(UntrustedVideo(tmp_path / 'v.mp4').read())) == 1


def test_no_frame_no_file(tmp_path):
    write(tmp_path / 'v.mp4', [])
    assert not (tmp_path / 'v.mp4').exists()


def test_a_clock_that_is_set_adds_no_hours():
    timeline = Timeline(10.0)
    seconds = (0, 0.1, 3600, 3600.1, 5, 5.1)  # set forward, then back
    assert [timeline.place(round(s * 1e9)) for s in seconds] == pytest.approx(
        [0, 1, 101, 102, 103, 104])
    assert timeline.place(9 * 10**9, anew=True) == pytest.approx(105)
    assert timeline.place(9_200_000_000) == pytest.approx(107)


@pytest.mark.parametrize(('rate', 'seconds'), [(10.0, [0, 0, 0]), (0.05, [0, 20, 40])])
def test_each_picture_has_a_place_though_stamps_are_equal_or_far_apart(rate, seconds):
    timeline = Timeline(rate)
    assert [timeline.place(s * 10**9) for s in seconds] == pytest.approx([0, 1, 2])


def test_pictures_closer_than_a_tick_have_times_of_their_own(tmp_path):
    with VideoWriter(tmp_path / 'v.mp4', 10) as writer:
        for place in (0, 1, 1.001, 2):
            writer.write(picture(0, (48, 64)), place)
    times = [time for time, _ in UntrustedVideo(tmp_path / 'v.mp4').read()]
    assert len({*times}) == 4 and times == sorted(times)


@pytest.mark.parametrize('image', [
    np.zeros((10, 10), np.uint8), np.zeros((10, 10, 4), np.uint8), np.zeros((10, 10, 3), float)])
def test_what_is_no_frame_is_refused(tmp_path, image):
    with VideoWriter(tmp_path / 'v.mp4', 15) as video, pytest.raises(ValueError, match='is .H, W'):
        video.write(image)


def test_another_size_is_refused(tmp_path):
    with VideoWriter(tmp_path / 'v.mp4', 15) as video:
        video.write(np.zeros((10, 12, 3), np.uint8))
        with pytest.raises(ValueError, match='14x10 does not fit in a video of 12x10'):
            video.write(np.zeros((10, 14, 3), np.uint8))


@pytest.mark.parametrize(('name', 'fps', 'message'), [
    ('v.avi', 15, 'use that extension'), ('v.mp4', 0, 'from 0.001'), ('v.mp4', -1, 'from 0.001'),
    ('v.mp4', float('nan'), 'from 0.001'), ('v.mp4', 0.0001, 'from 0.001'),
    ('v.mp4', 1001, 'from 0.001')])
def test_what_cannot_be_written_is_refused(tmp_path, name, fps, message):
    with pytest.raises(ValueError, match=message):
        VideoWriter(tmp_path / name, fps)


def test_without_pyav_it_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, 'av', None)
    with pytest.raises(ValueError, match=re.escape(install_extra('video'))):
        VideoWriter(tmp_path / 'v.mp4', 15)


@pytest.mark.parametrize('version', ['11.0.0', '12.2.0'])
def test_an_older_pyav_is_told_before_anything_is_done(tmp_path, monkeypatch, version):
    monkeypatch.setattr(av, '__version__', version)
    with pytest.raises(ValueError, match='PyAV 12.3'):
        VideoWriter(tmp_path / 'v.mp4', 15)
    monkeypatch.setattr(av, '__version__', '12.3.0')
    VideoWriter(tmp_path / 'v.mp4', 15)


def test_an_ffmpeg_without_the_encoder_is_told_before_anything_is_done(tmp_path, monkeypatch):
    monkeypatch.setattr(video_module, 'ENCODER', 'libx999')
    with pytest.raises(ValueError, match='has no libx999'):
        VideoWriter(tmp_path / 'v.mp4', 5)
    assert not list(tmp_path.iterdir())


def test_a_full_disk_is_told_with_the_file(tmp_path, full_disk):
    with (full_disk(), pytest.raises(OSError) as failed,
          VideoWriter(tmp_path / 'v.mp4', 10) as writer):
        for index in range(150):
            writer.write(np.random.default_rng(index).integers(0, 255, (96, 128, 3), np.uint8))
    assert failed.value.filename == str(tmp_path / 'v.mp4')
    assert not list(tmp_path.iterdir())


def test_a_disk_without_a_byte_left_is_told_and_nothing_is_flushed(tmp_path):
    """The encoder holds back some frames; to flush them after the header failed crashes FFmpeg."""
    program = """
import resource, sys
import numpy as np
from segnet_ros.video import VideoWriter
resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
with VideoWriter(sys.argv[1], 10) as writer:
    for index in range(100):
        writer.write(np.random.default_rng(index).integers(0, 255, (96, 128, 3), np.uint8))
"""
    done = subprocess.run([sys.executable, '-c', program, str(tmp_path / 'v.mp4')], text=True,
                          capture_output=True, cwd=Path(__file__).parents[1])
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].endswith(f"File too large: '{tmp_path}/v.mp4'")
    assert not list(tmp_path.iterdir())


def test_what_cannot_be_begun_leaves_no_file_and_tells_its_own_error(tmp_path, monkeypatch):
    monkeypatch.setattr('segnet_ros.video.QUALITY', {'crf': 'best'})
    monkeypatch.setattr('segnet_ros.video.TICKS', 'many')
    with pytest.raises(TypeError), VideoWriter(tmp_path / 'v.mp4', 10) as writer:
        writer.write(picture(0, (48, 64)))
    assert not list(tmp_path.iterdir())
