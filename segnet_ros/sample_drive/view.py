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
Project the street into the picture.

Street coordinates are metres: x to the right of the road's centre line, y up from the ground, z
along the road. The road bends; the camera follows its lane and looks along the road's tangent.
"""

import math

import numpy as np

EYE_HEIGHT = 1.4
LANE = -1.5  # the camera's x: drive on the left, as in Cambridge
NEAR = 0.7  # metres; whatever is nearer than this is cut off
FOCAL = 0.98  # focal length as a share of the picture's width
BEND_LENGTH = 70.0  # metres of road per radian of the sine that it follows


class View:
    """Look down the street from one place on it."""

    def __init__(self, size: tuple[int, int], z: float, bend: float,
                 horizon: float):
        """
        Place the camera at z in a street that swings `bend` metres to either side.

        `size` is the picture's (height, width), `horizon` a share of its height.
        """
        self.rows, self.columns = size
        self.z = z
        self.bend = bend
        self.focal = FOCAL * self.columns
        self.horizon = horizon * self.rows
        self._slope = bend / BEND_LENGTH * math.cos(z / BEND_LENGTH)
        self._start = bend * math.sin(z / BEND_LENGTH)

    def sideways(self, z, sine=math.sin):
        """Return how far (metres) the road at z swings off the camera's line of sight."""
        return self.bend * sine(z / BEND_LENGTH) - self._start - self._slope * (z - self.z)

    def heading(self) -> float:
        """Return the direction of travel in radians, positive to the right."""
        return math.atan(self._slope)

    def scale(self, z: float) -> float:
        """Return the pixels a metre covers at z."""
        return self.focal / max(z - self.z, NEAR)

    def project(self, points) -> np.ndarray:
        """Map (N, 3) street points, all beyond NEAR, to (N, 2) pixels."""
        pixels, middle = [], self.columns / 2
        for x, y, z in points:  # a handful of points: plain floats are faster than arrays
            scale = self.focal / (z - self.z)
            across = (x + self.sideways(z) - LANE) * scale
            pixels.append((middle + across, self.horizon + (EYE_HEIGHT - y) * scale))
        return np.array(pixels)

    def outline(self, points):
        """Project a polygon after cutting off what is too near; None if nothing is left."""
        limit = self.z + NEAR
        if min(p[2] for p in points) < limit:
            points = self._cut(points, limit)
        return self.project(points) if len(points) > 2 else None

    def ground(self, first_row: int) -> tuple[np.ndarray, np.ndarray]:
        """Return street x (float32) and z (float64) of every pixel from that row down."""
        rows = np.arange(first_row, self.rows)[:, None] + 0.5
        columns = np.arange(self.columns)[None] + 0.5
        distance = self.focal * EYE_HEIGHT / np.maximum(rows - self.horizon, 0.3)
        z = self.z + distance
        straight = (columns - self.columns / 2) * (distance / self.focal) + LANE
        x = (straight - self.sideways(z, np.sin)).astype(np.float32)
        return x, np.broadcast_to(z, x.shape)

    @staticmethod
    def _cut(points, limit):
        kept = []
        for start, end in zip(points, points[1:] + points[:1], strict=True):
            if start[2] >= limit:
                kept.append(start)
            if (start[2] < limit) != (end[2] < limit):
                part = (limit - start[2]) / (end[2] - start[2])
                kept.append(tuple(s + part * (e - s) for s, e in zip(start, end, strict=True)))
        return kept
