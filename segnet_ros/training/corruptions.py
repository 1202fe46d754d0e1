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
Image corruptions: of fixed strength for scoring, of random strength for training.

Each corruption takes an image (H, W, 3) uint8 RGB, its label map (H, W) uint8 and a random
generator, and returns both; the same generator state gives the same picture.
"""

import cv2
import numpy as np

from segnet_ros.frames import decode_image, encode_image
from segnet_ros.labels import VOID
from segnet_ros.training.augmentation import LabelledFrame, OUTSIDE


def night(image: np.ndarray, label_map: np.ndarray, rng: np.random.Generator) -> LabelledFrame:
    """Darken to a sixth, tint blue, add the noise of a high gain."""
    linear = (image / np.float32(255)) ** 2.2
    dark = (linear / 6 * np.array([0.8, 0.9, 1.2], np.float32)) ** (1 / 2.2)
    return _add_noise(dark * 255, 8, rng), label_map


def blur(image: np.ndarray, label_map: np.ndarray, rng: np.random.Generator) -> LabelledFrame:
    """Blur as out of focus: Gaussian, standard deviation 0.6% of the height (2.2 px at 360)."""
    return cv2.GaussianBlur(image, (0, 0), 0.006 * image.shape[0]), label_map


def rain(image: np.ndarray, label_map: np.ndarray, rng: np.random.Generator) -> LabelledFrame:
    """Draw slanted bright streaks, one for every 400 pixels, and reduce contrast."""
    height, width = label_map.shape
    streaks = np.zeros((height, width), np.uint8)
    for across, down, long in rng.random((height * width // 400, 3)):
        x, y, length = across * width, down * height, (0.02 + 0.04 * long) * height
        cv2.line(streaks, (int(x), int(y)), (int(x + 0.25 * length), int(y + length)), 255, 1,
                 cv2.LINE_AA)
    veil = cv2.GaussianBlur(streaks, (3, 3), 0)[..., None] / np.float32(255) * 0.55
    grey = image * np.float32(0.75) + 0.25 * image.mean()
    return (grey * (1 - veil) + 225 * veil).astype(np.uint8), label_map


def jpeg_20(image: np.ndarray, label_map: np.ndarray, rng: np.random.Generator) -> LabelledFrame:
    """Compress with JPEG at quality 20."""
    return _compress(image, 20), label_map


def tilt_15(image: np.ndarray, label_map: np.ndarray, rng: np.random.Generator) -> LabelledFrame:
    """Tilt by 15 degrees to the left or right; what lies outside the image is grey and void."""
    height, width = label_map.shape
    angle = 15 if rng.random() < 0.5 else -15
    matrix = cv2.getRotationMatrix2D(((width - 1) / 2, (height - 1) / 2), angle, 1.0)
    return (cv2.warpAffine(image, matrix, (width, height), flags=cv2.INTER_LINEAR,
                           borderValue=OUTSIDE),
            cv2.warpAffine(label_map, matrix, (width, height), flags=cv2.INTER_NEAREST,
                           borderValue=VOID))


CORRUPTIONS = {'night': night, 'blur': blur, 'rain': rain, 'jpeg 20': jpeg_20,
               'tilt 15 degrees': tilt_15}


def degrade(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """
    Degrade a picture for training, at random: dark and noisy, blurred, hazy or JPEG-compressed.

    :param image: (H, W, 3) uint8 RGB.
    """
    ways = (_any_dark, _any_blur, _any_haze, _any_jpeg)
    return ways[rng.integers(len(ways))](image, rng)


def _any_dark(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    light = np.exp(rng.uniform(*np.log([1 / 10, 1 / 2]))) * rng.uniform(0.8, 1.2, 3)
    # A camera's values are the light to the power of 1 / 2.2.
    return _add_noise(image * light ** (1 / 2.2), rng.uniform(2, 10), rng)


def _any_blur(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    # Different across and down: defocus and a little motion.
    across, down = rng.uniform(0.3, 3, 2)
    return cv2.GaussianBlur(image, (0, 0), across, sigmaY=down)


def _any_haze(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    share = rng.uniform(0.1, 0.5)
    hazy = image * (1 - share) + share * rng.uniform(120, 255)
    return _add_noise(hazy, rng.uniform(0, 12), rng)


def _any_jpeg(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return _compress(image, int(rng.integers(10, 50)))


def _compress(image: np.ndarray, quality: int) -> np.ndarray:
    return decode_image(encode_image(image, 'jpeg', quality))


def _add_noise(values: np.ndarray, deviation: float, rng: np.random.Generator) -> np.ndarray:
    noise = rng.standard_normal(values.shape, np.float32) * np.float32(deviation)
    return np.clip(values + noise, 0, 255).astype(np.uint8)
