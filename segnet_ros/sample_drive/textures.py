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
Draw the surfaces of the street: house fronts, foliage, fences, the ground and the sky.

What is random comes from a numpy Generator; pictures are uint8. None of them knows the camera.
"""

import cv2
import numpy as np

from segnet_ros.sample_drive.paint import PAVEMENT, ROAD

FACADE_SCALE = 26  # texels a metre
STOREY = 3.0  # metres
PLOT = 12.0  # metres of street a house front takes
GROUND_SCALE = 30
GROUND_WIDTH, GROUND_LENGTH = 26.0, 48.0  # metres that one tile of ground covers
KERB = 4.6  # metres from the centre line
CROSSING = 21.5  # metres into the tile, where there may be a zebra crossing
CLOUDS = (256, 1024)
WALLS = ((150, 105, 80), (175, 155, 115), (120, 85, 70), (205, 195, 175), (140, 130, 120),
         (185, 175, 155), (105, 100, 98), (160, 125, 90), (90, 72, 62))


def noise(rng, shape, cell):
    """Return smooth float32 noise of about -1..1 whose grains are `cell` texels wide."""
    grid = (max(2, int(shape[1] / cell)), max(2, int(shape[0] / cell)))
    coarse = rng.uniform(-1, 1, grid[::-1]).astype(np.float32)
    return cv2.resize(coarse, shape[::-1], interpolation=cv2.INTER_CUBIC)


def _opaque(rgb):
    alpha = np.full(rgb.shape[:2] + (1,), 255, np.uint8)
    return np.concatenate([np.clip(rgb, 0, 255).astype(np.uint8), alpha], 2)


def brickwork(rng, high, wide):
    """Return a bare wall, RGB, and its mean colour."""
    base = np.array(WALLS[rng.integers(len(WALLS))], np.float32) * rng.uniform(0.6, 1.1)
    wall = np.ones((high, wide, 3), np.float32) * base
    wall *= 1 + 0.12 * noise(rng, (high, wide), 3)[..., None]
    wall *= 1 + 0.15 * noise(rng, (high, wide), 60)[..., None]
    wall[::5] *= 0.92  # courses of brick
    return np.clip(wall, 0, 255).astype(np.uint8), tuple(base.tolist())


def gable(rng):
    """Return the RGBA end wall of a house, and its mean colour."""
    wall, colour = brickwork(rng, 160, 200)
    if rng.random() < 0.5:
        _window(rng, wall, (70, 50), (22, 36), (210, 208, 200))
    return _opaque(wall), colour


def facade(rng, storeys):
    """Return the RGBA front of a house of that many storeys: wall, windows, a door or a shop."""
    image, _ = brickwork(rng, int(storeys * STOREY * FACADE_SCALE), int(PLOT * FACADE_SCALE))
    high, wide = image.shape[:2]
    columns = int(rng.integers(3, 6))
    pitch = wide / columns
    trim = tuple(int(c) for c in rng.choice([(235, 235, 228), (90, 80, 70), (200, 190, 170)]))
    size = (pitch * rng.uniform(0.32, 0.62), FACADE_SCALE * rng.uniform(1.2, 1.8))
    for storey in range(storeys):
        ground_floor = storey == storeys - 1
        if ground_floor and rng.random() < 0.5:
            _shop(rng, image, high)
            break
        for column in range(columns):
            middle = ((column + 0.5) * pitch, (storey + 0.52) * STOREY * FACADE_SCALE)
            if ground_floor and column == columns // 2:
                _door(rng, image, middle[0], high)
            else:
                _window(rng, image, middle, size, trim)
    return _opaque(image)


def _window(rng, image, middle, size, trim):
    left, top = int(middle[0] - size[0] / 2), int(middle[1] - size[1] / 2)
    right, bottom = int(left + size[0]), int(top + size[1])
    glass = tuple(int(c) for c in np.array((60, 68, 80)) * rng.uniform(0.4, 1.5))
    cv2.rectangle(image, (left - 2, top - 2), (right + 2, bottom + 2), trim, -1)
    cv2.rectangle(image, (left, top), (right, bottom), glass, -1)
    if rng.random() < 0.4:  # the sky's reflection in the upper pane
        pale = tuple(min(255, c + 60) for c in glass)
        cv2.rectangle(image, (left, top), (right, (top + bottom) // 2), pale, -1)
    cv2.line(image, (left, (top + bottom) // 2), (right, (top + bottom) // 2), trim, 2)
    cv2.line(image, ((left + right) // 2, top), ((left + right) // 2, bottom), trim, 1)
    cv2.line(image, (left - 4, bottom + 3), (right + 4, bottom + 3), (190, 185, 175), 2)


def _door(rng, image, x, high):
    colour = tuple(int(c) for c in rng.integers(20, 140, 3))
    half = int(0.55 * FACADE_SCALE)
    top = int(high - 2.2 * FACADE_SCALE)
    cv2.rectangle(image, (int(x) - half - 4, top - 4), (int(x) + half + 4, high), (200,) * 3, -1)
    cv2.rectangle(image, (int(x) - half, top), (int(x) + half, high), colour, -1)


def _shop(rng, image, high):
    wide = image.shape[1]
    top = int(high - STOREY * FACADE_SCALE)
    frame = tuple(int(c) for c in rng.uniform(20, 150) * rng.uniform(0.6, 1.4, 3))
    cv2.rectangle(image, (6, top), (wide - 6, high), frame, -1)
    panes = int(rng.integers(3, 6))
    for pane in range(panes):
        left = int(14 + pane * (wide - 28) / panes)
        right = int(left + (wide - 28) / panes - 8)
        glass = tuple(int(c) for c in np.array((70, 72, 75)) * rng.uniform(0.3, 1.6))
        cv2.rectangle(image, (left, top + 22), (right, high - 10), glass, -1)
    for x in np.cumsum(rng.integers(6, 12, 14)):  # the shop's name, too far away to read
        at = int(wide * 0.25 + x)
        cv2.rectangle(image, (at, top + 6), (at + 4, top + 15), (230, 225, 210), -1)


def foliage(rng, leafy):
    """Return the RGBA crown of a tree: leaves, or the haze of bare winter twigs."""
    side = 192
    rows, columns = np.mgrid[-1:1:side * 1j, -1:1:side * 1j].astype(np.float32)
    shape = 0.82 - np.sqrt(rows ** 2 + columns ** 2)
    shape += 0.16 * noise(rng, (side, side), 30) + 0.10 * noise(rng, (side, side), 9)
    clumps = noise(rng, (side, side), 14) + 0.7 * noise(rng, (side, side), 4)
    base = np.array((62, 84, 40) if leafy else (92, 80, 66), np.float32) * rng.uniform(0.6, 1.2)
    light = 1 + 0.4 * clumps - 0.35 * rows
    rgb = np.clip(base * light[..., None], 0, 255).astype(np.uint8)
    opacity = 225 + 80 * clumps if leafy else 120 + 60 * clumps
    alpha = np.where(shape > 0, np.clip(opacity, 85, 255), 0).astype(np.uint8)
    return np.ascontiguousarray(np.dstack([rgb, alpha]))


def branches(rng, rgba):
    """Draw a bare tree's limbs into its crown, in place, and return it."""
    bark = (58, 50, 44, 255)
    for _ in range(26):
        at, angle = np.array((96.0, 190.0)), rng.uniform(-0.9, 0.9)
        for step in range(9):
            ahead = at + 18 * np.array((np.sin(angle), -np.cos(angle)))
            if rgba[int(np.clip(ahead[1], 0, 191)), int(np.clip(ahead[0], 0, 191)), 3] == 0 \
                    and step > 2:
                break
            width = max(1, 5 - step)
            cv2.line(rgba, at.astype(int).tolist(), ahead.astype(int).tolist(), bark, width)
            at, angle = ahead, angle + rng.uniform(-0.5, 0.5)
    return rgba


