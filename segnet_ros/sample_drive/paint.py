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
Paint into a picture and its label map with one stroke.

Every call fills the same pixels of both arrays, so the labels are exact by construction. Nothing
here is anti-aliased and nothing here knows about the street: coordinates are pixels, (x right,
y down), colours are RGB of 0..255, and `depth` (metres) only says how much haze to mix in.
"""

import math

import cv2
import numpy as np

SKY, BUILDING, POLE, ROAD, PAVEMENT, TREE, SIGN, FENCE, CAR, PEDESTRIAN, BICYCLIST = range(11)

SUBPIXEL_BITS = 4
COVERED = 64  # a texel at least this opaque (0..255) claims the pixel's label
_RAMP = np.arange(256, dtype=np.float32)


class Sprite:
    """Hold an RGBA texture (uint8) and its mipmaps, so that small drawings do not alias."""

    def __init__(self, rgba: np.ndarray):
        self.levels = [rgba]
        while min(self.levels[-1].shape[:2]) > 8:
            self.levels.append(cv2.pyrDown(self.levels[-1]))
        self.opaque = bool(rgba[..., 3].min() == 255)

    def level(self, pixels: float) -> np.ndarray:
        """Return the copy whose size (geometric mean of its sides) suits a drawing that large."""
        texels = math.sqrt(self.levels[0].shape[0] * self.levels[0].shape[1])
        halvings = math.floor(math.log2(max(1.0, texels / max(pixels, 1.0))) + 0.5)
        return self.levels[min(halvings, len(self.levels) - 1)]


class Canvas:
    """Pair an image (H, W, 3 uint8 RGB) with labels (H, W uint8) and draw into both."""

    def __init__(self, image: np.ndarray, labels: np.ndarray, haze: tuple, clear_range: float):
        self.image = image
        self.labels = labels
        self.haze = np.asarray(haze, np.float32)
        self._haze = self.haze.tolist()  # for single colours plain floats are faster
        self.clear_range = clear_range  # metres at which haze has swallowed 63 % of a colour

    def polygon(self, points: np.ndarray, colour: tuple, label: int, depth: float) -> None:
        """Fill the (N, 2) polygon."""
        fixed = np.round(np.asarray(points) * (1 << SUBPIXEL_BITS)).astype(np.int32)[None]
        cv2.fillPoly(self.image, fixed, self._seen(colour, depth), cv2.LINE_8, SUBPIXEL_BITS)
        cv2.fillPoly(self.labels, fixed, label, cv2.LINE_8, SUBPIXEL_BITS)

    def line(self, start, end, width: float, colour: tuple, label: int, depth: float) -> None:
        """Draw a round-ended stroke, at least one pixel wide."""
        ends = [(round(float(x)), round(float(y))) for x, y in (start, end)]
        thickness = max(1, round(float(width)))
        cv2.line(self.image, *ends, self._seen(colour, depth), thickness)
        cv2.line(self.labels, *ends, label, thickness)

    def disc(self, centre, radius: float, colour: tuple, label: int, depth: float) -> None:
        """Fill a circle."""
        middle = (round(float(centre[0])), round(float(centre[1])))
        size = max(0, round(float(radius)))
        cv2.circle(self.image, middle, size, self._seen(colour, depth), cv2.FILLED)
        cv2.circle(self.labels, middle, size, label, cv2.FILLED)

    def shade(self, points: np.ndarray, gain: float) -> None:
        """Darken a convex (N, 2) polygon of the image; a shadow leaves the labels alone."""
        box = self._box(points)
        if box is None:
            return
        mask = np.full((box[0].stop - box[0].start, box[1].stop - box[1].start), 1, np.float32)
        corner = (box[1].start, box[0].start)
        cv2.fillConvexPoly(mask, np.round(np.asarray(points) - corner).astype(np.int32), gain)
        patch = self.image[box]
        patch[:] = patch * mask[..., None]

    def texture(self, corners: np.ndarray, sprite: Sprite, label: int, gain: float,
                depth: float) -> None:
        """Stretch a sprite over a (4, 2) quadrilateral given as TL, TR, BR, BL of the sprite."""
        box = self._box(corners)
        if box is None:
            return
        corners = np.asarray(corners, np.float32)
        area = abs(cv2.contourArea(corners))
        texels = sprite.level(math.sqrt(area))
        high, wide = texels.shape[:2]
        source = np.array([(0, 0), (wide, 0), (wide, high), (0, high)], np.float32)
        target: np.ndarray = corners - np.array((box[1].start, box[0].start), np.float32)
        size = (box[1].stop - box[1].start, box[0].stop - box[0].start)
        matrix = cv2.getPerspectiveTransform(source, target)
        patch = cv2.warpPerspective(texels, matrix, size, flags=cv2.INTER_LINEAR)
        self._paste(box, cv2.LUT(patch, self._curve(gain, depth)), sprite.opaque, label)

    def _paste(self, box, patch, opaque, label):
        alpha = patch[..., 3]
        covered = cv2.compare(alpha, COVERED, cv2.CMP_GE)
        colour = np.ascontiguousarray(patch[..., :3])
        beneath = self.image[box]
        if not opaque:
            weight = alpha * np.float32(1 / 255)
            colour = cv2.blendLinear(colour, np.ascontiguousarray(beneath), weight, 1 - weight)
        cv2.copyTo(colour, covered, beneath)
        self.labels[box][covered > 0] = label

    def _box(self, points):
        """Return the rows and columns that the points span inside the picture, or None."""
        rows, columns = self.labels.shape
        points = np.asarray(points)
        (left, top), (right, bottom) = points.min(0).tolist(), points.max(0).tolist()
        left, top = max(math.floor(left), 0), max(math.floor(top), 0)
        right, bottom = min(math.ceil(right) + 1, columns), min(math.ceil(bottom) + 1, rows)
        if left >= right or top >= bottom:
            return None
        return slice(top, bottom), slice(left, right)

    def _clear(self, depth):
        return math.exp(-max(depth, 0.0) / self.clear_range)

    def _seen(self, colour, depth):
        # Written out, since it runs for hundreds of strokes a frame.
        clear = self._clear(depth)
        rest = 1 - clear
        (r, g, b), (haze_r, haze_g, haze_b) = colour, self._haze
        return r * clear + haze_r * rest, g * clear + haze_g * rest, b * clear + haze_b * rest

    def _curve(self, gain, depth):
        clear = self._clear(depth)
        table = np.empty((1, 256, 4), np.float32)
        table[0, :, :3] = _RAMP[:, None] * gain * clear + self.haze * (1 - clear)
        table[0, :, 3] = _RAMP
        return np.clip(table, 0, 255).astype(np.uint8)
