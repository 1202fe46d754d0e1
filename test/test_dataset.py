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

"""Check which frames are read, and which crops of them each epoch and each process gets."""

from dataclasses import replace
from pathlib import Path
import re
import shutil
import struct
from types import SimpleNamespace
import zlib

import cv2
import numpy as np
import pytest
import torch
from training_fixtures import recipe, SIZE

from segnet_ros.annotations import read_annotation
from segnet_ros.labels import LabelSet, load_label_set, VOID
from segnet_ros.sample_drive.drive import SampleDrive
from segnet_ros.segmenter import fit_input_size
from segnet_ros.tools.cli import main
from segnet_ros.training import dataset
from segnet_ros.training.config import Phase, TrainConfig
from segnet_ros.training.dataset import (
    EpochOrder, frame_paths, read_frame, read_frames, ScoringFrames, TrainingFrames)
from segnet_ros.training.train import TrainingData

CAMVID = load_label_set('camvid11')


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


def test_what_macos_leaves_beside_frames_is_none(scratch, caplog):
    paths = frame_paths(scratch, 'train')
    for path in paths[0]:
        (path.parent / f'._{path.name}').write_bytes(b'an icon')
    assert frame_paths(scratch, 'train') == paths and not caplog.text


def test_masks_of_images_that_are_not_read_are_told(scratch, caplog):
    frame_paths(scratch, 'train')
    frame_paths(scratch, 'train:0001')
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


def test_frames_scaled_down_are_averages_and_their_labels_those_at_the_centres(data):
    whole, labels = read_frame(*frame_paths(data, 'val')[0], CAMVID)
    image, label_map = read_frames(frame_paths(data, 'val'), CAMVID, (16, 24), 'frames')[0]
    assert np.abs(image - whole.reshape(16, 4, 24, 4, 3).mean((1, 3))).max() <= 0.5
    assert np.array_equal(label_map, labels[2::4, 2::4])


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


def test_crops_are_rotated_if_the_recipe_says_so(data):
    frames = read_frames(frame_paths(data, 'train'), CAMVID, SIZE, 'frames')
    config = TrainConfig(phases=(Phase(1, (32, 32), (0.8, 1.2)),))
    plain, rotated = (TrainingFrames(frames, np.zeros(11), replace(config, rotate=angle))
                      for angle in (0.0, 30.0))
    same = [torch.equal(plain[epoch, index][1], rotated[epoch, index][1])
            for epoch in range(10) for index in range(len(frames))]
    assert 0.2 < np.mean(same) < 0.8


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


def test_crops_are_recoloured_as_the_recipe_says(data):
    frames = read_frames(frame_paths(data, 'val'), CAMVID, SIZE, 'frames')
    (plain, label_map), (other, other_map) = (
        TrainingFrames(frames, np.zeros(11), recipe(data, jitter=jitter, degrade=0.0))[0, 0]
        for jitter in (0.0, 0.2))
    assert torch.equal(label_map, other_map) and not torch.equal(plain, other)


def test_every_epoch_has_the_crops_of_its_phase(data):
    phases = (Phase(2, (32, 64), (0.8, 1.2)), Phase(1, SIZE, (1.0, 1.0)))
    crops = TrainingFrames(read_frames(frame_paths(data, 'val'), CAMVID, SIZE, 'frames'),
                           np.zeros(11), recipe(data, phases=phases))
    assert [crops[epoch, 0][1].shape for epoch in range(3)] == [(32, 64), (32, 64), SIZE]


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


def test_rendered_frames_have_the_size_of_the_real_ones_and_are_of_any_drive(data, monkeypatch):
    frames, shown = read_frames(frame_paths(data, 'val'), CAMVID, SIZE, 'frames'), []
    monkeypatch.setattr(dataset, 'SampleDrive', lambda seed, size: SimpleNamespace(
        frame=lambda index: (shown.append((seed, index, size)), frames[0])[1]))
    crops = TrainingFrames(frames, np.zeros(11), recipe(data, sample_drive_frames=4, paste=0.0))
    for epoch in range(2):
        for index in range(4, 8):
            crops[epoch, index]
    seeds, indices, sizes = map(set, zip(*shown, strict=True))
    assert len(seeds) == 8 and len(indices) > 4 and sizes == {SIZE}


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


def test_a_frame_is_cropped_elsewhere_in_every_epoch(data):
    frames = read_frames(frame_paths(data, 'train'), CAMVID, SIZE, 'frames')
    config = recipe(data, phases=(Phase(4, (32, 32), (0.8, 1.2)),), jitter=0.0, degrade=0.0,
                    paste=0.0)
    crops = TrainingFrames(frames, np.ones(11) / 11, config)
    assert len({crops[epoch, 0][1].numpy().tobytes() for epoch in range(4)}) == 4


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


def test_lightning_leaves_the_order_as_it_is():
    """With several processes, it would wrap any other sampler and shuffle again."""
    assert isinstance(EpochOrder(6, 0, 0), torch.utils.data.DistributedSampler)
