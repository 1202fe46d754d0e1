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

"""Check what the demo page shows, without a browser."""

import base64
import contextlib
import json
import math
import os
from pathlib import Path
import random
import re
import struct
import subprocess
import sys
import threading
from urllib.request import build_opener, ProxyHandler, Request

import av
import cv2
import gradio as gr
import numpy as np
from PIL import Image
import pytest
from small_network import write_small_checkpoint
import torch
from uneven_video import write_uneven_video

from segnet_ros.checkpoint import CheckpointError, load_checkpoint, ModelInfo, save_checkpoint
from segnet_ros.extras import install_extra, pip_install
from segnet_ros.frames import Frame
from segnet_ros.labels import load_label_set
from segnet_ros.page import layout
from segnet_ros.page.clips import segment_clip
from segnet_ros.page.layout import build_page, model_choices, serve
from segnet_ros.page.models import Models, Result, shipped_weights, SIZES_KEPT
from segnet_ros.page.pictures import data_uri, fit_picture, MAX_SIDE, read_picture, thumbnail
from segnet_ros.page.result_view import render_result, seconds_text
from segnet_ros.page.streets import drive_samples, DriveStreets, folder_samples, FolderStreets
from segnet_ros.processes import running
from segnet_ros.runtime import choose_precision, prepare
from segnet_ros.segmenter import Segmenter
from segnet_ros.sources import Frames, open_frames
from segnet_ros.tools.cli import main
from segnet_ros.video import VideoWriter

LABELS = load_label_set('camvid11')


@pytest.fixture(scope='module')
def weights(tmp_path_factory) -> list[str]:
    """Return the files of two tiny networks with different random weights."""
    folder = tmp_path_factory.mktemp('weights')
    return [write_small_checkpoint(folder / f'{name}.safetensors', 1 / 16, seed=seed)
            for seed, name in enumerate(('tiny', 'other'))]


@pytest.fixture(scope='module')
def models(weights) -> Models:
    return Models(weights, 'cpu')


def street(height: int = 60, width: int = 80, seed: int = 0) -> np.ndarray:
    """Return an image of large soft blobs, which survive JPEG."""
    rng = np.random.default_rng(seed)
    small = rng.integers(0, 256, (4, 5, 3), np.uint8)
    return cv2.resize(small, (width, height), interpolation=cv2.INTER_CUBIC)


def near(image: np.ndarray, other: np.ndarray, difference: float = 4) -> bool:
    return image.shape == other.shape and np.abs(image.astype(int) - other).mean() < difference


# Pictures

@pytest.mark.parametrize('orientation, turned', [
    (1, lambda i: i), (3, lambda i: np.rot90(i, 2)), (6, lambda i: np.rot90(i, -1)),
    (8, np.rot90)])
def test_photos_are_shown_upright(tmp_path, orientation, turned):
    exif = Image.Exif()
    exif[274] = orientation
    Image.fromarray(street()).save(tmp_path / 'a.jpg', exif=exif, quality=95)
    assert near(read_picture(tmp_path / 'a.jpg').image, turned(street()))


@pytest.mark.parametrize('mode', ['L', 'LA', 'P', 'RGBA', '1'])
def test_every_kind_of_png_becomes_rgb(tmp_path, mode):
    Image.fromarray(street()).convert(mode).save(tmp_path / 'a.png')
    picture = read_picture(tmp_path / 'a.png')
    assert picture.image.shape == (60, 80, 3) and picture.image.dtype == np.uint8
    expected = np.array(Image.fromarray(street()).convert(mode).convert('RGB'))
    assert near(picture.image, expected) and picture.caption == 'a.png'


def test_a_name_that_is_no_text_is_shown(tmp_path):
    (tmp_path / os.fsdecode(b'\xcele')).mkdir()
    path = tmp_path / os.fsdecode(b'\xcele/\xe9t\xe9.png')
    Image.fromarray(street()).save(path)
    assert read_picture(path).caption == '\ufffdt\ufffd.png'
    streets = FolderStreets(tmp_path)
    assert streets.countries == ('anywhere', '\ufffdle')
    assert near(streets.random_picture('\ufffdle', random.Random(0)).image, street())


def test_a_huge_picture_is_scaled_down_and_says_so(tmp_path):
    Image.fromarray(street(6000, 8000)).save(tmp_path / 'a.jpg')
    picture = read_picture(tmp_path / 'a.jpg')
    assert picture.image.shape == (1200, MAX_SIDE, 3)
    assert picture.caption == 'a.jpg (scaled down from 8000 x 6000)'
    assert near(picture.image, street(1200, 1600))


