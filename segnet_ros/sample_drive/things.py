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
Draw what stands in the street: houses, fences, trees and posts.

Each is a frozen record of where it is (metres, see view.py) and how it looks, with `far`, the z
by which things are sorted to be drawn from far to near, and `draw(canvas, view, light)`.
"""

from dataclasses import dataclass
import math

from segnet_ros.sample_drive import paint
from segnet_ros.sample_drive.surfaces import board, face, wall
from segnet_ros.sample_drive.view import NEAR


@dataclass(frozen=True)
class Building:
    """A house front with its near gable and its roof."""

    side: int
    x: float
    near: float
    far: float
    height: float
    front: paint.Sprite
    gable: paint.Sprite
    gable_colour: tuple
    roof: tuple
    gain: float

    def draw(self, canvas, view, light):
        """Draw roof, gable and front."""
        x, back, middle = (self.side * (self.x + inward) for inward in (0, 9, 4.5))
        top, ridge = self.height, self.height + 2.6
        gain = self.gain * light.side_gain(self.side)
        slope = [(x, top, self.near), (middle, ridge, self.near), (middle, ridge, self.far),
                 (x, top, self.far)]
        face(canvas, view, slope, self.roof, paint.BUILDING, gain)
        if self.near > view.z + NEAR:
            end_gain = self.gain * light.end_gain
            peak = [(x, top, self.near), (middle, ridge, self.near), (back, top, self.near)]
            face(canvas, view, peak, self.gable_colour, paint.BUILDING, end_gain)
            board(canvas, view, x, back, 0, top, self.near, self.gable, paint.BUILDING, end_gain)
        wall(canvas, view, x, top, self.near, self.far, self.front, paint.BUILDING, gain)


@dataclass(frozen=True)
class Fence:
    """Guard rails at the kerb, or boards before a garden."""

    side: int
    x: float
    near: float
    far: float
    height: float
    sprite: paint.Sprite

    def draw(self, canvas, view, light):
        """Draw the fence."""
        wall(canvas, view, self.x * self.side, self.height, self.near, self.far, self.sprite,
             paint.FENCE, light.side_gain(self.side))


@dataclass(frozen=True)
class Tree:
    """A trunk and a crown."""

    x: float
    far: float
    height: float
    radius: float
    sprite: paint.Sprite

    def draw(self, canvas, view, light):
        """Draw the trunk, then the crown over it."""
        depth = self.far - view.z
        if depth < NEAR:
            return
        middle = self.height - self.radius
        foot, fork = view.project([(self.x, 0, self.far), (self.x, middle, self.far)])
        canvas.line(foot, fork, 0.2 * view.scale(self.far), (62, 54, 46), paint.TREE, depth)
        board(canvas, view, self.x - self.radius, self.x + self.radius, middle - self.radius,
              self.height, self.far, self.sprite, paint.TREE, light.end_gain)


@dataclass(frozen=True)
class Post:
    """A lamp post, a traffic sign or a traffic light, whichever `kind` says."""

    kind: str
    x: float
    far: float
    height: float
    colour: tuple

    def draw(self, canvas, view, light):
        """Draw the pole, then what it carries."""
        depth = self.far - view.z
        if depth < NEAR:
            return
        scale = view.scale(self.far)
        foot, top = view.project([(self.x, 0, self.far), (self.x, self.height, self.far)])
        grey = (88, 90, 90)
        thick = 0.11 if self.kind == 'lamp' else 0.07
        canvas.line(foot, top, thick * scale, grey, paint.POLE, depth)
        if self.kind == 'lamp':
            reach = top + (-math.copysign(1.4, self.x) * scale, -0.25 * scale)
            canvas.line(top, reach, 0.09 * scale, grey, paint.POLE, depth)
        elif self.kind == 'light':
            self._lamps(canvas, top, scale, depth)
        else:
            self._plate(canvas, top, scale, depth)

    def _lamps(self, canvas, top, scale, depth):
        half, tall = 0.22 * scale, 0.95 * scale
        x, y = top
        case = [(x - half, y), (x + half, y), (x + half, y + tall), (x - half, y + tall)]
        canvas.polygon(case, (24, 24, 26), paint.SIGN, depth)
        for place, colour in enumerate(((235, 50, 40), (235, 160, 40), (60, 230, 120))):
            if colour == self.colour:
                lamp = (x, y + tall * (0.2 + 0.3 * place))
                canvas.disc(lamp, 0.11 * scale, colour, paint.SIGN, 0)

    def _plate(self, canvas, top, scale, depth):
        x, y = top
        size = 0.36 * scale
        white = (225, 225, 220)
        if self.kind == 'round':
            canvas.disc((x, y + size), size, self.colour, paint.SIGN, depth)
            canvas.disc((x, y + size), size * 0.68, white, paint.SIGN, depth)
        elif self.kind == 'warning':
            for part, colour in ((1.0, self.colour), (0.6, white)):
                tip, base = y + size * (1 - 1.1 * part), y + size * (1 + 0.7 * part)
                corners = [(x, tip), (x + size * part, base), (x - size * part, base)]
                canvas.polygon(corners, colour, paint.SIGN, depth)
        else:
            for part, colour in ((1.0, white), (0.85, self.colour)):
                wide, tall = size * 1.5 * part, size * part
                middle = y + size
                canvas.polygon([(x - wide, middle - tall), (x + wide, middle - tall),
                                (x + wide, middle + tall), (x - wide, middle + tall)],
                               colour, paint.SIGN, depth)
