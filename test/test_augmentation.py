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

"""Check random crops, colour jitter and the pasting of classes."""

import cv2
import numpy as np
import pytest
from training_fixtures import checkerboard

from segnet_ros.labels import VOID
from segnet_ros.training.augmentation import paste_classes, random_crop, recolor
from segnet_ros.training.config import Phase


@pytest.mark.parametrize('rotate', [0.0, 30.0])
@pytest.mark.parametrize('seed', range(8))
def test_crop_of_image_and_labels_is_the_same(seed, rotate):
    image, label_map = random_crop(*checkerboard(), Phase(1, (64, 96), (0.6, 1.6)),
                                   np.random.default_rng(seed), rotate)
    assert image.shape == (64, 96, 3) and label_map.shape == (64, 96)
    assert set(np.unique(label_map)) <= {*range(11), VOID}
    # Between two squares the image is interpolated; the labels are not. Nor beside the frame's
    # edge, which may be just outside the crop.
    inside = cv2.erode(label_map, np.ones((5, 5))) == cv2.dilate(label_map, np.ones((5, 5)))
    inside &= label_map != VOID
    inside[[0, -1]] = inside[:, [0, -1]] = False
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


def test_half_of_the_crops_are_rotated_by_up_to_the_angle():
    frame = np.zeros((200, 300, 3), np.uint8), np.zeros((200, 300), np.uint8)
    frame[1][100:] = 1
    angles = []
    for seed in range(80):
        label_map = random_crop(*frame, Phase(1, (200, 300), (1.0, 1.0)),
                                np.random.default_rng(seed), 12.0)[1]
        left, right = ((label_map[:, column] == 1).argmax() for column in (50, 250))
        angles.append(np.degrees(np.arctan2(int(right) - int(left), 200)))
        assert abs((int(left) + int(right)) / 2 - 100) <= 1  # about the centre
    assert 25 < np.count_nonzero(angles) < 55
    assert -12.5 < min(angles) < -9 and 9 < max(angles) < 12.5


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


def test_pasted_classes_bring_image_and_labels():
    image, label_map = checkerboard()
    other = np.full_like(image, 7), np.full_like(label_map, 3)
    other[1][:40], other[1][70:] = 9, VOID
    rare = np.arange(256) == 9
    pasted_image, pasted_labels = paste_classes((image, label_map), other, rare)
    assert (pasted_image[:40] == 7).all() and (pasted_labels[:40] == 9).all()
    assert np.array_equal(pasted_image[40:], image[40:])
    assert np.array_equal(pasted_labels[40:], label_map[40:])