@pytest.mark.filterwarnings('ignore::PIL.Image.DecompressionBombWarning')
def test_a_file_of_too_many_pixels_is_refused_before_they_are_decoded(tmp_path, monkeypatch):
    Image.new('1', (20_000, 20_000)).save(tmp_path / 'bomb.png')
    monkeypatch.setattr('segnet_ros.page.pictures.decode_image', None)
    with pytest.raises(ValueError, match='bomb.png is too large: at most 120 million'):
        read_picture(tmp_path / 'bomb.png')
    # Between our limit and Pillow's.
    Image.new('1', (12_000, 12_000)).save(tmp_path / 'bomb.png')
    with pytest.raises(ValueError, match='bomb.png is too large'):
        read_picture(tmp_path / 'bomb.png')


@pytest.mark.parametrize('damage', [
    lambda data: b'', lambda data: b'no picture', lambda data: data[:len(data) // 2],
    lambda data: data[:20]])
@pytest.mark.parametrize('kind', ['jpg', 'png'])
def test_a_broken_file_is_named_without_its_folder(tmp_path, kind, damage):
    path = tmp_path / f'broken.{kind}'
    Image.fromarray(street(200, 300)).save(path)
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(ValueError, match='^broken.* is not a picture that can be read') as caught:
        read_picture(path)
    assert str(tmp_path) not in str(caught.value)


@pytest.mark.parametrize('height, width', [(1, 9), (2000, 20)])
def test_a_strip_is_refused(height, width):
    with pytest.raises(ValueError, match=f'^a.png is {width} x {height} pixels: too thin a strip'):
        fit_picture(np.zeros((height, width, 3), np.uint8), 'a.png')


def test_the_largest_and_thinnest_picture_stays_as_it_is():
    picture = fit_picture(np.zeros((MAX_SIDE // 8, MAX_SIDE, 3), np.uint8), 'a.png')
    assert picture.image.shape == (MAX_SIDE // 8, MAX_SIDE, 3) and picture.caption == 'a.png'


def test_a_thumbnail_has_the_picture_s_shape_and_colours():
    assert near(thumbnail(street(320, 480)), street(160, 240))


@pytest.mark.parametrize('shape', [(5, 7), (5, 7, 3)])
def test_a_png_data_uri_is_exact(shape):
    image = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    assert np.array_equal(decode_uri(data_uri(image, 'png')), image)


def decode_uri(uri: str) -> np.ndarray:
    data = np.frombuffer(base64.b64decode(uri.partition(',')[2]), np.uint8)
    image = cv2.imdecode(data, cv2.IMREAD_UNCHANGED)
    return image[..., ::-1] if image.ndim == 3 else image


# Models

@pytest.mark.parametrize('index, name', [(0, 'tiny'), (1, 'other')])
def test_results_are_the_segmenters_own(weights, models, index, name):
    network, info = load_checkpoint(weights[index])
    dtype = choose_precision('auto', torch.device('cpu'))
    segmenter = Segmenter(prepare(network, torch.device('cpu'), dtype), info, (60, 80))
    expected = segmenter.segment(street())
    result = models.segment(name, street())
    for array in ('label_map', 'confidence', 'color_mask'):
        assert np.array_equal(getattr(result, array), getattr(expected, array)), array
    shares = np.bincount(expected.label_map.ravel(), minlength=11) / (60 * 80)
    assert np.allclose(result.fractions, shares) and 0 < result.seconds < 60
    assert result.made_by == f'{name} on cpu'
    assert np.array_equal(models.overlay(name, street()), expected.overlay)


def test_results_stay_valid_while_others_ask(models):
    images = [street(40 + 8 * (i % 3), 64, seed=i) for i in range(9)]

    def arrays(image):
        result = models.segment('tiny', image)
        return (result.label_map, result.confidence, result.color_mask,
                models.overlay('tiny', image))
    alone = [[array.copy() for array in arrays(image)] for image in images]
    together: dict[int, tuple[np.ndarray, ...]] = {}

    def ask(index):
        together[index] = arrays(images[index])
    threads = [threading.Thread(target=ask, args=(i,)) for i in range(len(images))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(np.array_equal(*pair) for i in range(len(images))
               for pair in zip(together[i], alone[i], strict=True))
    assert len({confidence.tobytes() for _, confidence, *_ in alone}) == len(images)


def test_few_sizes_are_kept(models):
    for width in range(64, 64 + 8 * 7, 8):
        models.segment('tiny', street(48, width))
    assert len(models._predictors['tiny']._segmenters) == SIZES_KEPT


@pytest.mark.parametrize('size', [(1, 1), (1, 8), (300, 40), (7, 9)])
def test_odd_sizes_are_segmented(models, size):
    assert models.segment('tiny', street(*size)).label_map.shape == size


def test_missing_weights_are_named():
    with pytest.raises(CheckpointError, match="no file 'no_such'"):
        Models(['no_such'])
    with pytest.raises(ValueError, match='no weights to show'):
        Models([])


def test_the_default_weights_are_offered_first():
    assert shipped_weights() == ['segnet_half_camvid11', 'pspnet_camvid11',
                                 'segnet_basic_camvid11', 'segnet_quarter_camvid11']


def test_a_model_is_offered_with_the_score_it_earned(tmp_path):
    for name, split in (('honest', 'train'), ('fitted', 'train+val')):
        info = ModelInfo(LABELS, width=1 / 16, scores={'val': {'miou': 0.613}},
                         made_by={'split': split, 'val_split': 'val', 'hold_out': ''})
        save_checkpoint(tmp_path / f'{name}.safetensors', info.build(), info)
    paths = [str(tmp_path / f'{name}.safetensors') for name in ('honest', 'fitted')]
    assert model_choices(Models(paths, 'cpu')) == [
        ('honest (mIoU 61.3%)', 'honest'), ('fitted', 'fitted')]


def test_weights_of_several_runs_are_told_by_their_folders(tmp_path, weights):
    paths = [tmp_path / folder / 'weights.safetensors' for folder in ('1/a', '1/b', '2/b')]
    for path in paths:
        path.parent.mkdir(parents=True)
        path.write_bytes(Path(weights[0]).read_bytes())
    assert Models(list(map(str, paths)), 'cpu').names == [
        'weights', 'b/weights', str(paths[2])]


@pytest.mark.parametrize('verb, module, words', [
    ('demo', 'gradio', install_extra('demo')),
    ('predict', 'cv2',
     pip_install('opencv-python-headless<5') + ', or with ROS: apt install python3-opencv'),
    ('replay', 'rclpy', "source ROS 2's setup.bash"), ('drive', 'rclpy', 'source ROS 2'),
    ('predict', 'rosbags.interfaces', pip_install('rosbags')),
    ('train', 'lightning', install_extra('train')),
    ('evaluate', 'matplotlib.figure', install_extra('train'))])
def test_what_is_not_installed_is_named(monkeypatch, capsys, verb, module, words):
    for name in ('segnet_ros.page.layout', 'segnet_ros.training.train',
                 'segnet_ros.training.plots', 'segnet_ros.prediction', 'segnet_ros.inputs',
                 'segnet_ros.sources', 'segnet_ros.bags.reading', 'segnet_ros.ros.drive'):
        if name in sys.modules:
            monkeypatch.setattr(name, sys.modules[name])  # restores it in its package too
            monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, module, None)
    arguments = {'evaluate': ['--weights', 'w', '--data', 'd', '--plots', 'p'],
                 'train': ['--data', 'd', '--output', 'o'], 'predict': ['i', '-o', 'o'],
                 'replay': ['i'], 'drive': ['i', '-o', 'o']}
    assert main([verb, *arguments.get(verb, [])]) == 1
    error = capsys.readouterr().err
    assert f'segnet {verb}: {module} is not installed' in error and words in error


# The result's HTML

def result_of(label_map: np.ndarray) -> Result:
    height, width = label_map.shape
    fractions = np.bincount(label_map.ravel(), minlength=11)[:11] / label_map.size
    return Result(street(height, width), label_map, np.full_like(label_map, 200),
                  LABELS.palette()[label_map], fractions, 0.0634, 'tiny on cpu', LABELS)


def test_the_legend_has_every_class_by_share_with_its_colour():
    label_map = np.repeat(np.uint8([3, 3, 3, 0, 0, 8]), 10).reshape(6, 10)
    html = render_result(result_of(label_map), 'x')
    rows = re.findall(r'<li class="(\w+)" data-id="(\d+)" data-name="([^"]+)">\s*'
                      r'<i style="background: rgb\(([\d, ]+)\)">.*?<em>(.*?)</em>', html, re.S)
    assert [row[:3] + row[4:] for row in rows[:3]] == [
        ('present', '3', 'Road', '50.0 %'), ('present', '0', 'Sky', '33.3 %'),
        ('present', '8', 'Car', '16.7 %')]
    assert rows[0][3] == ', '.join(map(str, LABELS.colors[3]))
    assert len(rows) == 11
    assert all((row[0], row[4]) == ('absent', '0.0 %') for row in rows[3:])
    assert re.findall('--share: ([0-9.]+)', html)[:4] == ['0.5000', '0.3333', '0.1667', '0.0000']


def test_a_trace_of_a_class_is_not_shown_as_nothing():
    label_map = np.zeros((100, 100), np.uint8)
    label_map[0, 0] = 5
    label_map[1, :50] = 6
    html = render_result(result_of(label_map), 'x')
    assert '&lt; 0.1 %' in html and '<em>0.5 %' in html


def test_the_html_holds_the_pictures_and_the_downloads():
    label_map = np.random.default_rng(0).integers(0, 11, (30, 40), np.uint8)
    html = render_result(result_of(label_map), 'x')
    mask, = re.findall(r'download="mask.png" href="([^"]+)"', html)
    assert np.array_equal(decode_uri(mask), label_map)
    colors, = re.findall(r'download="color_mask.png" href="([^"]+)"', html)
    assert np.array_equal(decode_uri(colors), LABELS.palette()[label_map])
    photo, = re.findall(r'class="photo" src="([^"]+)"', html)
    assert near(decode_uri(photo), street(30, 40))
    confidence, = re.findall(r'class="confidence" src="([^"]+)"', html)
    assert near(decode_uri(confidence), np.full((30, 40), 200))
    assert 'tiny on cpu, 63 ms' in html


def test_captions_cannot_smuggle_html():
    html = render_result(result_of(np.zeros((8, 8), np.uint8)), '<img src=x onerror=alert(1)>')
    assert '<img src=x' not in html and '&lt;img src=x' in html


def test_durations_are_said_as_people_say_them():
    assert [seconds_text(s) for s in (0.0634, 0.9, 1.46)] == ['63 ms', '900 ms', '1.5 s']


# Samples and random streets

@pytest.fixture
def folder(tmp_path):
    for name in ('Japan/a.png', 'Japan/deep/b.png', 'Peru/c.jpg', 'd.png', '.bin/e.png',
                 'Peru/.thumbnails/f.png'):
        path = tmp_path / 'pictures' / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(street()).save(path)
    (tmp_path / 'pictures' / 'notes.txt').write_text('no picture')
    (tmp_path / 'pictures' / 'folder.png').mkdir()
    return tmp_path / 'pictures'


def test_every_picture_of_a_folder_is_a_sample(folder):
    captions = [load().caption for load in folder_samples(FolderStreets(folder))]
    assert sorted(captions) == ['a.png', 'b.png', 'c.jpg', 'd.png']


def test_countries_are_the_folders_in_the_folder(folder):
    streets = FolderStreets(folder)
    assert streets.countries == ('anywhere', 'Japan', 'Peru')
    rng = random.Random(0)
    drawn = {country: {streets.random_picture(country, rng).caption for _ in range(40)}
             for country in streets.countries}
    assert drawn == {'anywhere': {'a.png', 'b.png', 'c.jpg', 'd.png'},
                     'Japan': {'a.png', 'b.png'}, 'Peru': {'c.jpg'}}


def test_linked_folders_count_once_and_may_lead_back(folder, tmp_path):
    (tmp_path / 'elsewhere').mkdir()
    Image.fromarray(street()).save(tmp_path / 'elsewhere' / 'g.png')
    (folder / 'Chile').symlink_to(tmp_path / 'elsewhere')
    (folder / 'Chile' / 'back').symlink_to(folder)
    (folder / 'Peru' / 'again').symlink_to(folder / 'Japan')
    (folder / 'Peru' / 'lost.png').symlink_to(tmp_path / 'lost.png')
    streets = FolderStreets(folder)
    assert streets.countries == ('anywhere', 'Chile', 'Japan', 'Peru')
    assert sorted(path.name for path in streets.files) == ['a.png', 'b.png', 'c.jpg', 'd.png',
                                                           'g.png']


def test_a_folder_may_have_the_name_of_all(folder):
    (folder / 'anywhere').mkdir()
    Image.fromarray(street()).save(folder / 'anywhere' / 'e.png')
    streets = FolderStreets(folder)
    rng = random.Random(0)
    assert {streets.random_picture('anywhere', rng).caption for _ in range(40)} == {
        'a.png', 'b.png', 'c.jpg', 'd.png', 'e.png'}


def test_a_folder_without_pictures_is_refused(tmp_path):
    with pytest.raises(ValueError, match='holds no images'):
        FolderStreets(tmp_path)
    with pytest.raises(FileNotFoundError, match='no folder'):
        FolderStreets(tmp_path / 'missing')


def test_the_sample_drive_gives_samples_and_random_streets():
    pictures = [load() for load in drive_samples()]
    pictures += [DriveStreets().random_picture('anywhere', random.Random(i)) for i in range(2)]
    assert len({picture.image.tobytes() for picture in pictures}) == len(pictures)
    assert all('drawn, not photographed' in picture.caption for picture in pictures)


# Videos

@pytest.fixture
def clip(tmp_path):
    path = tmp_path / 'clip.mp4'
    with VideoWriter(path, 5) as video:
        for index in range(10):
            video.write(street(48, 64, seed=index))
    return path


def test_a_clip_comes_back_with_the_segmentation_below(tmp_path, clip):
    done = list(segment_clip(clip, tmp_path / 'out.mp4', lambda image: 255 - image, pytest.fail))
    frames = open_frames(tmp_path / 'out.mp4')
    images = [frame.image for frame in frames]
    assert frames.rate == 5 and len(images) == 10
    inputs = [street(48, 64, seed=i) for i in range(10)]
    # The colours went through lossy video twice; other frames differ by 40 or more.
    assert all(near(image, np.vstack((own, 255 - own)), 10)
               for image, own in zip(images, inputs, strict=True))
    assert done == sorted(done) and done[-1] == 1


def test_a_long_clip_is_cut_and_says_so(tmp_path, clip):
    for limit in ({'max_seconds': 1}, {'max_frames': 5}):  # slow motion has many frames
        said = []
        list(segment_clip(clip, tmp_path / 'out.mp4', lambda i: i, said.append, **limit))
        assert said == ['Only the first 1 seconds were segmented.']
        assert len(list(open_frames(tmp_path / 'out.mp4'))) == 5


def test_a_clip_whose_clock_jumps_says_how_much_of_it_was_segmented(tmp_path):
    with VideoWriter(tmp_path / 'clip.mp4', 5) as video:
        for place in (0, 1, 2, 3, 4, 36_000):
            video.write(street(48, 64), place)
    said = []
    list(segment_clip(tmp_path / 'clip.mp4', tmp_path / 'out.mp4', lambda i: i, said.append))
    assert said == ['Only the first 1 seconds were segmented.']


def test_the_share_that_is_done_is_that_of_what_is_segmented(tmp_path, clip):
    done = list(segment_clip(clip, tmp_path / 'out.mp4', lambda i: i, print, max_seconds=1.6))
    assert done == [(i + 1) / 8 for i in range(8)]


def test_a_large_clip_comes_back_smaller(tmp_path):
    with VideoWriter(tmp_path / 'clip.mp4', 5) as video:
        video.write(street(600, 1200))
    list(segment_clip(tmp_path / 'clip.mp4', tmp_path / 'out.mp4', lambda i: i, pytest.fail))
    assert next(iter(open_frames(tmp_path / 'out.mp4'))).image.shape == (960, 960, 3)


@pytest.mark.parametrize('suffix', ['mp4', 'mkv'])
def test_a_clip_of_uneven_frames_keeps_its_times(tmp_path, suffix):
    times = [33 * i for i in range(10)] + [400 + 200 * i for i in range(10)]
    write_uneven_video(tmp_path / f'clip.{suffix}', times)
    list(segment_clip(tmp_path / f'clip.{suffix}', tmp_path / 'out.mp4', lambda i: i, pytest.fail))
    found = [frame.stamp_ns / 1e6 for frame in open_frames(tmp_path / 'out.mp4')]
    assert np.abs(np.subtract(found, times)).max() < 10
    said = []
    list(segment_clip(tmp_path / f'clip.{suffix}', tmp_path / 'out.mp4', lambda i: i, said.append,
                      max_seconds=1.1))
    assert len(list(open_frames(tmp_path / 'out.mp4'))) == 14 and len(said) == 1


def test_of_a_clip_that_changes_its_size_the_beginning_comes_back(tmp_path, clip, monkeypatch):
    def changing(*_):
        shapes = [(48, 64)] * 3 + [(64, 48)] * 2
        return Frames(5, 5, lambda: (Frame(i, i * 200_000_000, '', str(i), street(*shape))
                                     for i, shape in enumerate(shapes)))
    monkeypatch.setattr('segnet_ros.page.clips.video_frames', changing)
    said = []
    list(segment_clip(clip, tmp_path / 'out.mp4', lambda image: image, said.append))
    assert said == ['clip.mp4 changes size: only the first 1 seconds were segmented.']
    assert len(list(open_frames(tmp_path / 'out.mp4'))) == 3


def test_whoever_goes_leaves_no_work_behind(tmp_path, clip):
    segmented = []
    steps = segment_clip(clip, tmp_path / 'out.mp4', lambda i: segmented.append(1) or i,
                         pytest.fail)
    next(steps)
    steps.close()
    assert len(segmented) == 1


def segment_of(models):
    """Return the page's function that segments a clip, and the component for its result."""
    page = build_page(models, drive_samples(), {'drive': DriveStreets()})
    [segment] = [f.fn for f in page.fns.values() if f.name == 'segment']
    [video] = [block for block in page.blocks.values() if block.elem_id == 'segmented']
    return segment, video


def test_a_segmented_clip_is_deleted_when_it_is_old(models, clip, tmp_path, monkeypatch):
    monkeypatch.setenv('GRADIO_TEMP_DIR', str(tmp_path / 'cache'))
    (tmp_path / 'cache').mkdir()
    segment, video = segment_of(models)
    *_, (target, _) = segment(models.names[0], str(clip), progress=lambda *_, **__: None)
    assert target.exists() and str(target) in video.temp_files  # gradio deletes these


def test_no_click_on_a_sample_is_dropped(models):
    page = build_page(models, drive_samples(), {'drive': DriveStreets()})
    [pick] = [f for f in page.fns.values() if f.name == 'pick']
    assert pick.trigger_mode == 'multiple'


def test_what_visitors_bring_lies_in_a_folder_that_goes_with_the_server(monkeypatch):
    used = []

    def serve(args):
        used.append(Path(os.environ['GRADIO_TEMP_DIR']))
        (used[0] / 'photo.jpg').write_bytes(b'faces')
        raise KeyboardInterrupt
    monkeypatch.setenv('GRADIO_TEMP_DIR', '')
    monkeypatch.delenv('GRADIO_TEMP_DIR')
    monkeypatch.setattr('segnet_ros.tools.demo._serve', serve)
    assert main(['demo']) == 130
    assert used[0].name.startswith('segnet_demo_') and not used[0].exists()
    assert 'GRADIO_TEMP_DIR' not in os.environ


@pytest.mark.parametrize('trouble', [ValueError('its size changes'), RuntimeError('no memory'),
                                     GeneratorExit()])
def test_a_clip_that_fails_leaves_no_file_behind(models, clip, tmp_path, monkeypatch, trouble):
    monkeypatch.setenv('GRADIO_TEMP_DIR', str(tmp_path / 'cache'))
    (tmp_path / 'cache').mkdir()
    segment, _ = segment_of(models)

    def failing(path, target, *args):
        target.write_bytes(b'half')
        yield 0.5
        raise trouble
    monkeypatch.setattr(layout.clips, 'segment_clip', failing)
    before = sorted((tmp_path / 'cache').iterdir())  # the samples
    with contextlib.suppress(RuntimeError, GeneratorExit):
        list(segment(models.names[0], str(clip), progress=lambda *_, **__: None))
    assert sorted((tmp_path / 'cache').iterdir()) == before


@pytest.mark.parametrize('trouble, told', [
    (ValueError('its size changes'), 'its size changes'),
    (OSError(28, 'No space left on device', '/secret/out.mp4'), 'No space left on device')])
def test_a_clip_that_fails_is_told_and_gives_way_to_the_next(models, clip, tmp_path, monkeypatch,
                                                             trouble, told):
    monkeypatch.setenv('GRADIO_TEMP_DIR', str(tmp_path / 'cache'))
    (tmp_path / 'cache').mkdir()
    segment, _ = segment_of(models)

    def failing(*_):
        yield 0.5
        raise trouble
    said = []
    monkeypatch.setattr(layout.clips, 'segment_clip', failing)
    monkeypatch.setattr(gr, 'Warning', said.append)
    *_, (_, clip_shown) = segment(models.names[0], str(clip), progress=lambda *_, **__: None)
    assert said == [told] and clip_shown is None


def test_a_click_before_the_countries_of_another_source_have_come(models, folder):
    page = build_page(models, drive_samples(), {'Samples': FolderStreets(folder)})
    [draw] = [f.fn for f in page.fns.values() if f.name == 'draw']
    assert draw('Samples', 'France').caption in {'a.png', 'b.png', 'c.jpg', 'd.png'}


def test_a_street_that_cannot_be_drawn_is_told(models, folder, monkeypatch):
    said = []
    monkeypatch.setattr(gr, 'Warning', said.append)
    page = build_page(models, drive_samples(), {'Samples': FolderStreets(folder)})
    (folder / 'Peru' / 'c.jpg').write_bytes(b'')
    [draw] = [f.fn for f in page.fns.values() if f.name == 'draw']
    draw('Samples', 'Peru')
    assert 'c.jpg is not a picture' in said[0]


def test_a_clip_does_not_show_the_files_it_names(tmp_path, clip):
    # The clip is a transport stream, but begins like an HLS playlist that names a local file.
    # OpenCV would read that file.
    with av.open(str(tmp_path / 'own.ts'), 'w', format='mpegts') as container:
        stream = container.add_stream('mpeg2video', 25)
        stream.height, stream.width = 48, 64
        for _ in range(10):
            frame = av.VideoFrame.from_ndarray(np.full((48, 64, 3), 200, np.uint8), 'rgb24')
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    with VideoWriter(tmp_path / 'secret.mp4', 25) as video:
        for _ in range(10):
            video.write(np.zeros((48, 64, 3), np.uint8))
    clip.write_bytes(b'#EXTM3U\n#EXT-X-VERSION:3\n#EXT-X-TARGETDURATION:10\n#EXTINF:10,\n'
                     + f'file://{tmp_path}/secret.mp4\n#EXT-X-ENDLIST\n#'.encode()
                     + (tmp_path / 'own.ts').read_bytes())
    list(segment_clip(clip, tmp_path / 'out.mp4', lambda i: i, print))
    images = [frame.image for frame in open_frames(tmp_path / 'out.mp4')]
    assert images and all(image.min() > 150 for image in images)


@pytest.mark.parametrize('turns', [0, 1, 2, 3])
def test_clips_are_shown_upright(tmp_path, clip, turns, monkeypatch):
    # As phones record them: sideways, with a rotation matrix in 16.16 fixed point.
    sine, cosine = round(math.sin(turns * math.pi / 2)), round(math.cos(turns * math.pi / 2))
    data = bytearray(clip.read_bytes())
    place = data.index(b'tkhd') + 44
    data[place:place + 20] = struct.pack('>5i', cosine << 16, sine << 16, 0, -sine << 16,
                                         cosine << 16)
    clip.write_bytes(data)
    upright = np.rot90(street(48, 64, seed=0), -turns)
    assert near(next(iter(open_frames(clip))).image, upright, 10)
    list(segment_clip(clip, tmp_path / 'out.mp4', lambda i: i, pytest.fail))
    assert near(next(iter(open_frames(tmp_path / 'out.mp4'))).image[:len(upright)], upright, 10)
    if not cv2.__version__.startswith('4.6.'):
        monkeypatch.setattr(cv2, '__version__', '4.6.0')  # which makes quarter turns the wrong way
        image = np.rot90(next(iter(open_frames(clip))).image, 2 * (turns % 2))
        assert near(image, upright, 10)


def test_a_broken_clip_is_named_without_its_folder(tmp_path):
    (tmp_path / 'broken.mp4').write_bytes(b'no video')
    with pytest.raises(ValueError, match='^broken.mp4 is not a video') as caught:
        list(segment_clip(tmp_path / 'broken.mp4', tmp_path / 'out.mp4', lambda i: i, print))
    assert str(tmp_path) not in str(caught.value)


def test_of_a_clip_that_is_cut_off_the_rest_comes_back_with_a_warning(tmp_path, clip):
    clip.write_bytes(clip.read_bytes()[:clip.stat().st_size * 2 // 3])
    said = []
    list(segment_clip(clip, tmp_path / 'out.mp4', lambda i: i, said.append))
    assert said[0].startswith('clip.mp4 is cut off')
    assert 0 < len(list(open_frames(tmp_path / 'out.mp4'))) < 10


def test_pictures_and_huge_frames_are_refused_before_they_are_decoded(tmp_path, clip, monkeypatch):
    monkeypatch.setattr('segnet_ros.page.clips.video_frames', None)
    monkeypatch.setattr('segnet_ros.page.clips.MAX_PIXELS', 48 * 64 - 1)
    with pytest.raises(ValueError, match='^clip.mp4 is too large: frames of at most'):
        next(segment_clip(clip, tmp_path / 'out.mp4', lambda i: i, print))
    Image.fromarray(street()).save(clip, 'png')
    with pytest.raises(ValueError, match='^clip.mp4 is not a video'):
        next(segment_clip(clip, tmp_path / 'out.mp4', lambda i: i, print))


# The page

def test_the_page_shows_the_first_sample_that_can_be_read(models, folder):
    (folder / '0.png').write_bytes(b'broken')
    samples = folder_samples(FolderStreets(folder))
    page = build_page(models, samples, {'Samples': FolderStreets(folder)})
    shown = [block.value for block in page.blocks.values() if isinstance(block, gr.HTML)][1]
    assert '<small>a.png</small>' in shown
    assert not page.analytics_enabled
    assert page.delete_cache == (3600, 3600)  # else uploads would stay until the server ends


def test_a_taken_port_is_named(models, folder):
    streets = FolderStreets(folder)
    pages = [build_page(models, folder_samples(streets), {'Samples': streets}) for _ in range(2)]
    url = serve(pages[0], wait=False)
    port = int(url.rstrip('/').rpartition(':')[2])
    try:
        assert url.startswith('http://127.0.0.1:')
        assert pages[0].max_file_size == 500 * 2**20
        with pytest.raises(ValueError, match=f'cannot serve on 127.0.0.1, port {port}'):
            serve(pages[1], port=port, wait=False)
    finally:
        pages[0].close()


def test_ctrl_c_ends_the_page_amid_a_clip_without_a_word():
    """Python would abort, were a thread still within torch when it ends."""
    code = """if True:
        import signal, threading, time
        import gradio, torch
        from segnet_ros.page.layout import serve
        from segnet_ros.processes import take_signals_as_interrupts

        def segment():
            input()
            while True:  # frames that take longer than the server does to stop
                end = time.monotonic() + 3
                while time.monotonic() < end:
                    torch.ones(2500, 2500) @ torch.ones(2500, 2500)
                    # Again and again, to a thread that the kernel may choose too.
                    signal.pthread_kill(threading.get_ident(), signal.SIGINT)
                yield 0
        with gradio.Blocks() as page:
            gradio.Button().click(segment, None, gradio.Number(), api_name='segment')
        take_signals_as_interrupts()
        serve(page)"""
    with running([sys.executable, '-c', code], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                 stderr=subprocess.PIPE) as process:
        url = re.search('http[^ ]+', process.stdout.readline()).group()
        ask = Request(f'{url}gradio_api/call/segment', b'{"data": []}',
                      {'Content-Type': 'application/json'})
        direct = build_opener(ProxyHandler({}))
        event = json.load(direct.open(ask, timeout=20))['event_id']
        with direct.open(f'{ask.full_url}/{event}', timeout=20):  # as a browser waits for it
            _, errors = process.communicate('\n', timeout=60)
    assert (process.returncode, errors) == (0, '')


def test_a_page_that_does_not_answer_is_told_in_our_words(monkeypatch):
    monkeypatch.setattr('gradio.networking.url_ok', lambda url: False)
    with gr.Blocks() as page, pytest.raises(ValueError, match='does not answer .*NO_PROXY'):
        serve(page, wait=False)


@pytest.mark.parametrize('host, port', [
    ('nosuch.invalid', None), ('192.0.2.1', None), ('127.0.0.1', 99999), ('127.0.0.1', -5)])
def test_an_address_that_cannot_be_is_told_at_once(host, port):
    with gr.Blocks() as page, pytest.raises(ValueError, match=f'cannot serve on {host}, port'):
        serve(page, host, port, wait=False)


@pytest.mark.parametrize('key, expected', [
    (None, ['Samples', 'Sample drive']), ('k', ['Samples', 'Sample drive', 'Street View'])])
def test_street_view_is_there_with_a_key_alone(monkeypatch, weights, folder, key, expected):
    seen = {}
    monkeypatch.setattr('segnet_ros.page.layout.build_page',
                        lambda models, samples, streets: seen.update(
                            models=models.names, samples=len(samples), streets=list(streets)))
    monkeypatch.setattr('segnet_ros.page.layout.serve', lambda page, host, port: seen.update(
        at=(host, port)))
    monkeypatch.delenv('GOOGLE_MAPS_API_KEY', raising=False)
    if key:
        monkeypatch.setenv('GOOGLE_MAPS_API_KEY', key)
    assert main(['demo', '--samples', str(folder), '--weights', *weights, '--device', 'cpu',
                 '--host', '0.0.0.0', '--port', '8000']) == 0
    assert seen == {'models': ['tiny', 'other'], 'samples': 4 + 6, 'streets': expected,
                    'at': ('0.0.0.0', 8000)}
