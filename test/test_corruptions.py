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

"""Check what night, rain, JPEG and random degradation do to a picture."""

import cv2
import numpy as np
import pytest
from training_fixtures import checkerboard

from segnet_ros.training import corruptions
from segnet_ros.training.corruptions import degrade


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
