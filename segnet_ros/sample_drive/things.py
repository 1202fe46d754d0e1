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
Draw the things that stand or move in the street.

Each is a frozen record of where it is (metres, see view.py) and how it looks, with `far`, the z
by which things are drawn from the far end to the near one, and `draw(canvas, view, light)`.
"""

from dataclasses import dataclass
import math

from segnet_ros.sample_drive import paint
from segnet_ros.sample_drive.view import LANE, NEAR


def _face(canvas, view, points, colour, label, gain=1.0):
    """Fill a polygon of street points (a list of x, y, z)."""
    shape = view.outline(points)
    if shape is not None:
        depth = min(p[2] for p in points) - view.z
        canvas.polygon(shape, tuple(min(255, c * gain) for c in colour), label, depth)


def _wall(canvas, view, x, height, near, far, sprite, label, gain, bottom=0.0):
    """Stretch a sprite over an upright wall along the road, cut off where it comes too near."""
    start = max(near, view.z + NEAR)
    if start >= far:
        return
    corners = view.project([(x, height, start), (x, height, far), (x, bottom, far),
                            (x, bottom, start)])
    if start > near:  # show only the part of the sprite that lies ahead
        high, wide = sprite.levels[0].shape[:2]
        skip = int((start - near) / (far - near) * wide)
        if wide - skip < 2:
            return
        sprite = paint.Sprite(sprite.levels[0][:, skip:])
    canvas.texture(corners, sprite, label, gain, start - view.z)


@dataclass(frozen=True)
class Building:
    """A house front with its near gable and its roof."""

    side: int
    x: float
    near: float
    far: float
    height: float
    sprite: paint.Sprite
    gain: float
    gable: tuple
    roof: tuple

    def draw(self, canvas, view, light):
        """Draw gable, roof and front."""
        x, back = self.x * self.side, (self.x + 9) * self.side
        top, ridge, middle = self.height, self.height + 2.6, (self.x + 4.5) * self.side
        gain = self.gain * light.side_gain(self.side)
        gable = [(x, 0, self.near), (x, top, self.near), (middle, ridge, self.near),
                 (back, top, self.near), (back, 0, self.near)]
        slope = [(x, top, self.near), (middle, ridge, self.near), (middle, ridge, self.far),
                 (x, top, self.far)]
        _face(canvas, view, slope, self.roof, paint.BUILDING, gain)
        _face(canvas, view, gable, self.gable, paint.BUILDING, self.gain * light.end_gain)
        _wall(canvas, view, x, top, self.near, self.far, self.sprite, paint.BUILDING, gain)


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
        _wall(canvas, view, self.x * self.side, self.height, self.near, self.far, self.sprite,
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
        canvas.line(foot, fork, 0.3 * view.scale(self.far), (62, 54, 46), paint.TREE, depth)
        left, right = self.x - self.radius, self.x + self.radius
        low = middle - self.radius
        corners = view.project([(left, self.height, self.far), (right, self.height, self.far),
                                (right, low, self.far), (left, low, self.far)])
        canvas.texture(corners, self.sprite, paint.TREE, light.end_gain, depth)


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
        canvas.line(foot, top, 0.11 * scale, grey, paint.POLE, depth)
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


@dataclass(frozen=True)
class Person:
    """Somebody walking, or riding a bicycle, seen from behind or before."""

    x: float
    far: float
    height: float
    stride: float
    coat: tuple
    trousers: tuple
    skin: tuple
    riding: bool

    def draw(self, canvas, view, light):
        """Draw bicycle, legs, arms, body and head."""
        depth = self.far - view.z
        if depth < 1.5:
            return
        foot = view.project([(self.x, 0, self.far)])[0]
        scale = view.scale(self.far) * self.height / 1.75
        label = paint.BICYCLIST if self.riding else paint.PEDESTRIAN

        def at(x, y):
            return foot + (x * scale, -y * scale)

        def limb(start, end, width, colour):
            canvas.line(at(*start), at(*end), width * scale, colour, label, depth)

        swing = math.sin(self.stride)
        shadow = [at(-0.3, 0.03), at(0.3, 0.03), at(0.3, -0.05), at(-0.3, -0.05)]
        canvas.shade(shadow, 0.6)
        if self.riding:
            limb((0, 0.04), (0, 0.68), 0.07, (25, 25, 27))
            limb((-0.28, 1.02), (0.28, 1.02), 0.05, (45, 45, 48))
            for way in (-1, 1):
                knee = 0.62 + 0.14 * swing * way
                limb((0.12 * way, 0.92), (0.16 * way, knee), 0.14, self.trousers)
                limb((0.16 * way, knee), (0.13 * way, knee - 0.38), 0.11, self.trousers)
        else:
            for way in (-1, 1):
                limb((0.07 * way, 0.88), (0.09 * way + 0.16 * swing * way, 0.05), 0.15,
                     self.trousers)
        lift = 0.12 if self.riding else 0.0
        for way in (-1, 1):
            hand = (0.27 * way, 1.02) if self.riding else (0.26 * way, 0.85 + 0.06 * swing * way)
            limb((0.2 * way, 1.38 + lift), hand, 0.10, tuple(c * 0.85 for c in self.coat))
        canvas.polygon([at(-0.22, 1.45 + lift), at(0.22, 1.45 + lift), at(0.17, 0.82),
                        at(-0.17, 0.82)], self.coat, label, depth)
        canvas.disc(at(0, 1.6 + lift), 0.115 * scale, self.skin, label, depth)


@dataclass(frozen=True)
class Car:
    """A car or van; `heading` +1 shows its tail to the camera, -1 its nose."""

    x: float
    far: float
    heading: int
    height: float
    colour: tuple

    def draw(self, canvas, view, light):
        """Draw shadow, body, cabin, then wheels and fittings."""
        if self.far + 4.2 < view.z + NEAR:
            return
        box = _Body(self, canvas, view)
        shadow = view.outline([self._at(*p) for p in ((-1.0, 0, 0), (1.0, 0, 0), (1.0, 0, 4.2),
                                                      (-1.0, 0, 4.2))])
        if shadow is not None:
            canvas.shade(shadow, 0.45)
        box.draw(light)

    def _at(self, x, y, along):
        return self.x + x, y, self.far + along


class _Body:
    """The faces of one car; lengths run from the end that the camera sees (0) to the other."""

    def __init__(self, car, canvas, view):
        self.car, self.canvas, self.view = car, canvas, view
        van = car.height > 1.7
        tail = car.heading > 0
        self.long, self.wide, self.waist = 4.2, 0.88, 0.9 if not van else 1.05
        slant, bonnet = 0.35, 0.15 if tail or van else 1.2
        self.cabin = (bonnet, 4.05 if not tail else 3.1, bonnet + slant, 3.6 if not tail else 2.4)
        self.roof = self.wide - 0.2 if not van else self.wide - 0.08

    def fill(self, points, colour, gain=1.0):
        corners = [self.car._at(*p) for p in points]
        _face(self.canvas, self.view, corners, colour, paint.CAR, gain)

    def draw(self, light):
        offset = LANE - self.car.x - float(self.view.sideways(self.car.far))
        side = 1 if offset > 0 else -1
        if abs(offset) > 0.9:
            self.flank(side, light)
        self.end(light)

    def flank(self, side, light):
        wide, waist, top = self.wide * side, self.waist, self.car.height
        base0, base1, roof0, roof1 = self.cabin
        roof = self.roof * side
        gain = light.side_gain(-side)
        paint_colour, glass = self.car.colour, (38, 44, 50)
        self.fill([(wide, 0.28, 0), (wide, waist, 0), (wide, waist - 0.08, self.long),
                   (wide, 0.28, self.long)], paint_colour, gain)
        self.fill([(wide, waist, base0), (roof, top, roof0), (roof, top, roof1),
                   (wide, waist, base1)], paint_colour, gain)
        low, high = waist + 0.04, top - 0.09
        self.fill([(wide, low, base0 + 0.25), (roof, high, roof0 + 0.12),
                   (roof, high, roof1 - 0.05), (wide, low, base1 - 0.3)], glass)
        for along in (0.8, 3.3):
            wheel = [(wide, 0.31 + 0.31 * math.sin(a), along + 0.31 * math.cos(a))
                     for a in (i * math.pi / 6 for i in range(12))]
            self.fill(wheel, (22, 22, 24))
            self.fill([(wide, 0.31 + (y - 0.31) * 0.55, along + (z - along) * 0.55)
                       for _, y, z in wheel], (130, 132, 135), gain)

    def end(self, light):
        wide, waist, top, roof = self.wide, self.waist, self.car.height, self.roof
        base0, _, roof0, _ = self.cabin
        colour, gain = self.car.colour, light.end_gain
        for x in (-0.7, 0.7):
            self.fill([(x - 0.1, 0, 0.3), (x + 0.1, 0, 0.3), (x + 0.1, 0.4, 0.3),
                       (x - 0.1, 0.4, 0.3)], (20, 20, 22))
        self.fill([(-wide, waist, 0), (wide, waist, 0), (wide, waist, base0 + 0.1),
                   (-wide, waist, base0 + 0.1)], colour, gain * 1.15)
        self.fill([(-wide, waist, base0), (wide, waist, base0), (roof, top, roof0),
                   (-roof, top, roof0)], colour, gain)
        self.fill([(-wide + 0.1, waist + 0.05, base0), (wide - 0.1, waist + 0.05, base0),
                   (roof - 0.07, top - 0.1, roof0), (-roof + 0.07, top - 0.1, roof0)],
                  (44, 50, 58))
        self.fill([(-wide, 0.25, 0), (-wide, waist - 0.06, 0), (-wide + 0.06, waist, 0),
                   (wide - 0.06, waist, 0), (wide, waist - 0.06, 0), (wide, 0.25, 0)], colour,
                  gain)
        self.fill([(-wide, 0.25, 0), (wide, 0.25, 0), (wide, 0.42, 0), (-wide, 0.42, 0)],
                  colour, gain * 0.6)
        tail = self.car.heading > 0
        lamp, plate = ((170, 25, 22), (215, 185, 60)) if tail else ((235, 235, 225), (225,) * 3)
        for way in (-1, 1):
            self.fill([(way * (wide - 0.04), waist - 0.1, 0), (way * (wide - 0.3), waist - 0.1, 0),
                       (way * (wide - 0.3), waist - 0.3, 0), (way * (wide - 0.04), waist - 0.3, 0)],
                      lamp)
        self.fill([(-0.26, 0.46, 0), (0.26, 0.46, 0), (0.26, 0.57, 0), (-0.26, 0.57, 0)], plate)