def railing():
    """Return RGBA guard rails: bars, and gaps that show the street but still count as fence."""
    rgba = np.full((48, 192, 4), (120, 122, 125, 72), np.uint8)
    rgba[:, ::8] = rgba[:, 1::8] = (125, 128, 130, 255)
    rgba[:4] = rgba[-8:-4] = (140, 142, 145, 255)
    rgba[:, ::96] = rgba[:, 1::96] = rgba[:, 2::96] = (95, 97, 100, 255)
    return rgba


def boards(rng):
    """Return an opaque RGBA garden fence of upright boards."""
    tone = np.repeat(rng.uniform(0.7, 1.1, 24), 8)[None, :, None].astype(np.float32)
    rgb = np.ones((48, 192, 1), np.float32) * tone * np.array((120, 95, 70), np.float32)
    rgb *= 1 + 0.15 * noise(rng, (48, 192), 6)[..., None]
    rgb[:, ::8] *= 0.5
    return _opaque(rgb)


def ground(rng, shady_side):
    """
    Return a tile of street (rows along z, columns along x): RGB and its labels.

    `shady_side` (-1 left, 1 right, 0 none) is where the houses' shadow falls on the ground.
    """
    shape = (int(GROUND_LENGTH * GROUND_SCALE), int(GROUND_WIDTH * GROUND_SCALE))
    x = (np.arange(shape[1]) + 0.5) / GROUND_SCALE - GROUND_WIDTH / 2
    on_road = np.broadcast_to(np.abs(x) < KERB, shape)
    labels = np.where(on_road, ROAD, PAVEMENT).astype(np.uint8)
    asphalt = np.array((1.0, 1.0, 1.02)) * rng.uniform(78, 118)
    slabs = np.array((1.0, 0.97, 0.93)) * rng.uniform(105, 150)
    grain = noise(rng, shape, 2) * 0.07 + noise(rng, shape, 20) * 0.05
    grain += noise(rng, shape, 150) * 0.06
    tile = np.where(on_road[..., None], asphalt, slabs) * (1 + grain[..., None])
    tile[:, (np.abs(x) > KERB) & (np.abs(x) < KERB + 0.16)] = (168, 165, 158)
    tile[:, (np.abs(x) > KERB - 0.12) & (np.abs(x) < KERB)] *= 0.72
    joints = np.zeros(shape, bool)
    joints[::int(0.6 * GROUND_SCALE)] = True
    tile[joints & ~on_road] *= 0.82
    for _ in range(7):  # repairs
        z = rng.integers(0, shape[0] - 200)
        left = int((GROUND_WIDTH / 2 + rng.uniform(-4, 3)) * GROUND_SCALE)
        patch = tile[z:z + rng.integers(20, 200), left:left + rng.integers(10, 45)]
        patch *= rng.uniform(0.75, 1.15)
    tile = np.clip(tile, 0, 255).astype(np.uint8)
    _markings(rng, tile)
    return _shaded(rng, tile, shady_side), labels


