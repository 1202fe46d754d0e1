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
Decide what stands where in the street, and when.

The street is divided into plots of equal length; a plot's content depends only on the seed and
the plot's number, so the street has no end and any instant can be rendered first. Traffic is
divided into plots that move at its speed. Nothing here draws or knows the picture's size.
"""

from dataclasses import dataclass
import functools
import math

import numpy as np

from segnet_ros.sample_drive import textures
from segnet_ros.sample_drive.car import Car
from segnet_ros.sample_drive.paint import Sprite
from segnet_ros.sample_drive.person import Person
from segnet_ros.sample_drive.textures import CROSSING, GROUND_LENGTH, KERB, PLOT, STOREY
from segnet_ros.sample_drive.things import Building, Fence, Post, Tree
from segnet_ros.sample_drive.view import LANE

SIGHT = 150.0  # metres of street that are drawn
SPEED = 8.0  # of the camera, metres a second
CAR_COLOURS = ((24, 26, 30), (170, 172, 175), (120, 22, 24), (36, 50, 92), (215, 215, 212),
               (70, 74, 78), (34, 60, 44), (140, 138, 126))


@dataclass(frozen=True)
class Light:
    """The light of one drive."""

    sky_high: tuple
    sky_low: tuple
    cloud: float
    clear_range: float
    exposure: float
    tint: tuple
    sunny_side: int  # the side of the road whose fronts the sun reaches; 0 under cloud
    end_gain: float  # brightness of what faces the camera

    def side_gain(self, side: int) -> float:
        """Return the brightness of a front that stands on that side of the road."""
        return 0.9 + 0.35 * side * self.sunny_side


def _make_light(rng) -> Light:
    """Return a random light: sunny, overcast or dusk."""
    kind = rng.choice(['sunny', 'overcast', 'dusk'], p=[0.45, 0.4, 0.15])
    jitter = rng.uniform(0.85, 1.2)
    warm = rng.uniform(-0.05, 0.05)
    if kind == 'sunny':
        return Light((120, 165, 225), (225, 235, 245), rng.uniform(0.1, 0.5), 260.0,
                     1.15 * jitter, (1.03 + warm, 1.0, 0.96 - warm), int(rng.choice([-1, 1])),
                     rng.uniform(0.65, 1.0))
    if kind == 'overcast':
        return Light((205, 212, 222), (240, 242, 245), rng.uniform(0.4, 0.9), 190.0,
                     0.9 * jitter, (1.0 + warm, 1.0, 1.0 - warm), 0, 0.85)
    return Light((205, 215, 235), (250, 242, 228), rng.uniform(0.4, 0.8), 330.0,
                 0.45 * jitter, (1.0 + warm, 0.99, 0.98), 0, 0.75)


class Scene:
    """Everything in one drive's street."""

    def __init__(self, seed: int):
        self.seed = seed
        rng = self._random(0, 0)
        self.light = _make_light(rng)
        self.bend = float(rng.uniform(-7, 7))
        self.horizon = float(rng.uniform(0.42, 0.51))
        self.ground, self.ground_labels = textures.ground(rng, -self.light.sunny_side)
        self.clouds = textures.clouds(rng, self.light.cloud)
        self.fronts = [(storeys, Sprite(textures.facade(rng, storeys)))
                       for storeys in (2, 3, 2, 3, 4, 3)]
        self.gables = [(Sprite(wall), colour)
                       for wall, colour in (textures.gable(rng) for _ in range(4))]
        self.crowns = []
        for leafy in rng.random(4) < rng.choice([0.15, 0.7]):
            crown = textures.foliage(rng, leafy)
            self.crowns.append(Sprite(crown if leafy else textures.branches(rng, crown)))
        self.rails, self.boards = Sprite(textures.railing()), Sprite(textures.boards(rng))
        self.parked = rng.choice([0.0, 0.25, 0.85], 2)  # share of plots, left and right
        self.crowd = rng.uniform(0.2, 0.6)
        # The cache only saves time: a plot is the same whenever it is laid out.
        self._plot = functools.lru_cache(maxsize=64)(self._lay_out)

    def things(self, time: float, z: float) -> list:
        """Return what may be seen from z at that time (seconds), farthest first."""
        found = []
        first = math.floor(z / PLOT)
        for number in range(first, first + math.ceil(SIGHT / PLOT)):
            found += self._plot(number)
            found += self._walkers(number, time)
        found += self._traffic(time, z)
        return sorted(found, key=lambda thing: -thing.far)

    def _random(self, kind, number):
        return np.random.default_rng([self.seed % 2**32, kind, number % 2**32])

    def _lay_out(self, number):
        """Return what stands still on a plot, on both sides of the road."""
        rng = self._random(1, number)
        near, far = number * PLOT, (number + 1) * PLOT
        found = []
        for side in (-1, 1):
            # One plot in four is a garden, on alternating sides: no class is absent for long.
            if number % 4 == (1 + side):
                found += self._garden(rng, side, near, far)
            else:
                found.append(self._building(rng, side, near, far))
            found += self._furniture(rng, side, near, number)
            if rng.random() < self.parked[max(side, 0)]:
                for at in near + np.array((1.0, 6.6)) + rng.uniform(0, 0.8, 2):
                    found.append(self._car(rng, side * 3.75, at, -side))
        return found

    def _building(self, rng, side, near, far):
        storeys, front = self.fronts[rng.integers(len(self.fronts))]
        gable, colour = self.gables[rng.integers(len(self.gables))]
        slates = np.array((1, 0.93, 0.9)) * rng.uniform(50, 105)
        return Building(side, KERB + rng.uniform(2.4, 5), near, far, storeys * STOREY, front,
                        gable, colour, tuple(slates), rng.uniform(0.75, 1.1))

    def _garden(self, rng, side, near, far):
        fence = Fence(side, KERB + 3.2, near, far, rng.uniform(1.1, 1.9), self.boards)
        return [fence, *(self._tree(rng, side * rng.uniform(10, 13), near + at)
                         for at in (2.0, 6.0, 10.0))]

    def _tree(self, rng, x, z):
        height = rng.uniform(5.5, 10)
        return Tree(x, z, height, height * rng.uniform(0.27, 0.4),
                    self.crowns[rng.integers(len(self.crowns))])

    def _furniture(self, rng, side, near, number):
        """Return what stands at the kerb: posts, street trees, guard rails."""
        found = []
        if (number + side) % 3 == 0:
            found.append(Post('lamp', side * (KERB + 0.6), near + 3, rng.uniform(6, 8.5), ()))
        kind = rng.choice(['round', 'warning', 'board', 'light'])
        colour = {'round': (190, 35, 35), 'warning': (190, 35, 35), 'board': (40, 80, 160),
                  'light': ((60, 230, 120), (235, 50, 40))[rng.integers(2)]}[str(kind)]
        if rng.random() < 0.6:
            found.append(Post(str(kind), side * (KERB + 0.5), near + rng.uniform(5, 9),
                              rng.uniform(2.6, 3.4), colour))
        if rng.random() < 0.25:
            found.append(self._tree(rng, side * (KERB + 1.6), near + 11))
        if rng.random() < 0.2:
            found.append(Fence(side, KERB + 0.35, near, near + PLOT, 1.1, self.rails))
        return found

    def _car(self, rng, x, z, heading):
        height = rng.uniform(1.4, 1.6) if rng.random() < 0.8 else rng.uniform(1.85, 2.2)
        colour = CAR_COLOURS[rng.integers(len(CAR_COLOURS))]
        return Car(x, z, heading, height, colour)

    def _person(self, rng, x, z, stride, riding):
        coat, trousers = self._cloth(rng, 110), self._cloth(rng, 75)
        if rng.random() < (0.5 if riding else 0.15):
            coat = np.array((200, 215, 50)) if riding else self._cloth(rng, 220)
        skin = np.array((195, 150, 125)) * rng.uniform(0.35, 1.05)
        return Person(x, z, rng.uniform(1.55, 1.9), stride, tuple(coat), tuple(trousers),
                      tuple(skin), riding)

    @staticmethod
    def _cloth(rng, brightest):
        return rng.uniform(15, brightest) * rng.uniform(0.75, 1.25, 3)

    def _walkers(self, number, time):
        rng = self._random(2, number)
        found = []
        for side in (-1, 1):
            for _ in range(rng.binomial(4, self.crowd)):
                pace = rng.choice([-1.3, 1.3])
                # Walk back and forth.
                x, z = side * (KERB + rng.uniform(0.8, 2.1)), number * PLOT + rng.uniform(1, 11)
                z += 1.5 * math.sin(pace * time / 1.5)
                found.append(self._person(rng, x, z, 5 * time + z, False))
        z = number * PLOT
        start = CROSSING - z % GROUND_LENGTH
        if 0 <= start < PLOT and rng.random() < 0.7:
            # Cross early enough that the camera, due at (z + start) / SPEED, runs nobody over.
            ahead = time - (z + start) / SPEED
            x = float(np.clip(1.4 * (ahead + rng.uniform(6, 7)), -KERB - 1.5, KERB + 1.5))
            found.append(self._person(rng, x, z + start, 6 * time, False))
        return found

    def _traffic(self, time, z):
        found = []
        gap = self._random(3, 0).uniform(11, 30)
        leader = self._random(3, 1)
        if leader.random() < 0.6:
            at = z + gap + 3 * math.sin(time / 3)
            found.append(self._car(leader, LANE + 0.1, at, 1))
        for kind, speed, spacing in ((4, -7.0, 26.0), (5, 4.5, 22.0)):
            start = math.floor((z - speed * time) / spacing)
            for number in range(start, start + math.ceil(SIGHT / spacing) + 1):
                rng = self._random(kind, number)
                at = number * spacing + speed * time + rng.uniform(0, spacing - 6)
                if kind == 4 and rng.random() < 0.6:
                    found.append(self._car(rng, 1.45, at, -1))
                elif kind == 5 and (number % 2 or rng.random() < 0.6):
                    x = -2.45 if number % 2 or rng.random() < 0.6 else 2.5
                    found.append(self._person(rng, x, at, 7 * time, True))
        return found
