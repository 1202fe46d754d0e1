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

"""Random scale, crop, flip and rotation in one warp; pasting of classes; colour jitter."""

import cv2
import numpy as np

from segnet_ros.labels import VOID
from segnet_ros.training.config import Phase

LabelledFrame = tuple[np.ndarray, np.ndarray]  # image (H, W, 3) uint8 RGB, (H, W) uint8 ids

# What lies outside of the frame: mid grey in the image, void in the label map.
OUTSIDE = (124, 116, 104)


def random_crop(image: np.ndarray, label_map: np.ndarray, phase: Phase,
                rng: np.random.Generator, rotate: float = 0.0) -> LabelledFrame:
    """
    Return a random crop of a randomly scaled, flipped and rotated frame.

    :param image: (H, W, 3) uint8 RGB.
    :param label_map: (H, W) uint8 class ids, VOID where there is none.
    :param rotate: largest angle in degrees, either way; half of the crops are not rotated.
    :return: (h, w, 3) uint8 RGB and (h, w) uint8 of the phase's crop size.
    """
    height, width = phase.crop
    scale = np.exp(rng.uniform(*np.log(phase.scale)))
    matrix = _crop_matrix(label_map.shape, phase.crop, scale, rotate, rng)
    image = cv2.warpAffine(image, matrix, (width, height), flags=cv2.INTER_LINEAR,
                           borderMode=cv2.BORDER_CONSTANT, borderValue=OUTSIDE)
    label_map = cv2.warpAffine(label_map, matrix, (width, height), flags=cv2.INTER_NEAREST,
                               borderMode=cv2.BORDER_CONSTANT, borderValue=VOID)
    return image, label_map


def paste_classes(crop: LabelledFrame, other: LabelledFrame, classes: np.ndarray) -> LabelledFrame:
    """
    Return the crop with another crop's pixels of some classes pasted over it, at the same place.

    Street scenes are alike enough that a pasted pole or pedestrian stands in a plausible place.
    Rare classes are thus seen more often (ClassMix, arXiv 2007.07936; copy-paste, arXiv
    2012.07177).

    :param crop: (h, w, 3) uint8 RGB and (h, w) uint8 class ids.
    :param other: the same for another frame.
    :param classes: (256,) bool, true at the ids to paste.
    """
    pasted = classes[other[1]]
    return (np.where(pasted[..., None], other[0], crop[0]),
            np.where(pasted, other[1], crop[1]))


def _crop_matrix(frame: tuple[int, ...], crop: tuple[int, int], scale: float, rotate: float,
                 rng: np.random.Generator) -> np.ndarray:
    """Return the 2x3 matrix that takes frame pixels (x, y) to crop pixels."""
    # A crop larger than the scaled frame holds all of the frame, at a random place.
    slack_y, slack_x = (f * scale - c for f, c in zip(frame, crop, strict=True))
    top, left = rng.uniform(0, 1, 2) * (slack_y, slack_x)
    flip = rng.random() < 0.5
    x_scale = -scale if flip else scale
    x_shift = (frame[1] - 1) * scale - left if flip else -left
    matrix = np.array([[x_scale, 0, x_shift], [0, scale, -top], [0, 0, 1]])
    if rotate and rng.random() < 0.5:
        centre = (crop[1] - 1) / 2, (crop[0] - 1) / 2
        matrix = cv2.getRotationMatrix2D(centre, rng.uniform(-rotate, rotate), 1.0) @ matrix
    return matrix[:2].astype(np.float32)


def recolor(image: np.ndarray, jitter: float, rng: np.random.Generator) -> np.ndarray:
    """
    Change brightness, contrast, saturation and white balance at random.

    :param image: (H, W, 3) uint8 RGB.
    :param jitter: largest change, as a share; white balance changes by up to a quarter of it.
    """
    if not jitter:
        return image
    brightness, contrast, saturation = rng.uniform(1 - jitter, 1 + jitter, 3)
    balance = rng.uniform(1 - jitter / 4, 1 + jitter / 4, 3) * brightness
    # One 3x4 colour matrix does it all: away from grey by saturation, away from the mean by
    # contrast, then each channel's gain.
    grey = np.tile([0.299, 0.587, 0.114], (3, 1))
    mix = (saturation * np.eye(3) + (1 - saturation) * grey) * contrast
    offset = (1 - contrast) * image[::8, ::8].mean()
    matrix = np.column_stack([mix, np.full(3, offset)]) * balance[:, None]
    return cv2.transform(image, matrix.astype(np.float32))
