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

"""Train a tiny SegNet on the sample drive: data, augmentation, recipe, resuming, two processes."""

from contextlib import suppress
import csv
from dataclasses import replace
import errno
import fcntl
import gc
import logging
import math
import os
from pathlib import Path
import re
import shutil
import signal
import struct
import subprocess
import sys
import time
from types import SimpleNamespace
import zlib

import cv2
from labelled_folder import write_split
import lightning
import numpy as np
import pytest
import torch
from torch.nn import functional

from segnet_ros.annotations import read_annotation
from segnet_ros.checkpoint import load_checkpoint, ModelInfo
from segnet_ros.cuda_graph import training_graph
from segnet_ros.labels import LabelSet, load_label_set, VOID
from segnet_ros.sample_drive.drive import SampleDrive
from segnet_ros.segmenter import fit_input_size
from segnet_ros.tools.cli import main
from segnet_ros.training import callbacks, corruptions, muon, train as train_module
from segnet_ros.training.augmentation import paste_classes, random_crop, recolor
from segnet_ros.training.callbacks import average_weights
from segnet_ros.training.config import load_config, Phase, TrainConfig
from segnet_ros.training.corruptions import degrade
from segnet_ros.training.curves import curves_figure, save_curves
from segnet_ros.training.dataset import (
    class_shares, EpochOrder, frame_paths, read_frame, read_frames, ScoringFrames,
    TrainingFrames)
from segnet_ros.training.evaluate import evaluate
from segnet_ros.training.module import class_weights, SegmentationModule
from segnet_ros.training.train import train, TrainingData

torch.set_num_threads(1)
ROOT = str(Path(__file__).resolve().parents[1])
SIZE = (64, 96)
CAMVID = load_label_set('camvid11')


@pytest.fixture(scope='module')
def data(tmp_path_factory):
    """Write a CamVid-like folder: drives 0001 and 0002 in train, 0003 in val."""
    folder = tmp_path_factory.mktemp('camvid_like')
    for split, seeds in (('train', (1, 2)), ('val', (3,))):
        frames = {}
        for seed in seeds:
            drive = SampleDrive(seed=seed, size=SIZE)
            for index in range(4):
                image, label_map = drive.frame(20 * index)
                label_map[:2] = VOID
                frames[f'{seed:04}_{index}.png'] = image, label_map
        write_split(folder, split, frames)
    return folder


@pytest.fixture
def scratch(data, tmp_path):
    """Return a copy of the data that a test may spoil."""
    for path in data.rglob('*.png'):
        target = tmp_path / path.relative_to(data)
        target.parent.mkdir(exist_ok=True)
        target.write_bytes(path.read_bytes())
    return tmp_path


def recipe(data, **changes):
    phases = (Phase(2, (32, 64), (0.8, 1.2)),)
    config = TrainConfig(data=str(data), width=1 / 16, input_size=SIZE, batch_size=4, val_every=1,
                         phases=phases)
    return replace(config, **changes)


def write_labels(path, ids=range(12)):
    """Write a label set 'own' of classes c0, c1, ... in this order; return its path as text."""
    path.write_text('name: own\nclasses:\n' + ''.join(
        f'  - {{name: c{i}, color: [{i}, 0, 0]}}\n' for i in ids))
    return str(path)


# Reading

def test_split_is_read_in_order_with_annotations(data):
    pairs = frame_paths(data, 'train')
    assert [image.name for image, _ in pairs] == [
        f'{seed:04}_{index}.png' for seed in (1, 2) for index in range(4)]
    for image, annotation in pairs:
        assert annotation == data / 'trainannot' / image.name


def test_a_split_may_be_in_a_subfolder(data, tmp_path):
    (tmp_path / 'town').symlink_to(data)
    assert frame_paths(tmp_path, 'town/train') == frame_paths(tmp_path / 'town', 'train')


def test_splits_are_joined_by_plus(data):
    both = frame_paths(data, 'train+val')
    assert both == frame_paths(data, 'train') + frame_paths(data, 'val')
    assert len(both) == 12


def test_progress_is_cleared_before_an_error_shows(scratch, capsys):
    cv2.imwrite(str(scratch / 'trainannot' / '0002_1.png'), np.zeros((10, 10), np.uint8))
    assert main(['train', '--data', str(scratch), '--output', str(scratch / 'out')]) == 1
    assert re.search(r'\r *\rsegnet train: .*must have the size', capsys.readouterr().err)


@pytest.mark.parametrize('depth', [1, 2, 4])
def test_masks_of_few_bits_hold_the_ids_that_are_stored(tmp_path, depth):
    ids = np.arange(8 * 8, dtype=np.uint8).reshape(8, 8) % 2**depth
    bits = np.unpackbits(ids[..., None], axis=-1)[..., 8 - depth:].reshape(8, -1)
    rows = np.pad(np.packbits(bits, axis=1), ((0, 0), (1, 0)))  # each begins with its filter, 0
    chunks = ((b'IHDR', struct.pack('>2I5B', 8, 8, depth, 0, 0, 0, 0)),
              (b'IDAT', zlib.compress(rows.tobytes())), (b'IEND', b''))
    (tmp_path / 'mask.png').write_bytes(b'\x89PNG\r\n\x1a\n' + b''.join(
        struct.pack('>I', len(data)) + name + data + struct.pack('>I', zlib.crc32(name + data))
        for name, data in chunks))
    labels = LabelSet('own', tuple(map(str, range(16))), ((0, 0, 0),) * 16)
    assert np.array_equal(read_annotation(tmp_path / 'mask.png', labels), ids)


def test_frame_is_rgb_with_void_as_255(data):
    image, label_map = read_frame(*frame_paths(data, 'train')[0], CAMVID)
    expected, labels = SampleDrive(seed=1, size=SIZE).frame(0)
    assert np.array_equal(image, expected)
    assert (label_map[:2] == VOID).all() and np.array_equal(label_map[2:], labels[2:])


def test_images_may_be_jpeg(scratch):
    path = scratch / 'train' / '0001_0.png'
    cv2.imwrite(str(path.with_suffix('.JPG')), cv2.imread(str(path)))
    path.unlink()
    image, annotation = frame_paths(scratch, 'train')[0]
    assert (image.name, annotation.name) == ('0001_0.JPG', '0001_0.png')


def test_images_may_be_whatever_can_be_read(scratch):
    first, second, *_ = sorted((scratch / 'train').iterdir())
    for path, suffix in ((first, '.webp'), (second, '.BMP')):
        cv2.imwrite(str(path.with_suffix(suffix.lower())), cv2.imread(str(path)))
        path.with_suffix(suffix.lower()).rename(path.with_suffix(suffix))
        path.unlink()
    paths = frame_paths(scratch, 'train')
    assert [path.suffix for path, _ in paths[:3]] == ['.webp', '.BMP', '.png'] and len(paths) == 8
    assert read_frame(*paths[0], CAMVID)[0].shape == (*SIZE, 3)


def test_images_are_turned_upright_as_the_masks_are(scratch):
    path = scratch / 'train' / '0001_0.png'
    jpeg = cv2.imencode('.jpg', cv2.imread(str(path)))[1].tobytes()
    exif = b'Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x03\0\0\0\0\0\0'
    upside_down = jpeg[:2] + b'\xff\xe1' + struct.pack('>H', 2 + len(exif)) + exif + jpeg[2:]
    mask = scratch / 'trainannot' / path.name
    path.with_suffix('.jpg').write_bytes(jpeg)
    as_it_is, _ = read_frame(path.with_suffix('.jpg'), mask, CAMVID)
    path.with_suffix('.jpg').write_bytes(upside_down)
    assert np.array_equal(read_frame(path.with_suffix('.jpg'), mask, CAMVID)[0],
                          as_it_is[::-1, ::-1])


def test_what_macos_leaves_beside_frames_is_none(scratch, caplog):
    paths = frame_paths(scratch, 'train')
    for path in paths[0]:
        (path.parent / f'._{path.name}').write_bytes(b'an icon')
    assert frame_paths(scratch, 'train') == paths and not caplog.text


def test_masks_of_images_that_are_not_read_are_told(scratch, caplog):
    frame_paths(scratch, 'train')
    assert not caplog.text
    path = sorted((scratch / 'train').iterdir())[0]
    path.rename(path.with_suffix('.tiff'))
    assert len(frame_paths(scratch, 'train')) == 7
    assert 'masks without an image' in caplog.text
    assert f'e.g. {path.stem}.png: they are left out; their number: 1' in caplog.text


@pytest.mark.parametrize('suffix', ['.PNG', '.Png'])
def test_masks_may_end_in_capitals(scratch, suffix):
    path = scratch / 'trainannot' / '0001_0.png'
    path.rename(path.with_suffix(suffix))
    assert [pair[1].name for pair in frame_paths(scratch, 'train')[:2]] == [
        '0001_0' + suffix, '0001_1.png']


def test_two_images_of_one_annotation_are_refused(scratch):
    """As where somebody saved an overlay beside the picture."""
    (scratch / 'train' / '0001_0.jpg').write_bytes((scratch / 'train' / '0001_0.png').read_bytes())
    with pytest.raises(ValueError, match='0001_0.jpg and 0001_0.png would have the same'):
        frame_paths(scratch, 'train')


def test_frames_are_scaled_as_they_are_read(data):
    image, label_map = read_frames(frame_paths(data, 'val'), CAMVID, (32, 48), 'frames')[0]
    assert image.shape == (32, 48, 3) and label_map.shape == (32, 48)
    whole = read_frame(*frame_paths(data, 'val')[0], CAMVID)[1]
    assert set(np.unique(label_map)) <= set(np.unique(whole))
    blocks = whole.reshape(32, 2, 48, 2)
    assert (label_map[:, None, :, None] == blocks).any((1, 3)).all()
    image, label_map = read_frames(frame_paths(data, 'val'), CAMVID, (48, 48), 'frames')[0]
    assert image.shape[:2] == label_map.shape == fit_input_size((48, 48), whole.shape) == (40, 56)


