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
Render a synthetic street drive: frames and exact labels, with nothing to download.

The pictures are drawn, not photographed: they train and test a network along with real frames,
but do not replace them. See scene.py for what is in the street.
"""

import cv2
import numpy as np

from segnet_ros.sample_drive import textures
from segnet_ros.sample_drive.paint import BUILDING, Canvas, SKY, TREE
from segnet_ros.sample_drive.scene import Scene, SPEED
from segnet_ros.sample_drive.view import View

SAMPLE_FRAMES = 150  # of a drive that is used as a recording: ten seconds
FAR_GROUND = 22.0  # metres beyond which the ground's fine grain would only flicker
NOISE_MARGIN = 32


class SampleDrive:
    """
    Render the frames of one synthetic drive.

    `seed` picks street, weather and traffic, `size` is (height, width) in pixels.
    """

    rate = 15.0  # frames a second

    def __init__(self, seed: int = 0, size: tuple[int, int] = (360, 480)):
        self.seed = seed
        self.size = size
        self._scene = Scene(seed)
        self._soft_ground = cv2.GaussianBlur(self._scene.ground, (9, 41), 0)
        rng = np.random.default_rng([seed % 2**32, 6])
        grainy = (size[0] + NOISE_MARGIN, size[1] + NOISE_MARGIN, 3)
        self._noise = (rng.standard_normal(grainy) * rng.uniform(1.5, 5)).astype(np.int16)
        self._skyline = self._make_skyline(rng)
        ramp = np.linspace(0, 1, 256)[:, None] ** rng.uniform(0.85, 1.15)
        tone = 255 * ramp * self._scene.light.exposure * np.array(self._scene.light.tint)
        self._tone = np.clip(tone, 0, 255).astype(np.uint8)[None]

    def frame(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        """
        Return frame `index`: its image and its labels.

        The image is (height, width, 3) uint8 RGB, the labels (height, width) uint8 class ids;
        both depend only on the constructor's arguments and `index`.
        """
        time = index / self.rate
        view = View(self.size, SPEED * time, self._scene.bend, self._scene.horizon)
        light = self._scene.light
        canvas = Canvas(np.empty((*self.size, 3), np.uint8), np.empty(self.size, np.uint8),
                        light.sky_low, light.clear_range)
        self._draw_sky(canvas, view)
        self._draw_ground(canvas, view)
        for thing in self._scene.things(time, view.z):
            thing.draw(canvas, view, light)
        return self._expose(canvas.image, index), canvas.labels

    def _draw_sky(self, canvas, view):
        """Fill everything above the horizon: sky, clouds and the far skyline."""
        rows = int(view.horizon) + 1
        light = self._scene.light
        height = np.linspace(1, 0, rows, dtype=np.float32)[:, None]
        turn = view.heading() * textures.CLOUDS[1] / 3
        left = int(150 + turn)
        cover = self._scene.clouds[:, left:left + 360]
        cover = cv2.resize(cover, (view.columns, rows))
        clear, veil = 1 - cover, 0.82 + 0.18 * cover
        for channel in range(3):  # one by one: NumPy is slow if the last axis is short
            low, high = np.float32(light.sky_low[channel]), np.float32(light.sky_high[channel])
            blue = low * (1 - height) + high * height
            canvas.image[:rows, :, channel] = blue * clear + low * veil * cover
        canvas.labels[:rows] = SKY
        for label, x, wide, tall, colour in self._skyline:
            middle = view.columns / 2 + (x - view.heading()) * view.focal
            half, top = wide * view.focal, rows - tall * view.focal
            canvas.polygon([(middle - half, rows), (middle - half, top), (middle + half, top),
                            (middle + half, rows)], colour, label, 140.0)

    def _draw_ground(self, canvas, view):
        """Fill everything below the horizon with road and pavement."""
        first = int(view.horizon)
        x, z = view.ground(first)
        column = (x + textures.GROUND_WIDTH / 2) * textures.GROUND_SCALE - 0.5
        column = np.clip(column, 0, self._scene.ground.shape[1] - 1).astype(np.float32)
        row = ((z % textures.GROUND_LENGTH) * textures.GROUND_SCALE - 0.5).astype(np.float32)
        far = int(np.searchsorted(-z[:, 0], -(view.z + FAR_GROUND)))
        for part, tile in ((slice(0, far), self._soft_ground),
                           (slice(far, None), self._scene.ground)):
            if not len(row[part]):  # a wide camera sees no far or no near ground
                continue
            canvas.image[first:][part] = cv2.remap(tile, column[part], row[part],
                                                   cv2.INTER_LINEAR, borderMode=cv2.BORDER_WRAP)
        canvas.labels[first:] = cv2.remap(self._scene.ground_labels, column, row,
                                          cv2.INTER_NEAREST, borderMode=cv2.BORDER_WRAP)
        clear = np.exp(-(z[:, :1] - view.z) / canvas.clear_range)[..., None].astype(np.float32)
        canvas.image[first:] = canvas.image[first:] * clear + canvas.haze * (1 - clear)

    def _expose(self, image, index):
        """Turn the clean drawing into a camera's picture: tone, softness and noise."""
        image = cv2.LUT(image, self._tone)
        image = cv2.GaussianBlur(image, (0, 0), 0.55 * self.size[1] / 480 + 0.1)
        rng = np.random.default_rng([self.seed % 2**32, 7, index])
        down, right = rng.integers(0, NOISE_MARGIN, 2)
        grain = self._noise[down:down + self.size[0], right:right + self.size[1]]
        return cv2.add(image, grain, dtype=cv2.CV_8U)

    @staticmethod
    def _make_skyline(rng):
        """Return far blocks as (label, angle, half width, height, colour), in radians."""
        blocks = []
        for angle in np.arange(-0.9, 0.9, 0.03):
            tree = rng.random() < 0.5
            colour = (70, 78, 62) if tree else tuple(rng.uniform(80, 140) * np.ones(3))
            tall = rng.uniform(0.02, 0.045) if tree else rng.uniform(0.02, 0.06)
            blocks.append((TREE if tree else BUILDING, angle, 0.02, tall, colour))
        return blocks
