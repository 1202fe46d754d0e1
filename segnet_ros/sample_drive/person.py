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

"""Draw people: walking, or riding a bicycle, always seen from behind or in front."""

from dataclasses import dataclass
import math

from segnet_ros.sample_drive import paint
from segnet_ros.sample_drive.surfaces import shadow


@dataclass(frozen=True)
class Person:
    """Somebody walking, or riding a bicycle, seen from behind or in front."""

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
        foot, ground = view.project([(self.x, 0, self.far)])[0].tolist()
        scale = view.scale(self.far) * self.height / 1.75
        label = paint.BICYCLIST if self.riding else paint.PEDESTRIAN

        def at(x, y):
            return foot + x * scale, ground - y * scale

        def limb(start, end, width, colour):
            canvas.line(at(*start), at(*end), width * scale, colour, label, depth)

        swing = math.sin(self.stride)
        shadow(canvas, view, self.x - 0.3, self.x + 0.3, self.far - 0.3, self.far + 0.3)
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