def cut_jpeg(path):
    """Put half of a JPEG in the place of a PNG."""
    whole = cv2.imencode('.jpg', cv2.imread(str(path.with_suffix('.png'))))[1].tobytes()
    path.with_suffix('.png').unlink()
    path.write_bytes(whole[:len(whole) // 2])


def claim_to_be_huge(path):
    png = path.read_bytes()
    header = b'IHDR' + struct.pack('>II', 50000, 50000) + png[24:29]
    path.write_bytes(png[:12] + header + struct.pack('>I', zlib.crc32(header)) + png[33:])


@pytest.mark.parametrize('name, spoil, words', [
    ('train', shutil.rmtree, r'no images \(.png, .*\) in '),
    ('trainannot/0002_1.png', Path.unlink, 'is missing'),
    ('train/0002_1.png', b'no picture', 'the 10 bytes are not a whole image'),
    ('train/0002_1.jpg', cut_jpeg, 'are not a whole image'),
    ('trainannot/0002_1.png', lambda path: path.write_bytes(path.read_bytes()[:60]),
     'are not a whole image that OpenCV can read'),
    ('trainannot/0002_1.png', b'', 'the 0 bytes are not a whole image that OpenCV can read'),
    ('trainannot/0002_1.png', claim_to_be_huge, 'not a whole image that OpenCV can read: '),
    ('trainannot/0002_1.png', np.full(SIZE, 12, np.uint8), r'ids \[12\]'),
    ('trainannot/0002_1.png', np.zeros((10, 10), np.uint8),
     r'is \(10, 10\); .*size of its image, \(64, 96\)'),
    ('trainannot/0002_1.png', np.zeros((*SIZE, 3), np.uint8),
     r'holds colours, \(64, 96, 3\); .*one channel.*palette'),
    ('trainannot/0002_1.png', np.full(SIZE, 256, np.uint16), r'uint16'),
])
def test_error_names_the_file(scratch, name, spoil, words):
    path = scratch / name
    if isinstance(spoil, bytes):
        path.write_bytes(spoil)
    elif isinstance(spoil, np.ndarray):
        cv2.imwrite(str(path), spoil)
    else:
        spoil(path)
    with pytest.raises((FileNotFoundError, ValueError), match=words) as caught:
        TrainingData(recipe(scratch))
    assert str(path) in str(caught.value)


def test_missing_val_tells_of_hold_out(scratch):
    for path in (scratch / 'val').iterdir():
        path.unlink()
    with pytest.raises(FileNotFoundError, match='/val; .*--hold-out NAME'):
        TrainingData(recipe(scratch))


@pytest.mark.parametrize('void', [VOID, 9])
def test_masks_of_0_and_255_are_no_masks_of_ids(scratch, void):
    """Most tools export such masks for two classes: the whole second class would become void."""
    labels = scratch / 'two.yaml'
    labels.write_text('name: two\nclasses:\n  - {name: road, color: [1, 2, 3]}\n'
                      f'  - {{name: other, color: [4, 5, 6]}}\nvoid: {{file_id: {void}}}\n')
    for path in scratch.glob('*annot/*.png'):
        mask = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
        cv2.imwrite(str(path), np.where(mask == 3, 0, 255).astype(np.uint8))
    words = ('no pixel of other in any .* 0 to 1, and void 255: with fewer' if void == VOID
             else r'holds ids \[255\]')
    with pytest.raises(ValueError, match=words):
        TrainingData(recipe(scratch, label_set=str(labels)))


def test_class_that_no_mask_shows_is_told(scratch, caplog):
    for path in scratch.glob('trainannot/*.png'):
        mask = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
        cv2.imwrite(str(path), np.where(mask > 3, 3, mask).astype(np.uint8))
    TrainingData(recipe(scratch))
    assert re.search('no pixel of pavement, tree, .*, bicyclist in any', caplog.text)


def test_class_that_no_mask_to_score_on_shows_is_told(scratch, caplog):
    for path in (scratch / 'valannot').iterdir():
        mask = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
        cv2.imwrite(str(path), np.where(mask == 3, 11, mask))
    TrainingData(recipe(scratch))
    assert re.search('no pixel of .*road.* in any validation mask', caplog.text)
    assert not re.search('road.* in any training mask', caplog.text)


def test_frames_that_are_scored_and_trained_on_are_told(data, caplog):
    TrainingData(recipe(data, val_split='val'))
    assert not caplog.text
    TrainingData(recipe(data, val_split='val+train:0002'))
    assert '4 of the 8 frames to score on are trained on too' in caplog.text


def test_a_split_that_is_a_link_to_another_is_the_same(scratch, caplog):
    for name in ('val', 'valannot'):
        shutil.rmtree(scratch / name)
        (scratch / name).symlink_to(name.replace('val', 'train'))
    TrainingData(recipe(scratch, val_split='val'))
    assert '8 of the 8 frames to score on are trained on too' in caplog.text


def test_hold_out_takes_a_drive_by_its_name(data):
    kept = TrainingData(recipe(data, hold_out='0001'))
    whole = TrainingData(recipe(data))
    assert len(kept.train_frames) == len(kept.val_frames) == 4
    assert len(whole.train_frames) == 8
    for frame, expected in zip(kept.val_frames + kept.train_frames, whole.train_frames,
                               strict=True):
        assert np.array_equal(frame[0], expected[0])


@pytest.mark.parametrize('prefix', ['0009', '000'])
def test_hold_out_must_match_some_and_leave_some(data, prefix):
    with pytest.raises(ValueError, match=f"'{prefix}' matches . of 8"):
        TrainingData(recipe(data, hold_out=prefix))


# Augmentation

def checkerboard():
    """Return a frame whose image encodes each pixel's class as grey 20 * (id + 1)."""
    label_map = np.kron(np.arange(35).reshape(5, 7) % 11, np.ones((16, 16))).astype(np.uint8)
    return np.repeat((20 * (label_map + 1))[..., None], 3, 2).astype(np.uint8), label_map


@pytest.mark.parametrize('seed', range(8))
def test_crop_of_image_and_labels_is_the_same(seed):
    image, label_map = random_crop(*checkerboard(), Phase(1, (64, 96), (0.6, 1.6)),
                                   np.random.default_rng(seed))
    assert image.shape == (64, 96, 3) and label_map.shape == (64, 96)
    assert set(np.unique(label_map)) <= {*range(11), VOID}
    # Between two squares the image is interpolated; the labels are not.
    inside = cv2.erode(label_map, np.ones((5, 5))) == cv2.dilate(label_map, np.ones((5, 5)))
    inside &= label_map != VOID
    assert inside.mean() > 0.2
    assert np.array_equal(image[inside][:, 0], 20 * (label_map[inside] + 1))


def test_crops_are_flipped_scaled_and_moved():
    frame = checkerboard()
    mirrored = moved = 0
    for seed in range(40):
        label_map = random_crop(*frame, Phase(1, (80, 112), (1.0, 1.0)),
                                np.random.default_rng(seed))[1]
        mirrored += np.array_equal(label_map, frame[1][:, ::-1])
        moved += np.array_equal(label_map, frame[1])
    assert mirrored + moved == 40 and 8 < mirrored < 32
    places = {random_crop(*frame, Phase(1, (32, 32), (0.7, 1.4)),
                          np.random.default_rng(seed))[1].tobytes() for seed in range(10)}
    assert len(places) == 10


def test_small_frames_are_padded_with_void():
    image, label_map = random_crop(*checkerboard(), Phase(1, (128, 160), (1.0, 1.0)),
                                   np.random.default_rng(0))
    assert (label_map != VOID).sum() == 80 * 112
    # Except at the seam, where the image is interpolated.
    outside = cv2.erode((label_map == VOID).astype(np.uint8), np.ones((3, 3))) == 1
    assert outside.any() and (image[outside] == (124, 116, 104)).all()


def test_jitter_changes_colours():
    image, _ = checkerboard()
    jittered = recolor(image, 0.3, np.random.default_rng(3))
    assert jittered.shape == image.shape and jittered.dtype == np.uint8
    assert not np.array_equal(jittered, image)
    assert np.array_equal(recolor(image, 0.0, np.random.default_rng(3)), image)


def test_jitter_is_what_its_words_say():
    """Saturation, then contrast, then brightness and white balance, one by one in floats."""
    image = np.random.default_rng(0).integers(60, 190, (16, 24, 3), np.uint8)
    rng = np.random.default_rng(3)
    brightness, contrast, saturation = rng.uniform(0.8, 1.2, 3)
    balance = rng.uniform(0.95, 1.05, 3)
    expected = image.astype(float)
    grey = expected @ [[0.299], [0.587], [0.114]]
    expected = grey + saturation * (expected - grey)
    mean = image[::8, ::8].mean()
    expected = (mean + contrast * (expected - mean)) * brightness * balance
    found = recolor(image, 0.2, np.random.default_rng(3))
    assert np.abs(found - expected.clip(0, 255)).max() <= 1


@pytest.mark.parametrize('way', [
    corruptions._any_blur, corruptions._any_jpeg, corruptions._any_haze, corruptions._any_dark,
    corruptions.jpeg_20, corruptions.rain])
def test_spoilt_pictures_keep_the_order_of_their_colours(way):
    image = np.full((48, 64, 3), (200, 120, 30), np.uint8)
    label_map = np.zeros((48, 64), np.uint8)
    for seed in range(5):
        rng = np.random.default_rng(seed)
        found = way(image, rng) if way.__name__.startswith('_') else way(image, label_map, rng)[0]
        red, green, blue = found.reshape(-1, 3).mean(0)
        assert red > green + 5 and green > blue + 5


def test_night_is_blue_and_rain_falls_in_bright_streaks():
    image, label_map = np.full((96, 128, 3), 90, np.uint8), np.zeros((96, 128), np.uint8)
    red, _, blue = corruptions.night(image, label_map, np.random.default_rng(0))[0].reshape(
        -1, 3).mean(0)
    assert blue > 1.1 * red
    rainy, _ = corruptions.rain(image, label_map, np.random.default_rng(0))
    wet = rainy[..., 0] > 95
    assert 0.01 < wet.mean() < 0.5 and rainy.max() < 226
    assert np.abs(rainy[~wet].astype(int) - 90).max() <= 5


def test_degraded_pictures_are_dark_blurred_hazy_or_compressed():
    image, _ = checkerboard()
    image = cv2.GaussianBlur(image, (0, 0), 1) // 2 + 60
    seen = {'darker': 0, 'flatter': 0, 'hazier': 0}
    for seed in range(80):
        degraded = degrade(image, np.random.default_rng(seed))
        assert degraded.shape == image.shape and degraded.dtype == np.uint8
        assert not np.array_equal(degraded, image)
        assert np.array_equal(degraded, degrade(image, np.random.default_rng(seed)))
        change = float(degraded.mean() / image.mean())
        flat = float(degraded.std() / image.std())
        seen['darker'] += change < 0.9
        seen['flatter'] += change > 0.98 and flat < 0.9
        seen['hazier'] += change > 1.1
    assert all(10 < count < 50 for count in seen.values()), seen


def test_a_share_of_the_crops_is_degraded_and_labels_stay(data):
    frames = read_frames(frame_paths(data, 'train'), CAMVID, SIZE, 'frames')
    config = TrainConfig(phases=(Phase(1, (32, 32), (0.8, 1.2)),), jitter=0.2)
    changed = 0
    for epoch in range(10):
        plain, spoilt = (TrainingFrames(frames, np.zeros(11), replace(config, degrade=d))
                         for d in (0.0, 0.5))
        for index in range(len(frames)):
            (image, label_map), (other, other_map) = plain[epoch, index], spoilt[epoch, index]
            assert torch.equal(label_map, other_map)
            changed += not torch.equal(image, other)
    assert 0.25 < changed / (10 * len(frames)) < 0.75


def test_pasted_classes_bring_image_and_labels():
    image, label_map = checkerboard()
    other = np.full_like(image, 7), np.full_like(label_map, 3)
    other[1][:40], other[1][70:] = 9, VOID
    rare = np.arange(256) == 9
    pasted_image, pasted_labels = paste_classes((image, label_map), other, rare)
    assert (pasted_image[:40] == 7).all() and (pasted_labels[:40] == 9).all()
    assert np.array_equal(pasted_image[40:], image[40:])
    assert np.array_equal(pasted_labels[40:], label_map[40:])


def test_rare_things_of_near_frames_are_pasted_in_place():
    common = np.zeros((64, 96), np.uint8)
    rare = common.copy()
    rare[20:30, 40:50] = 8
    frames = [(np.repeat(m[..., None] * 20, 3, 2), m) for m in (common, rare)]
    shares = np.zeros(11)
    shares[0] = 1.0
    config = TrainConfig(phases=(Phase(1, (64, 96), (1.0, 1.0)),), jitter=0.0, paste=1.0,
                         degrade=0.0)
    seen = 0
    for epoch in range(20):
        image, label_map = TrainingFrames(frames, shares, config)[epoch, 0]
        seen += bool((label_map == 8).any())
        assert torch.equal(image[0], label_map * 20), 'the image comes with its labels'
    assert 2 < seen < 20, 'now the frame with the rare thing, now itself'
    plain = TrainingFrames(frames, shares, replace(config, paste=0.0))
    assert not (plain[0, 0][1] == 8).any()


def test_what_is_pasted_was_cropped_like_what_it_is_pasted_on():
    """Scaled, moved and flipped as one: a pole must stand where the crop's ground is."""
    rare = np.full((64, 96), 8, np.uint8)
    common = np.zeros((64, 96), np.uint8)
    common[:, 70:], rare[:, 70:] = 3, 9  # would be elsewhere if cropped separately
    frames = [(np.repeat(m[..., None] * 20, 3, 2), m) for m in (common, rare)]
    shares = np.ones(11)
    shares[8] = 0.0
    config = TrainConfig(phases=(Phase(40, (48, 64), (0.6, 1.6)),), jitter=0.0, paste=1.0,
                         degrade=0.0)
    seen = 0
    for epoch in range(40):
        plain = TrainingFrames(frames, shares, replace(config, paste=0.0))[epoch, 0][1]
        pasted = TrainingFrames(frames, shares, config)[epoch, 0][1]
        if not torch.equal(plain, pasted):
            seen += 1
            assert torch.equal(pasted == 8, plain == 0)
    assert seen > 5


def test_real_and_rendered_frames_are_not_mixed_when_pasting(data, monkeypatch):
    frames = TrainingData(recipe(data)).train_frames
    pasted = []

    def crop(self, epoch, index, *_):
        pasted.append(index)
        return np.zeros((32, 64, 3), np.uint8), np.zeros((32, 64), np.uint8)
    monkeypatch.setattr(TrainingFrames, '_crop', crop)
    config = recipe(data, paste=1.0, sample_drive_frames=3)
    crops = TrainingFrames(frames, np.ones(11) / 11, config)
    for epoch in range(5):
        for index in range(len(crops)):
            crops[epoch, index]
    pairs = np.array(pasted).reshape(-1, 2)
    assert ((pairs[:, 0] < len(frames)) == (pairs[:, 1] < len(frames))).all()
    assert len(np.unique(pairs[:, 1])) > len(frames) // 2


def test_items_depend_on_seed_epoch_and_index_alone(data):
    frames = read_frames(frame_paths(data, 'train'), CAMVID, SIZE, 'frames')

    def items(seed, epoch):
        config = TrainConfig(phases=(Phase(1, (32, 32), (0.8, 1.2)),), jitter=0.2, paste=0.5,
                             sample_drive_frames=2, seed=seed)
        crops = TrainingFrames(frames, np.zeros(11), config)
        assert len(crops) == 10
        return [tuple(t.numpy().tobytes() for t in crops[epoch, i]) for i in (0, 3, 9)]

    assert items(0, 0) == items(0, 0)
    assert len({*items(0, 0), *items(0, 1), *items(1, 0)}) == 9


def test_a_frame_is_cropped_elsewhere_in_every_epoch(data):
    frames = read_frames(frame_paths(data, 'train'), CAMVID, SIZE, 'frames')
    config = recipe(data, phases=(Phase(4, (32, 32), (0.8, 1.2)),), jitter=0.0, degrade=0.0,
                    paste=0.0)
    crops = TrainingFrames(frames, np.ones(11) / 11, config)
    assert len({crops[epoch, 0][1].numpy().tobytes() for epoch in range(4)}) == 4


def test_tensors_are_channels_first(data):
    frames = read_frames(frame_paths(data, 'val'), CAMVID, SIZE, 'frames')
    image, label_map = ScoringFrames(frames)[1]
    assert image.shape == (3, *SIZE) and label_map.shape == SIZE
    assert image.dtype == label_map.dtype == torch.uint8
    assert np.array_equal(image[0].numpy(), frames[1][0][..., 0])


def test_processes_share_the_frames_and_score_none_twice(data):
    frames = read_frames(frame_paths(data, 'val'), CAMVID, SIZE, 'frames')
    shared = ScoringFrames(frames, 3)
    assert len(shared) == 6 and len(ScoringFrames(frames, 2)) == 4
    assert all(np.array_equal(shared[i][1].numpy(), frames[i][1]) for i in range(4))
    assert all((shared[i][1] == VOID).all() and shared[i][0].shape == (3, *SIZE) for i in (4, 5))


def test_rare_classes_weigh_more():
    frames = [(np.zeros((2, 5, 3), np.uint8), np.array([[0] * 5, [0, 0, 0, 1, VOID]], np.uint8))]
    shares = class_shares(frames, 3)
    np.testing.assert_allclose(shares, [8 / 9, 1 / 9, 0])
    weights = class_weights(shares, 1.1).numpy()
    expected = 1 / np.log(1.1 + np.array([8 / 9, 1 / 9, 0]))
    np.testing.assert_allclose(weights, expected / expected.mean(), rtol=1e-6)


def test_class_weights_that_would_not_be_positive_numbers_are_refused():
    class_weights(np.array([0.9, 0.1]), 1.0)
    with pytest.raises(ValueError, match='class_weight_offset 1.0 is too small'):
        class_weights(np.array([1.0, 0.0]), 1.0)
    with pytest.raises(ValueError, match='class_weight_offset 0.9 is too small'):
        class_weights(np.array([0.95, 0.05]), 0.9)


def test_void_pixels_count_neither_as_loss_nor_as_weight(data):
    config = recipe(data)
    weights = torch.arange(1.0, 12.0)
    module = SegmentationModule(config, ModelInfo(CAMVID, width=config.width), weights)
    logits = torch.randn(1, 11, 4, 6, generator=torch.Generator().manual_seed(0))
    labels = torch.arange(24).view(1, 4, 6) % 11
    whole = module._cross_entropy(logits[:, :, :2], labels[:, :2])
    labels[:, 2:] = VOID
    torch.testing.assert_close(module._cross_entropy(logits, labels), whole)
    expected = functional.cross_entropy(logits, labels, weights, ignore_index=VOID)
    torch.testing.assert_close(whole, expected)
    assert module._cross_entropy(logits, torch.full_like(labels, VOID)) == 0
    module.class_weights = weights / 20  # one pixel of a common class weighs less than 1
    labels[:] = VOID
    labels[0, 1, 1] = 0
    torch.testing.assert_close(module._cross_entropy(logits, labels), functional.cross_entropy(
        logits, labels, weights, ignore_index=VOID))


# Recipe

def test_recipe_is_read_and_overridden(tmp_path):
    path = tmp_path / 'r.yaml'
    path.write_text('lr: 1\nwidth: 0.25\nwarmup_steps: 1e3\nphases:\n'
                    '  - {epochs: 3, crop: [64, 96], scale: [1, 2]}\n'
                    '  - {epochs: 2, crop: [128, 160], scale: [0.5, 1.5]}\n')
    config = load_config(path, {'width': 0.5, 'input_size': [128, 160]})
    assert (config.lr, config.width, config.input_size) == (1.0, 0.5, (128, 160))
    assert isinstance(config.lr, float)
    assert config.warmup_steps == 1000
    assert config.epochs == 5
    assert [config.phase(e).crop for e in range(6)] == [(64, 96)] * 3 + [(128, 160)] * 3
    assert load_config(None, config.to_dict()) == config


@pytest.mark.parametrize('path', sorted(Path('config/train').glob('*.yaml')), ids=str)
def test_shipped_recipes_load(path):
    config = load_config(path, {'data': 'somewhere'})
    assert config.phases and config.class_bias.keys() == set(CAMVID.class_names)
    halved = 16 if config.architecture == 'segnet_basic' else 32
    assert all(side % halved == 0 for phase in config.phases for side in phase.crop)


def test_without_phases_crops_are_whole_frames():
    config = load_config(None, {'input_size': [370, 500]})
    assert config.phases == (Phase(20, (352, 480), (0.75, 1.75)),)
    assert config.whole_frames(3).epochs == 3


@pytest.mark.parametrize('text, words', [
    ('learning_rate: 1', "unknown training setting 'learning_rate'; choose from data, split"),
    ('lr: fast', "'lr' cannot be 'fast'"),
    ('batch_size: [1]', "'batch_size' cannot be"),
    ('input_size: 360', "'input_size' cannot be 360"),
    ('input_size: [1, 2, 3]', "'input_size' cannot be"),
    ('phases: [{epochs: 3}]', "'phases' cannot be.*crop"),
    ('split: 3', "'split' cannot be 3: it must be text"),
    ('batch_size: 7.9', "'batch_size' cannot be 7.9: 7.9 must be a whole number"),
    ('input_size: [40.7, 33]', "'input_size' cannot be .*: 40.7 must be a whole number"),
    ('phases: [{epochs: 1.9, crop: [32, 32], scale: [1, 1]}]', '1.9 must be a whole number'),
    ('phases: [{epochs: 1, crop: [32.9, 32], scale: [1, 1]}]', '32.9 must be a whole number'),
    ('phases: [{epochs: 1, crop: [32, 32], scale: [1, 1], lr: 1}]',
     'each phase needs epochs, crop and scale, and nothing else'),
    ('phases: {epochs: 1}', 'each phase needs epochs, crop and scale'),
    ('passes: 0', "'passes' must be at least 1, not 0"),
    ('val_every: 0', "'val_every' must be at least 1, not 0"),
    ('degrade: 35', "'degrade' must be from 0 to 1, not 35"),
    ('sample_drive_frames: -2', "'sample_drive_frames' must be at least 0, not -2"),
    ('weight_decay: -1', "'weight_decay' must be at least 0, not -1"),
    ('lr: .nan', "'lr' must be at least 0, not nan"),
    ('ema_decay: 998', "'ema_decay' must be from 0 to 1"),
    ('input_size: [0, 96]', "'input_size' must be at least 8, not 0"),
    ('phases: [{epochs: 1, crop: [32, 0], scale: [1, 1]}]', "'crop' must be at least 8, not 0"),
    ('phases: [{epochs: 1, crop: [32, 32], scale: [0, 1]}]', "'scale' must be above 0"),
    ('phases: [{epochs: 1, crop: [32, 32], scale: [2, 1]}]',
     "'scale' must be above 0, minimum first"),
    ('{architecture: pspnet, batch_size: 1}', "'batch_size' must be at least 2 for pspnet"),
    ('{batch_size: 1, phases: [{epochs: 1, crop: [8, 16], scale: [1, 1]}]}',
     "'batch_size' must be at least 2 for crops of 16x16 and less"),
    ('phases: [{epochs: 0, crop: [32, 32], scale: [1, 1]}]', "'epochs' must be at least 1"),
    ('phases: [{epochs: 1, crop: [32, 32], scale: [1, .inf]}]', "'scale' must be above 0"),
    ('lr: .inf', "'lr' must be at least 0, not inf"),
    (f'seed: 1{"0" * 400}', "'seed' cannot be 1000.*: int too large"),
    ('class_weight_offset: .nan', "'class_weight_offset' must be at least 1, not nan"),
    ('class_bias: {road: .nan}', "'class_bias' must be finite, not nan"),
    ('[lr]', 'needs a mapping'),
    ('lr: [', 'r.yaml'),
])
def test_wrong_recipe(tmp_path, text, words):
    path = tmp_path / 'r.yaml'
    path.write_text(text)
    with pytest.raises(ValueError, match=words):
        load_config(path, {})


def test_a_recipe_that_is_no_text_is_named(tmp_path):
    path = tmp_path / 'r.yaml'
    path.write_bytes(b'data: caf\xe9')
    with pytest.raises(ValueError, match='r.yaml: .*decode'):
        load_config(path, {})


@pytest.mark.parametrize('arguments, words', [
    (['--set', 'lr'], 'NAME=VALUE'),
    (['--set', 'input_size=[240'], "--set 'input_size=[240' is not valid YAML"),
    ([], '--data is needed'),
    (['--epochs', '0'], "'epochs' must be at least 1, not 0"),
    (['--data', '/no/where'], '/no/where/train'),
    (['--config', '/no/where.yaml'], '/no/where.yaml'),
])
def test_command_tells_what_is_wrong(capsys, tmp_path, arguments, words):
    assert main(['train', '--output', str(tmp_path), *arguments]) == 1
    message = capsys.readouterr().err
    assert words in message and message.startswith('segnet train: ')


# Runs

def rows(output):
    with (output / 'metrics.csv').open(newline='') as file:
        return list(csv.DictReader(file))


def losses(output):
    return {int(r['epoch']): float(r['loss']) for r in rows(output) if r['loss']}


def weights_of(path):
    return load_checkpoint(path)[0].state_dict()


@pytest.mark.parametrize('architecture', ['segnet', 'pspnet'])
def test_run_learns_and_its_weights_load(data, tmp_path, capfd, recwarn, architecture):
    config = recipe(data, phases=(Phase(2, (32, 64), (0.8, 1.2)), Phase(7, SIZE, (1.0, 1.0))),
                    val_every=4, lr=1e-2, batch_size=3, sample_drive_frames=1,
                    architecture=architecture)
    weights = train(config, tmp_path / 'run', 'cpu')
    found = losses(tmp_path / 'run')
    assert list(found) == list(range(9))
    assert found[8] < 0.85 * found[0]
    network, info = load_checkpoint(weights)
    assert info.label_set == CAMVID and info.input_size == SIZE and info.width == 1 / 16
    assert info.architecture == architecture
    assert info.made_by['lr'] == 1e-2
    # The last epoch is scored although it is not a multiple of four.
    validated = [int(r['epoch']) for r in rows(tmp_path / 'run') if r['val_miou']]
    assert validated == [3, 7, 8] and info.scores['epoch'] == 9
    assert info.scores['val']['miou'] == pytest.approx(
        float(rows(tmp_path / 'run')[-2]['val_miou']), abs=1e-6)
    with torch.no_grad():
        assert network(torch.zeros(1, 3, *SIZE)).shape == (1, 11, *SIZE)
    drawn = (tmp_path / 'run' / 'curves.png').read_bytes()
    assert save_curves(tmp_path / 'run' / 'metrics.csv', CAMVID).read_bytes() == drawn, 'not all'
    assert 'arning' not in capfd.readouterr().err
    assert [str(w.message) for w in recwarn if 'lightning' in w.filename] == []


class Killed(Exception):
    """Stands in for the kill that interrupts a run."""


class KilledInEpoch2(EpochOrder):
    """Is killed when the third epoch begins."""

    def __iter__(self):
        if self.epoch == 2:
            raise Killed
        return super().__iter__()


def test_killed_run_goes_on_as_if_nothing_had_been(data, tmp_path, monkeypatch, recwarn):
    config = recipe(data, phases=(Phase(4, (32, 64), (0.8, 1.2)),))
    train(config, tmp_path / 'whole', 'cpu')

    with monkeypatch.context() as patch:
        patch.setattr(train_module, 'EpochOrder', KilledInEpoch2)
        with pytest.raises(Killed):
            train(config, tmp_path / 'cut', 'cpu')
    assert list(losses(tmp_path / 'cut')) == [0, 1]
    (tmp_path / 'cut').rename(tmp_path / 'moved')
    (tmp_path / 'cut').symlink_to('moved')
    weights = train(config, tmp_path / 'moved', 'cpu')
    assert not [w for w in recwarn if 'dirpath' in str(w.message)]  # lightning's advice
    assert [r['epoch'] for r in rows(tmp_path / 'cut')] == list('00112233')
    whole, cut = losses(tmp_path / 'whole'), losses(tmp_path / 'cut')
    assert cut == pytest.approx(whole, rel=1e-3)
    expected = weights_of(tmp_path / 'whole' / 'weights.safetensors')
    for name, tensor in weights_of(weights).items():
        torch.testing.assert_close(tensor, expected[name], rtol=0.02, atol=2e-3)


def test_a_copy_that_goes_on_leaves_the_original_its_state(data, tmp_path, monkeypatch):
    config = recipe(data, phases=(Phase(3, (32, 64), (1, 1)),))
    with monkeypatch.context() as patch:
        patch.setattr(train_module, 'EpochOrder', KilledInEpoch2)
        with pytest.raises(Killed):
            train(config, tmp_path / 'run' / 'original', 'cpu')
    shutil.copytree(tmp_path / 'run' / 'original', tmp_path / 'run', dirs_exist_ok=True)
    train(config, tmp_path / 'run', 'cpu')
    assert list(losses(tmp_path / 'run')) == [0, 1, 2]
    assert (tmp_path / 'run' / 'original' / 'last.ckpt').exists()


def test_rate_goes_on_with_the_epochs_where_one_has_other_steps(scratch, tmp_path, monkeypatch):
    config = recipe(scratch, phases=(Phase(4, (32, 64), (0.8, 1.2)),), warmup_steps=1)
    rates = []
    monkeypatch.setattr(SegmentationModule, 'on_train_epoch_end', lambda module: rates.append(
        module.lr_schedulers().get_last_lr()[0] / config.muon_lr), raising=False)
    with monkeypatch.context() as patch:
        patch.setattr(train_module, 'EpochOrder', KilledInEpoch2)
        with pytest.raises(Killed):
            train(config, tmp_path / 'run', 'cpu')
    for path in (scratch / 'train').glob('0002*'):  # one step per epoch, as with two devices
        path.unlink()
    train(config, tmp_path / 'run', 'cpu')
    # The share of the schedule done: first of eight steps, one of them warm-up, then of four.
    done = (1 / 7, 3 / 7, 2 / 3, 1)
    assert rates == pytest.approx([0.5 + 0.5 * math.cos(math.pi * d) for d in done])


@pytest.mark.parametrize('number, devices, to_all', [
    (signal.SIGINT, 1, False), (signal.SIGTERM, 1, True), (signal.SIGTERM, 2, False)])
def test_a_signal_ends_a_run_at_once_and_it_goes_on(data, tmp_path, number, devices, to_all):
    arguments = ['train', '--data', str(data), '--output', str(tmp_path), '--accelerator', 'cpu',
                 '--epochs', '9', '--set', 'width=0.0625', '--set', f'input_size={list(SIZE)}',
                 '--set', 'batch_size=2']
    run = subprocess.Popen(
        [sys.executable, '-m', 'segnet_ros.tools.cli', *arguments, '--devices', str(devices)],
        stderr=subprocess.PIPE, text=True, start_new_session=True,
        cwd=ROOT, env={**os.environ, 'OMP_NUM_THREADS': '1', 'PYTHONPATH': ROOT})
    try:
        while not (tmp_path / 'last.ckpt').is_file() and run.poll() is None:
            time.sleep(0.01)
        (os.killpg if to_all else os.kill)(run.pid, number)
        _, told = run.communicate(timeout=20)  # until no process is left that writes to it
    finally:
        with suppress(ProcessLookupError):
            os.killpg(run.pid, signal.SIGKILL)
    assert run.returncode == 128 + number, told
    assert told.count(f'stopped by {number.name}; run the same command to resume') == 1
    assert 'Traceback' not in told
    if devices == 1:
        assert main(arguments) == 0
        assert list(losses(tmp_path)) == list(range(9))


def test_sigterm_before_the_processes_have_met_leaves_none(data, tmp_path):
    run = subprocess.Popen(
        [sys.executable, '-m', 'segnet_ros.tools.cli', 'train', '--data', str(data), '--output',
         str(tmp_path), '--accelerator', 'cpu', '--devices', '2', '--set', 'batch_size=2',
         '--set', 'width=0.0625', '--set', f'input_size={list(SIZE)}'],
        stderr=subprocess.PIPE, text=True, start_new_session=True,
        cwd=ROOT, env={**os.environ, 'OMP_NUM_THREADS': '1', 'PYTHONPATH': ROOT})
    try:
        children = Path(f'/proc/{run.pid}/task/{run.pid}/children')
        while not children.read_text() and run.poll() is None:
            time.sleep(0.05)
        run.terminate()
        _, told = run.communicate(timeout=60)  # until no process is left that writes to it
    finally:
        with suppress(ProcessLookupError):
            os.killpg(run.pid, signal.SIGKILL)
    assert run.returncode in (128 + signal.SIGINT, 128 + signal.SIGTERM), told


def test_ctrl_c_before_the_first_step_is_one(data, tmp_path, monkeypatch):
    def interrupt(_):
        raise KeyboardInterrupt
    monkeypatch.setattr(TrainingData, 'train_dataloader', interrupt)
    with pytest.raises(KeyboardInterrupt):
        train(recipe(data), tmp_path, 'cpu')


def test_sigterm_before_the_first_step_is_no_success(data, tmp_path, monkeypatch):
    load = TrainingData.val_dataloader
    monkeypatch.setattr(TrainingData, 'val_dataloader', lambda frames: (
        os.kill(os.getpid(), signal.SIGTERM), load(frames))[1])
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    with pytest.raises(SystemExit) as stop:
        train(recipe(data), tmp_path, 'cpu')
    assert stop.value.code == 128 + signal.SIGTERM


def test_another_exit_is_let_through(data, tmp_path, monkeypatch):
    monkeypatch.setattr(SegmentationModule, 'on_fit_start', lambda _: sys.exit(7), raising=False)
    with pytest.raises(SystemExit) as stop:
        train(recipe(data), tmp_path, 'cpu')
    assert stop.value.code == 7


def test_two_runs_do_not_meet(data, tmp_path):
    holder = subprocess.Popen(
        [sys.executable, '-c', 'import fcntl, sys\nfile = open(sys.argv[1], "w")\n'
         'fcntl.lockf(file, fcntl.LOCK_EX)\nprint("held", flush=True)\nsys.stdin.read()',
         str(tmp_path / '.lock')], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        assert holder.stdout.readline() == 'held\n'
        with pytest.raises(ValueError, match='another run is writing there.*--output'):
            train(recipe(data), tmp_path, 'cpu')
        assert not (tmp_path / 'metrics.csv').exists()
    finally:
        holder.communicate(timeout=20)


def test_a_file_system_without_locks_is_trained_on(tmp_path, monkeypatch):
    def refuse(*_):
        raise OSError(errno.ENOLCK, 'No locks available')
    monkeypatch.setattr(fcntl, 'lockf', refuse)
    with train_module._hold(tmp_path):
        assert tmp_path.is_dir()


def test_a_run_that_is_done_says_so_and_one_begun_anew_has_its_own_metrics(data, tmp_path, caplog):
    config = recipe(data, phases=(Phase(2, (32, 64), (0.8, 1.2)),))
    train(config, tmp_path, 'cpu')
    before = (tmp_path / 'metrics.csv').read_text()
    train(config, tmp_path, 'cpu')
    assert 'all 2 epochs of this run are done' in caplog.text
    assert (tmp_path / 'metrics.csv').read_text() == before
    (tmp_path / 'last.ckpt').unlink()
    train(replace(config, lr=1e-3), tmp_path, 'cpu')
    assert list(losses(tmp_path)) == [0, 1] and len(rows(tmp_path)) == 4
    assert (tmp_path / 'metrics_before.csv').read_text() == before


def test_order_depends_on_seed_and_epoch_alone():
    def order(seed, epoch):
        return [index for _, index in EpochOrder(20, seed, epoch)]

    assert sorted(order(0, 0)) == list(range(20))
    assert order(3, 5) == order(3, 5)
    assert len({*map(tuple, (order(0, 0), order(0, 1), order(1, 0)))}) == 3


def test_each_process_is_dealt_its_share_of_every_epoch():
    for length, dealt in ((6, 6), (7, 8)):
        shares = [EpochOrder(length, seed=0, epoch=0, processes=2, rank=rank) for rank in (0, 1)]
        for epoch in (0, 1, 2):
            items = []
            for rank, share in enumerate(shares):
                share.set_epoch(epoch)
                mine = list(share)
                # A run resumed there is dealt the same, before lightning sets an epoch.
                assert mine == list(EpochOrder(length, 0, epoch, 2, rank))
                assert len(mine) == len(share) == dealt // 2
                items += mine
            assert {*items} == {(epoch, index) for index in range(length)}


def test_lightning_leaves_the_order_as_it_is():
    """With several processes, it would wrap any other sampler and shuffle again."""
    assert isinstance(EpochOrder(6, 0, 0), torch.utils.data.DistributedSampler)


def test_going_on_with_another_recipe_is_refused(data, tmp_path):
    config = recipe(data, phases=(Phase(1, (32, 64), (0.8, 1.2)),))
    train(config, tmp_path, 'cpu')
    with pytest.raises(ValueError, match='lr = 0.003, now it is 0.5.*--output'):
        train(replace(config, lr=0.5), tmp_path, 'cpu')


def test_going_on_with_other_classes_is_refused_wherever_their_file_is(data, tmp_path):
    def module(labels):
        config = recipe(data, label_set=labels)
        return SegmentationModule(config, ModelInfo(load_label_set(labels), width=config.width),
                                  torch.ones(12))
    state: dict = {}
    module(write_labels(tmp_path / 'own.yaml')).on_save_checkpoint(state)
    module(write_labels(tmp_path / 'moved.yaml')).on_load_checkpoint(state)
    for classes in (range(11, -1, -1), range(13)):
        with pytest.raises(ValueError, match='holds a run for other classes.*--output'):
            module(write_labels(tmp_path / 'own.yaml', classes)).on_load_checkpoint(state)


def test_a_run_that_diverges_says_so_and_keeps_the_weights_before(data, tmp_path):
    config = recipe(data, phases=(Phase(1, (32, 64), (0.8, 1.2)),), muon_lr=1e38)
    with pytest.raises(ValueError, match='epoch 1: the run has diverged.*smaller lr'):
        train(config, tmp_path, 'cpu')
    assert not (tmp_path / 'weights.safetensors').exists()


def test_an_error_stands_on_a_line_of_its_own(data, tmp_path, capfd, monkeypatch):
    step = SegmentationModule.training_step

    def failing(module, batch, index):
        if module.current_epoch == 1:
            raise ValueError('the loss is lost')
        return step(module, batch, index)
    monkeypatch.setattr(SegmentationModule, 'training_step', failing)
    assert main(['train', '--data', str(data), '--output', str(tmp_path), '--accelerator', 'cpu',
                 '--set', 'width=0.0625', '--epochs', '2', '--set', 'input_size=[32, 64]']) == 1
    out, err = capfd.readouterr()
    assert err.endswith('\rsegnet train: the loss is lost\n')
    assert out.endswith('\n'), 'the bar of the training goes to standard output'


def test_a_run_that_diverges_ends_before_its_last_good_state_is_written_over(data, tmp_path,
                                                                             monkeypatch):
    config = recipe(data, phases=(Phase(5, (32, 64), (0.8, 1.2)),), val_every=5)
    with monkeypatch.context() as patch:
        step = SegmentationModule.training_step
        patch.setattr(SegmentationModule, 'training_step', lambda module, batch, index: step(
            module, (batch[0] * (math.nan if module.current_epoch == 2 else 1), batch[1]), index))
        with pytest.raises(ValueError, match='epoch 3: the run has diverged, its loss is not'):
            train(config, tmp_path, 'cpu')
    train(config, tmp_path, 'cpu')
    assert all(map(math.isfinite, losses(tmp_path).values()))


def test_a_last_step_that_diverges_is_not_kept_either(data, tmp_path, monkeypatch):
    """Its loss is still finite, but the resulting weights are not."""
    config = recipe(data, phases=(Phase(5, (32, 64), (0.8, 1.2)),), val_every=5)

    def spoil(module, outputs, batch, index):
        if (module.current_epoch, index) == (2, 1):
            module.network.classifier.bias.data.fill_(math.nan)
    with monkeypatch.context() as patch:
        patch.setattr(SegmentationModule, 'on_train_batch_end', spoil, raising=False)
        with pytest.raises(ValueError, match='epoch 3: the run has diverged, its weights are not'):
            train(config, tmp_path, 'cpu')
    train(config, tmp_path, 'cpu')
    assert all(map(math.isfinite, losses(tmp_path).values()))


def test_kill_while_the_state_is_written_leaves_the_one_before(data, tmp_path, monkeypatch):
    config = recipe(data, phases=(Phase(3, (32, 64), (0.8, 1.2)),))
    save, written = torch.save, []

    def killed_at_the_second(checkpoint, file):
        if written:
            file.write(b'half a fi')
            raise Killed
        written.append(file)
        save(checkpoint, file)

    with monkeypatch.context() as patch:
        patch.setattr(torch, 'save', killed_at_the_second)
        with pytest.raises(Killed):
            train(config, tmp_path, 'cpu')
    train(config, tmp_path, 'cpu')
    # Epoch 1, whose state was not written yet, is repeated.
    assert [r['epoch'] for r in rows(tmp_path) if r['loss']] == list('0112')


def test_kill_after_the_state_is_written_leaves_the_loss_too(data, tmp_path, monkeypatch):
    config = recipe(data, phases=(Phase(2, (32, 64), (0.8, 1.2)),))
    save = callbacks.WholeFiles.save_checkpoint

    def killed_after_the_first(*args, **kwargs):
        save(*args, **kwargs)
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(callbacks.WholeFiles, 'save_checkpoint', killed_after_the_first)
        with pytest.raises(Killed):
            train(config, tmp_path, 'cpu')
    train(config, tmp_path, 'cpu')
    assert [r['epoch'] for r in rows(tmp_path) if r['loss']] == list('01')


def test_state_of_a_gpu_run_is_read_where_there_is_none(data, tmp_path, monkeypatch):
    config = recipe(data, phases=(Phase(1, (32, 64), (0.8, 1.2)),))
    train(config, tmp_path, 'cpu')
    load, places = torch.load, []
    monkeypatch.setattr(torch, 'load', lambda *args, **kwargs: (
        places.append(kwargs['map_location']), load(*args, **kwargs))[1])
    train(config, tmp_path, 'cpu')
    # Without map_location, torch.load puts every tensor on the device that it was saved from.
    assert places and None not in places


def test_a_disk_that_is_full_of_state_is_told_with_the_file(tmp_path, full_disk):
    path = tmp_path / 'last.ckpt'
    callbacks.WholeFiles().save_checkpoint({'step': 1}, path)
    with full_disk(), pytest.raises(OSError) as failed:
        callbacks.WholeFiles().save_checkpoint({'step': 2, 'state': torch.zeros(99999)}, path)
    assert failed.value.filename == str(path)
    assert failed.value.strerror == os.strerror(errno.EFBIG)
    assert callbacks.WholeFiles().load_checkpoint(path) == {'step': 1}


def test_a_row_that_a_full_disk_took_is_none(tmp_path, full_disk):
    path = tmp_path / 'metrics.csv'
    metrics = callbacks.MetricsFile(path, ('road',))
    metrics.log_metrics({'epoch': 0, 'loss': '1' * 8000}, 1)
    with full_disk(), pytest.raises(OSError) as failed:
        metrics.log_metrics({'epoch': 1, 'loss': '2' * 200}, 2)
    assert failed.value.filename == str(path)
    metrics.log_metrics({'epoch': 1, 'loss': '3'}, 2)
    assert [row['loss'][-1] for row in rows(tmp_path)] == ['1', '3']


def test_what_ends_one_of_several_processes_is_told():
    train_module._hush_lightning()
    launcher = logging.getLogger('lightning.fabric.strategies.launchers.subprocess_script')
    assert launcher.isEnabledFor(logging.INFO)


def test_a_gpu_s_error_while_state_is_written_is_no_file_s(tmp_path, monkeypatch):
    def fail(*_):
        raise RuntimeError('CUDA error: unspecified launch failure')
    monkeypatch.setattr(torch, 'save', fail)
    with pytest.raises(RuntimeError, match='launch failure'):
        callbacks.WholeFiles().save_checkpoint({}, tmp_path / 'last.ckpt')


def test_damaged_state_is_told(data, tmp_path):
    torch.save({'state': torch.zeros(1000)}, tmp_path / 'last.ckpt')
    with (tmp_path / 'last.ckpt').open('r+b') as file:
        file.truncate(2000)
    with pytest.raises(ValueError, match='last.ckpt, .* cannot be read .* damaged, delete it'):
        train(recipe(data), tmp_path, 'cpu')


def test_what_was_never_a_state_is_told_without_advice_to_run_it(data, tmp_path):
    (tmp_path / 'last.ckpt').write_bytes(b'?' * 1000)
    with pytest.raises(ValueError, match=r'last.ckpt, .* read \(UnpicklingError\); .* delete it'):
        train(recipe(data), tmp_path, 'cpu')


def test_an_accelerator_that_is_none_is_told(capsys):
    with pytest.raises(SystemExit):
        main(['train', '--accelerator', 'tpu'])
    assert "invalid choice: 'tpu'" in capsys.readouterr().err


@pytest.mark.skipif(torch.cuda.is_available(), reason='there is a GPU')
def test_device_that_is_not_there_is_told(capsys, tmp_path, data):
    assert main(['train', '--data', str(data), '--output', str(tmp_path / 'run'),
                 '--accelerator', 'gpu']) == 1
    assert capsys.readouterr().err.startswith('segnet train: --accelerator gpu')
    assert not (tmp_path / 'run').exists()


def test_state_is_loaded_without_running_code(data, tmp_path):
    class Trap:

        def __reduce__(self):
            return (open, (str(tmp_path / 'sprung'), 'w'))

    torch.save({'trap': Trap()}, tmp_path / 'last.ckpt')
    with pytest.raises(Exception, match='cannot be read .UnpicklingError'):
        train(recipe(data), tmp_path, 'cpu')
    assert not (tmp_path / 'sprung').exists()


def test_run_may_start_from_weights(data, tmp_path):
    first = train(recipe(data, phases=(Phase(1, (32, 64), (1, 1)),)), tmp_path / 'a', 'cpu')
    config = recipe(data, phases=(Phase(1, (32, 64), (1, 1)),), init=str(first), lr=0.0,
                    muon_lr=0.0)
    second = train(config, tmp_path / 'b', 'cpu')
    torch.testing.assert_close(weights_of(second)['classifier.weight'],
                               weights_of(first)['classifier.weight'], rtol=1e-3, atol=1e-4)
    first.unlink()  # resuming does not need it
    train(config, tmp_path / 'b', 'cpu')


def test_run_for_other_classes_keeps_all_but_the_classifier(data, tmp_path):
    short = (Phase(1, (32, 64), (1, 1)),)
    first = train(recipe(data, phases=short), tmp_path / 'a', 'cpu')
    second = train(recipe(data, phases=short, init=str(first), lr=0.0, muon_lr=0.0,
                          label_set=write_labels(tmp_path / 'more.yaml')), tmp_path / 'b', 'cpu')
    before, after = weights_of(first), weights_of(second)
    assert after['classifier.weight'].shape[0] == 12
    torch.testing.assert_close(after['decoder.4.0.conv.weight'], before['decoder.4.0.conv.weight'],
                               rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize('hold_out, told', [('', False), ('0001', True)])
def test_start_weights_that_have_seen_what_is_scored_are_told(data, tmp_path, caplog, hold_out,
                                                              told):
    first = train(recipe(data, phases=(Phase(1, (32, 64), (1, 1)),)), tmp_path / 'a', 'cpu')
    train(recipe(data, phases=(Phase(1, (32, 64), (1, 1)),), init=str(first), hold_out=hold_out,
                 batch_size=4), tmp_path / 'b', 'cpu')
    assert ("frames of 'train:0001' may be among those that the weights to start from were"
            in caplog.text) == told


def test_start_weights_must_be_of_the_same_network(data, tmp_path):
    first = train(recipe(data, phases=(Phase(1, (32, 64), (1, 1)),)), tmp_path / 'a', 'cpu')
    with pytest.raises(ValueError, match=r'segnet of width 0.0625, the recipe wants .*0.125'):
        train(recipe(data, init=str(first), width=0.125), tmp_path / 'b', 'cpu')


def test_no_devices_are_none(data, tmp_path):
    for devices in (-1, 0):
        with pytest.raises(ValueError, match=f'--devices {devices}: give at least 1'):
            train(recipe(data), tmp_path, 'cpu', devices=devices)


def test_every_step_takes_a_whole_batch(data):
    loaded = TrainingData(recipe(data, batch_size=3))
    loaded.trainer = SimpleNamespace(world_size=1, global_rank=0, num_devices=1)
    assert len(loaded.train_frames) == 8 and len(loaded.train_dataloader()) == 2


def test_too_few_frames_for_a_step(data, tmp_path):
    with pytest.raises(ValueError, match='an epoch of 8 crops does not fill one step: batch_size'):
        train(recipe(data, batch_size=9), tmp_path, 'cpu')


def test_sample_drive_is_refused_for_other_classes(data, tmp_path):
    labels = write_labels(tmp_path / 'own.yaml')
    with pytest.raises(ValueError, match="not those of 'own'; set sample_drive_frames to 0"):
        TrainingData(recipe(data, label_set=labels, sample_drive_frames=3))


def test_average_follows_at_once_and_slows_down():
    average = average_weights(0.9)._kwargs['multi_avg_fn']
    for count, expected in ((0, 0.9), (8, 0.5), (10_000, 0.1)):
        old, new = [torch.zeros(2), torch.zeros(3, 1)], [torch.ones(2), torch.ones(3, 1)]
        average(old, new, torch.tensor(count))
        for tensor in old:
            assert tensor.flatten().tolist() == pytest.approx([expected] * len(tensor))
    batches = [torch.tensor(3)]
    average(batches, [torch.tensor(7)], torch.tensor(5))
    assert batches == [7], 'what counts is counted, not averaged'


def test_curves_show_each_epoch_once_and_each_class_in_its_colour(tmp_path):
    path = tmp_path / 'metrics.csv'
    # Killed in epoch 3 and resumed, so the old row is there too. No frame shows a sign.
    path.write_text('epoch,step,loss,val_miou,val_iou_road,val_iou_sign_symbol\n'
                    '0,9,2.5,,,\n1,19,,0.25,0.75,\n1,19,2.0,,,\n2,29,9.0,,,\n2,29,1.5,,,\n'
                    '3,39,,0.5,0.875,\n')
    above, below = curves_figure(path, CAMVID).axes
    assert [line.get_xydata().tolist() for line in above.lines] == [[[1, 2.5], [2, 2], [3, 1.5]]]
    lines = {line.get_label(): line for line in below.lines}
    assert list(lines) == [*CAMVID.class_names, 'mean']
    assert lines['mean'].get_xydata().tolist() == [[2, 25], [4, 50]]
    assert lines['road'].get_xydata().tolist() == [[2, 75], [4, 87.5]]
    assert lines['sign_symbol'].get_xydata().tolist() == []
    assert lines['road'].get_color() == pytest.approx((128 / 255, 64 / 255, 128 / 255))


def test_a_picture_that_fails_does_not_end_the_run(data, tmp_path, monkeypatch, caplog):
    def fail(*_):
        raise OSError('No space left on device')
    monkeypatch.setattr(callbacks, 'save_curves', fail)
    train(recipe(data), tmp_path, 'cpu')
    assert 'could not draw the curves: No space left' in caplog.text


def test_curves_take_a_long_legend(tmp_path):
    # Names that matplotlib would omit, or parse as formulas.
    names = ('_background_', '$x', 'a$_$b', *(f'class_{i}' for i in range(147)))
    many = LabelSet('many', names, tuple((i, 255 - i, 90) for i in range(150)))
    (tmp_path / 'metrics.csv').write_text('epoch,step,loss,val_miou\n0,9,2.5,\n0,9,,0.25\n')
    picture = cv2.imread(str(save_curves(tmp_path / 'metrics.csv', many)))
    assert picture.shape == (770, 1782, 3)
    legend = curves_figure(tmp_path / 'metrics.csv', many).legends[0]
    assert [text.get_text() for text in legend.get_texts()] == [*names, 'mean']
    assert not list(tmp_path.glob('*.part'))


def test_two_processes_train_together(data, tmp_path):
    script = tmp_path / 'segnet.py'
    script.write_text('\n'.join([
        'import os, sys, torch',
        'from segnet_ros.tools.cli import main',
        'from segnet_ros.training import callbacks, module, train',
        'torch.set_num_threads(1)',
        'train.computes_in_bfloat16 = lambda device: False  # scores are compared below',
        'module.SegmentationModule.on_train_epoch_end = lambda module: torch.save(',
        f'    module.network.classifier.weight.detach(), "{tmp_path}/" + os.environ["RANK"])',
        'scores = callbacks.scores',
        'def counted(matrix):',
        f'    open("{tmp_path}/pixels", "w").write(str(int(matrix.sum())))',
        '    return scores(matrix)',
        'callbacks.scores = counted',
        'sys.exit(main())']))
    done = subprocess.run(
        [sys.executable, '-m', 'torch.distributed.run', '--standalone', '--nproc-per-node', '2',
         str(script), 'train', '--data', str(data), '--output', str(tmp_path / 'run'),
         '--accelerator', 'cpu', '--epochs', '2', '--set', 'width=0.0625',
         '--set', 'batch_size=2', '--set', f'input_size={list(SIZE)}',
         '--set', 'val_split=val:0003_0+val:0003_1+val:0003_2'],
        cwd=ROOT, env={**os.environ, 'OMP_NUM_THREADS': '1', 'PYTHONPATH': ROOT},
        capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    assert 'arning' not in done.stderr and 'recommended' not in done.stderr
    assert done.stdout.count('weights: ') == 1
    # Four frames a process, two at a time: two steps an epoch. One process would take four.
    assert [(r['epoch'], r['step']) for r in rows(tmp_path / 'run') if r['loss']] == [
        ('0', '1'), ('1', '3')]
    first, second = (torch.load(tmp_path / rank, weights_only=True) for rank in '01')
    assert torch.equal(first, second), 'each process has learned for itself'
    weights = tmp_path / 'run' / 'weights.safetensors'
    scores = load_checkpoint(weights)[1].scores
    assert scores['epoch'] == 2
    # Three frames for two processes: neither scores one that the other has scored.
    labelled = 3 * (SIZE[0] - 2) * SIZE[1]
    assert int((tmp_path / 'pixels').read_text()) == labelled
    alone = evaluate(weights, data, 'val:0003_0+val:0003_1+val:0003_2', precision='float32').result
    assert scores['val']['miou'] == pytest.approx(alone['miou'], abs=1e-3)


def module_of_a_run(config, steps):
    info = ModelInfo(CAMVID, config.architecture, config.width)
    module = SegmentationModule(config, info, torch.ones(11))
    module.trainer = SimpleNamespace(estimated_stepping_batches=steps)
    return module


@pytest.mark.parametrize('architecture, convolutions', [('segnet', 25), ('pspnet', 26)])
def test_muon_takes_the_convolutions_and_adamw_the_rest(data, architecture, convolutions):
    module = module_of_a_run(recipe(data, architecture=architecture), 10)
    groups = module.configure_optimizers()['optimizer'].param_groups
    names = {id(p): n for n, p in module.named_parameters()}
    grouped = [[names[id(p)] for p in group['params']] for group in groups]
    assert sorted(sum(grouped, [])) == sorted(names.values())
    assert [group['use_muon'] for group in groups] == [True, False, False]
    muon, heads, norms = grouped
    assert all(n.endswith('conv.weight') for n in muon) and len(muon) == convolutions
    assert {n.split('.')[-2] for n in norms} == {'bn'} and groups[2]['weight_decay'] == 0
    assert {n.split('.')[0] for n in heads} == {'aux_heads', 'network'}


def test_the_recipe_s_numbers_reach_the_run(data, tmp_path, monkeypatch):
    config = recipe(data, gradient_clip=0.7, ema_decay=0.4, weight_decay=0.03,
                    class_weight_offset=1.2, val_every=2)
    fitted = []
    monkeypatch.setattr(lightning.Trainer, 'fit', lambda trainer, module, *_, **__: fitted.append(
        (trainer, module)))
    train(config, tmp_path, 'cpu')
    [(trainer, module)] = fitted
    assert trainer.gradient_clip_val == 0.7 and trainer.check_val_every_n_epoch == 2
    [averaging] = [c for c in trainer.callbacks if hasattr(c, '_average_model')]
    old = [torch.zeros(1)]
    averaging._kwargs['multi_avg_fn'](old, [torch.ones(1)], torch.tensor(10_000))
    assert old[0].item() == pytest.approx(1 - 0.4)
    shares = TrainingData(config).shares
    torch.testing.assert_close(module.class_weights, class_weights(shares, 1.2))
    assert len({round(w, 4) for w in module.class_weights.tolist()}) > 5
    module.trainer = SimpleNamespace(estimated_stepping_batches=10)
    groups = module.configure_optimizers()['optimizer'].param_groups
    assert [group['weight_decay'] for group in groups] == [0.03, 0.03, 0]


@pytest.mark.parametrize('weight', [0.25, 1.0])
def test_auxiliary_losses_weigh_what_the_recipe_says(data, weight):
    images = torch.randint(0, 256, (2, 3, 32, 32), dtype=torch.uint8)
    label_maps = torch.randint(0, 11, (2, 32, 32), dtype=torch.uint8)
    module = module_of_a_run(recipe(data, aux_weight=weight), 10).eval()
    logged = {}
    module.log = lambda name, value, **_: logged.update({name: value})
    loss = module.training_step((images, label_maps), 0)
    *features, _ = module.network.forward_stages(module._normalised(images))
    assert len(module.aux_heads) == 5  # the last stage of the decoder needs none
    auxiliary = []
    for head, feature in zip(module.aux_heads, features, strict=False):
        step = 32 // feature.shape[-1]
        auxiliary.append(functional.cross_entropy(
            head(feature), label_maps[:, ::step, ::step].long()))
    assert (loss - logged['loss']).item() == pytest.approx(
        weight * torch.stack(auxiliary).mean().item(), rel=1e-4)


@pytest.mark.parametrize(('final_lr', 'half_way'), [(0.0, 0.5), (0.2, 0.6), (1.0, 1.0)])
def test_the_rates_rise_and_fall_to_the_final_share_of_their_peak(data, final_lr, half_way):
    config = recipe(data, final_lr=final_lr, warmup_steps=4, lr=0.1, muon_lr=0.5)
    configured = module_of_a_run(config, 24).configure_optimizers()
    schedule = configured['lr_scheduler']['scheduler']
    rates = [schedule.get_last_lr()]
    for _ in range(24):
        configured['optimizer'].step()
        schedule.step()
        rates.append(schedule.get_last_lr())
    shares = torch.tensor(rates) / torch.tensor([0.5, 0.1, 0.1])
    expected = {0: 0.25, 3: 1.0, 4: 1.0, 14: half_way, 24: final_lr}
    for step, share in expected.items():
        torch.testing.assert_close(shares[step], torch.full((3,), share))


@pytest.mark.parametrize('has_bfloat16', [True, False])
def test_muon_steps_in_the_precision_of_the_device(monkeypatch, has_bfloat16):
    monkeypatch.setattr(muon, 'computes_in_bfloat16', lambda device: has_bfloat16)
    updates = [torch.randn(8, 4, 3, 3), torch.randn(8, 4, 3, 3)]
    parameters = [torch.nn.Parameter(torch.zeros_like(update)) for update in updates]
    optimizer = muon.DeviceMuon([{'params': parameters, 'use_muon': True, 'lr': 1.0,
                                  'momentum': 0.0, 'nesterov': False, 'weight_decay': 0.0}])
    steps = optimizer._orthogonalize(optimizer.param_groups[0], updates)
    dtype = torch.bfloat16 if has_bfloat16 else torch.float32
    assert [step.dtype for step in steps] == [dtype, dtype]
    for parameter, update in zip(parameters, updates, strict=True):
        parameter.grad = update.clone()
    optimizer.step()
    for parameter, update in zip(parameters, updates, strict=True):
        # All singular directions of the update count about equally, and none is rotated.
        u, _, v = torch.linalg.svd(update.flatten(1), full_matrices=False)
        along = -u.T @ parameter.detach().flatten(1) @ v.T
        scale = along.diagonal()
        assert scale.min() > 0 and scale.max() / scale.min() < 2
        assert (along - scale.diag()).abs().max() < 0.1 * scale.max()


@pytest.mark.skipif(not torch.cuda.is_available(), reason='needs a CUDA device')
@pytest.mark.parametrize('architecture', ['segnet', 'pspnet'])
def test_a_gpu_learns_and_goes_on(data, tmp_path, architecture):
    config = recipe(data, architecture=architecture, phases=(Phase(4, (32, 64), (0.8, 1.2)),))
    train(config, tmp_path / 'whole', 'gpu', devices=1)
    with pytest.MonkeyPatch.context() as patch, pytest.raises(Killed):
        patch.setattr(train_module, 'EpochOrder', KilledInEpoch2)
        train(config, tmp_path / 'cut', 'gpu', devices=1)
    weights = train(config, tmp_path / 'cut', 'gpu', devices=1)
    assert losses(tmp_path / 'cut') == pytest.approx(losses(tmp_path / 'whole'), rel=0.1)
    assert all(t.isfinite().all() for t in weights_of(weights).values())
    assert losses(tmp_path / 'whole')[3] < losses(tmp_path / 'whole')[0]


def batch_of(seed, shape=(4, 64, 96)):
    """Return random images, (N, 3, h, w), and label maps, (N, h, w)."""
    generator = torch.Generator().manual_seed(seed)
    batch, *size = shape
    return tuple(torch.randint(0, 11, of, dtype=torch.uint8, generator=generator)
                 for of in ((batch, 3, *size), shape))


def gradients(module, step, batch):
    """Return the loss of a batch and the gradients of all weights."""
    module.zero_grad()
    loss = step(*batch)[1]
    (loss * 1024).backward()  # as gradient scaling does for float16
    return loss.item(), [parameter.grad.clone() for parameter in module.parameters()]


@pytest.mark.skipif(not torch.cuda.is_available(), reason='needs a CUDA device')
@pytest.mark.parametrize('dtype, aux_weight', [
    (torch.bfloat16, 0.4), (torch.bfloat16, 0.0), (torch.float16, 0.4)])
def test_a_graph_of_a_step_is_the_step_on_cuda(data, dtype, aux_weight):
    info = ModelInfo(CAMVID, width=1 / 16)
    module = SegmentationModule(recipe(data, aux_weight=aux_weight), info, torch.ones(11)).cuda()
    before = [buffer.clone() for buffer in module.buffers()]
    shapes = ((4, 64, 96), (4, 32, 64))
    with torch.autocast('cuda', dtype, cache_enabled=False):
        graphs = {shape: training_graph(module, module.losses,
                                        tuple(t.cuda() for t in batch_of(0, shape)))
                  for shape in shapes}
        assert all(map(torch.equal, module.buffers(), before))
        for seed, shape in enumerate((*shapes, *shapes)):
            batch = [t.cuda() for t in batch_of(seed, shape)]
            loss, expected = gradients(module, module.losses, batch)
            graph_loss, grads = gradients(module, graphs[shape], batch)
            assert graph_loss == pytest.approx(loss, rel=1e-3)
            for grad, value in zip(grads, expected, strict=True):
                assert (grad - value).norm() < 0.1 * value.norm() + 1e-3
            for parameter in module.parameters():
                parameter.data.add_(parameter.grad, alpha=-1e-2 / 1024)


@pytest.fixture
def capturing(data, monkeypatch):
    """Return a module that treats its CPU as a GPU, and what it made torch capture."""
    phases = tuple(Phase(1, crop, (0.8, 1.2)) for crop in ((32, 64), (64, 96), (32, 64)))
    module = SegmentationModule(recipe(data, phases=phases), ModelInfo(CAMVID, width=1 / 16),
                                torch.ones(11))
    captured = []

    def capture(step, arguments):
        for _ in range(3):  # torch's warm-up
            outputs = step(*arguments)
        captured.append((arguments[1].shape, outputs[1].dtype, torch.is_autocast_enabled('cpu')))
        return lambda *batch: (captured.append(batch[1].shape), step(*batch))[1]

    monkeypatch.setattr(torch.cuda, 'make_graphed_callables', capture)
    monkeypatch.setattr(module, '_on_one_gpu', lambda: True)
    monkeypatch.setattr(module, 'log', lambda *args, **kwargs: None)
    module.trainer = SimpleNamespace(world_size=1, precision_plugin=SimpleNamespace(
        forward_context=lambda: torch.autocast('cpu', torch.bfloat16)))
    return module, captured


def test_a_step_is_captured_for_each_size_of_crop(capturing):
    module, captured = capturing
    before = [buffer.clone() for buffer in module.buffers()]
    module.on_fit_start()
    # Captured under training's autocast; the capture runs leave the buffers unchanged.
    assert captured == [((4, 32, 64), torch.float32, True), ((4, 64, 96), torch.float32, True)]
    assert all(map(torch.equal, module.buffers(), before))
    expected = module.losses(*batch_of(0))[1]
    assert module.training_step(batch_of(0), 0).item() == expected.item()
    assert captured[2:] == [(4, 64, 96)]
    module.training_step(batch_of(0, (3, 64, 96)), 0)  # a size that was not captured
    assert len(captured) == 3
    module.teardown('fit')
    module.training_step(batch_of(0), 0)
    assert len(captured) == 3


def test_a_gpu_without_memory_for_graphs_trains_without(capturing, monkeypatch, caplog):
    module, captured = capturing
    fake = torch.cuda.make_graphed_callables

    def capture(step, arguments):
        if captured:
            fake(step, arguments)
            raise torch.OutOfMemoryError('CUDA out of memory')
        return fake(step, arguments)

    monkeypatch.setattr(torch.cuda, 'make_graphed_callables', capture)
    before = [buffer.clone() for buffer in module.buffers()]
    module.on_fit_start()
    assert 'training without CUDA graphs, which is slower: CUDA out of memory' in caplog.text
    assert all(map(torch.equal, module.buffers(), before)) and gc.isenabled()
    module.training_step(batch_of(0, (4, 32, 64)), 0)
    assert len(captured) == 2


def test_only_a_single_gpu_captures(data):
    module = SegmentationModule(recipe(data), ModelInfo(CAMVID, width=1 / 16), torch.ones(11))
    module.trainer = SimpleNamespace(world_size=1)
    assert not module._on_one_gpu()  # a CPU
    for world_size, captures in ((1, True), (2, False)):
        stand_in = SimpleNamespace(device=torch.device('cuda', 0),
                                   trainer=SimpleNamespace(world_size=world_size))
        assert SegmentationModule._on_one_gpu(stand_in) is captures


def test_passes_make_an_epoch_longer(data):
    once, thrice = (TrainingData(recipe(data, passes=n, sample_drive_frames=2)) for n in (1, 3))
    for training_data in (once, thrice):
        np.testing.assert_array_equal(training_data.shares, class_shares(once.train_frames, 11))
    lengths = []
    for training_data in (once, thrice):
        training_data.trainer = SimpleNamespace(world_size=1, global_rank=0, num_devices=1)
        lengths.append(len(training_data.train_dataloader().dataset))
    assert lengths == [8 + 2, 24 + 2]
    frames = TrainingFrames(thrice.train_frames, thrice.shares, thrice.config)
    (one, _), (other, _) = frames[0, 1], frames[0, 9]  # the same frame in two passes
    assert not torch.equal(one, other)
