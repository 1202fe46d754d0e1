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

"""Fill surfaces given in street coordinates (metres, see view.py): flat faces and long walls."""

from segnet_ros.sample_drive import paint
from segnet_ros.sample_drive.view import NEAR


def face(canvas, view, points, colour, label, gain=1.0):
    """Fill a polygon, a list of (x, y, z), with an RGB colour times `gain`."""
    shape = view.outline(points)
    if shape is not None:
        depth = min(p[2] for p in points) - view.z
        canvas.polygon(shape, tuple(min(255, c * gain) for c in colour), label, depth)


def shadow(canvas, view, left, right, near, far):
    """Darken a rectangle of ground; the labels stay."""
    shape = view.outline([(left, 0, near), (right, 0, near), (right, 0, far), (left, 0, far)])
    if shape is not None:
        canvas.shade(shape, 0.5)


def wall(canvas, view, x, height, near, far, sprite, label, gain):
    """Stretch a sprite over an upright wall along the road, cut off where it comes too near."""
    start = max(near, view.z + NEAR)
    if start >= far:
        return
    corners = view.project([(x, height, start), (x, height, far), (x, 0, far), (x, 0, start)])
    if start > near:  # show only the part of the sprite that lies ahead
        texels = sprite.levels[0]
        skip = int((start - near) / (far - near) * texels.shape[1])
        if texels.shape[1] - skip < 2:
            return
        sprite = paint.Sprite(texels[:, skip:])
    canvas.texture(corners, sprite, label, gain, start - view.z)


def board(canvas, view, left, right, low, high, z, sprite, label, gain):
    """Stretch a sprite over an upright rectangle that faces the camera."""
    corners = view.project([(left, high, z), (right, high, z), (right, low, z), (left, low, z)])
    canvas.texture(corners, sprite, label, gain, z - view.z)
