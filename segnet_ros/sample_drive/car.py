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

"""Draw cars and vans: a body and a cabin of flat faces, with wheels, windows and lamps."""

from dataclasses import dataclass
import math

from segnet_ros.sample_drive.paint import CAR
from segnet_ros.sample_drive.surfaces import face, shadow
from segnet_ros.sample_drive.view import LANE, NEAR

LENGTH, HALF_WIDTH = 4.2, 0.88
WHEEL = 0.31  # radius
_CIRCLE = [(math.sin(turn), math.cos(turn))
           for turn in (step * math.pi / 6 for step in range(12))]
TYRE, RIM, GLASS = (22, 22, 24), (130, 132, 135), (40, 46, 53)


@dataclass(frozen=True)
class Car:
    """
    A car or van at `x`; the end that the camera sees is at z = `far`.

    `heading` +1 shows the tail to the camera, -1 the nose. Faces are given as (x, y, along) with
    `along` running from the seen end, 0, to LENGTH.
    """

    x: float
    far: float
    heading: int
    height: float
    colour: tuple

    @property
    def van(self) -> bool:
        """Return whether this is a van, which is all cabin."""
        return self.height > 1.7

    @property
    def waist(self) -> float:
        """Return the height at which the cabin begins."""
        return 1.1 if self.van else 0.9

    @property
    def cabin(self) -> tuple:
        """Return where the cabin's foot, then its roof, begins and ends along the car."""
        if self.van:
            return 0.15, LENGTH - 0.1, 0.4, LENGTH - 0.5
        return (0.1, 3.1, 0.45, 2.4) if self.heading > 0 else (1.1, 4.1, 1.8, 3.75)

    @property
    def roof(self) -> float:
        """Return half the roof's width."""
        return HALF_WIDTH - (0.08 if self.van else 0.2)

    def draw(self, canvas, view, light):
        """Draw shadow, flank and visible end."""
        if self.far + LENGTH < view.z + NEAR:
            return

        def fill(points, colour, gain=1.0):
            corners = [(self.x + x, y, self.far + along) for x, y, along in points]
            face(canvas, view, corners, colour, CAR, gain)

        shadow(canvas, view, self.x - 1, self.x + 1, self.far, self.far + LENGTH)
        offset = LANE - self.x - view.sideways(self.far)
        if abs(offset) > HALF_WIDTH:
            side = 1 if offset > 0 else -1
            self._flank(fill, side, light.side_gain(-side))
        self._end(fill, light.end_gain)

    def _flank(self, fill, side, gain):
        wide, roof, waist, top = HALF_WIDTH * side, self.roof * side, self.waist, self.height
        foot0, foot1, roof0, roof1 = self.cabin
        fill([(wide, 0.28, 0), (wide, waist, 0), (wide, waist, LENGTH - 0.15),
              (wide, waist - 0.15, LENGTH), (wide, 0.28, LENGTH)], self.colour, gain)
        fill([(wide, waist, foot0), (roof, top, roof0), (roof, top, roof1),
              (wide, waist, foot1)], self.colour, gain)
        low, high = waist + 0.04, top - 0.09
        fill([(wide, low, foot0 + 0.25), (roof, high, roof0 + 0.12), (roof, high, roof1 - 0.05),
              (wide, low, foot1 - 0.3)], GLASS)
        fill([(wide, 0.28, 0), (wide, 0.28, LENGTH), (wide, 0.38, LENGTH), (wide, 0.38, 0)],
             self.colour, 0.45)
        for along in (0.8, 3.3):
            for radius, colour in ((WHEEL, TYRE), (0.55 * WHEEL, RIM)):
                fill([(wide, WHEEL + radius * y, along + radius * z) for y, z in _CIRCLE], colour)

    def _end(self, fill, gain):
        wide, waist, top, roof = HALF_WIDTH, self.waist, self.height, self.roof
        foot, roof0 = self.cabin[0], self.cabin[2]

        def plate(left, right, low, high, colour, gain=1.0):
            fill([(left, low, 0), (right, low, 0), (right, high, 0), (left, high, 0)],
                 colour, gain)

        for x in (-0.7, 0.7):
            plate(x - 0.1, x + 0.1, 0, 0.4, TYRE)
        fill([(-wide, waist, 0), (wide, waist, 0), (wide, waist, foot), (-wide, waist, foot)],
             self.colour, gain * 1.2)  # boot or bonnet
        fill([(-wide, waist, foot), (-roof - 0.05, top - 0.06, roof0 - 0.02), (-roof, top, roof0),
              (roof, top, roof0), (roof + 0.05, top - 0.06, roof0 - 0.02), (wide, waist, foot)],
             self.colour, gain)
        fill([(0.1 - wide, waist + 0.05, foot), (wide - 0.1, waist + 0.05, foot),
              (roof - 0.07, top - 0.1, roof0), (0.07 - roof, top - 0.1, roof0)], GLASS)
        fill([(-wide, 0.25, 0), (-wide, waist - 0.06, 0), (0.06 - wide, waist, 0),
              (wide - 0.06, waist, 0), (wide, waist - 0.06, 0), (wide, 0.25, 0)], self.colour,
             gain)
        plate(-wide, wide, 0.25, 0.42, self.colour, gain * 0.55)
        tail = self.heading > 0
        if not tail:
            plate(-0.5, 0.5, 0.6, 0.74, (28, 28, 30))
        for way in (-1, 1):
            plate(way * (wide - 0.04), way * (wide - 0.28), waist - 0.3, waist - 0.1,
                  (165, 25, 22) if tail else (235, 235, 225))
        plate(-0.26, 0.26, 0.46, 0.57, (215, 185, 60) if tail else (225, 225, 225))