def _shaded(rng, tile, side):
    if side:
        x = (np.arange(tile.shape[1]) + 0.5) / GROUND_SCALE - GROUND_WIDTH / 2
        reach = rng.uniform(-1, 4) + rng.uniform(-1.5, 1.5, 12).repeat(tile.shape[0] // 12)
        dark = (x[None] * side > reach[:, None]).astype(np.float32)
        tile = tile * (1 - 0.5 * cv2.GaussianBlur(dark, (5, 5), 0)[..., None])
    return tile.astype(np.uint8)


def _markings(rng, tile):
    def box(x, half, start, end, colour):
        left, right = (int((GROUND_WIDTH / 2 + x + s * half) * GROUND_SCALE) for s in (-1, 1))
        part = tile[int(start * GROUND_SCALE):int(end * GROUND_SCALE), left:right + 1]
        part[:] = cv2.addWeighted(part, 0.25, np.full_like(part, colour), 0.75, 0)

    white, yellow = (225, 225, 220), (205, 175, 70)
    for start in np.arange(0, GROUND_LENGTH, 6.0):
        box(0, 0.06, start, start + rng.choice([2.0, 4.0]), white)
    for side in (-1, 1):
        kind = rng.integers(3)
        if kind == 0:
            for inset in (0.3, 0.55):
                box(side * (KERB - inset), 0.05, 0, GROUND_LENGTH, yellow)
        elif kind == 1:
            box(side * 2.85, 0.05, 0, GROUND_LENGTH, white)
    if rng.random() < 0.5:
        for x in np.arange(-4.2, 4.3, 1.2):
            box(x, 0.3, CROSSING - 1.5, CROSSING + 1.5, white)


def clouds(rng, amount):
    """Return float32 cloud cover, 0..1, of shape CLOUDS; `amount` 0..1 says how much."""
    cover = sum(noise(rng, CLOUDS, cell) * cell for cell in (96, 48, 24, 12, 6)) / 110
    return np.clip((cover + amount * 2 - 0.8) * 1.2, 0, 1).astype(np.float32)
