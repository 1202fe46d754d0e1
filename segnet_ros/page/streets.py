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
Samples and random streets from this machine: the sample drive, and a folder of pictures.

Street View's random streets are in street_view.py. Knows nothing of the page.
"""

from collections.abc import Callable, Iterator
from functools import partial
import os
from pathlib import Path
import random
from typing import Protocol

import numpy as np

from segnet_ros.frames import IMAGE_SUFFIXES, is_image_file, shown_name
from segnet_ros.page.pictures import fit_picture, Picture, read_picture
from segnet_ros.sample_drive.drive import SAMPLE_FRAMES, SampleDrive

ANYWHERE = 'anywhere'
DRIVE_SAMPLES = 6
MISSING = np.full((120, 160, 3), 200, np.uint8)  # stands for a sample that cannot be read

# Reads a picture of the gallery, or raises ValueError.
Sample = Callable[[], Picture]


class Streets(Protocol):
    """
    Where random streets come from.

    `countries` are the names to choose from, the first of them ANYWHERE.
    """

    countries: tuple[str, ...]

    def random_picture(self, country: str, rng: random.Random) -> Picture:
        """Return a random picture of a country; if there is none, a ValueError says why."""


class DriveStreets:
    """Synthetic streets, drawn by the sample drive."""

    countries: tuple[str, ...] = (ANYWHERE,)

    def random_picture(self, country: str, rng: random.Random) -> Picture:
        """Return any frame of any drive."""
        return _drive_picture(rng.randrange(100_000), rng.randrange(SAMPLE_FRAMES))


class FolderStreets:
    """
    The pictures in a folder; its subfolders are the countries.

    :raises FileNotFoundError, ValueError: if there is no such folder, or no picture in it.
    """

    def __init__(self, folder: str | Path):
        folder = Path(folder)
        if not folder.is_dir():
            raise FileNotFoundError(f"--samples: no folder '{folder}'")
        self.files = sorted(_images_below(folder))
        if not self.files:
            raise ValueError(f'--samples: {folder} holds no images ({", ".join(IMAGE_SUFFIXES)})')
        self._by_country: dict[str, list[Path]] = {ANYWHERE: list(self.files)}
        for path in self.files:
            first, *rest = path.relative_to(folder).parts
            if rest and first != ANYWHERE:
                self._by_country.setdefault(shown_name(first), []).append(path)
        self.countries = tuple(self._by_country)

    def random_picture(self, country: str, rng: random.Random) -> Picture:
        """Return a random picture of a country."""
        return read_picture(rng.choice(self._by_country[country]))


def _images_below(folder: Path) -> Iterator[Path]:
    """Yield the images in a folder and those below it, linked ones too, each folder once."""
    seen = {folder.resolve()}
    for place, folders, names in os.walk(folder, followlinks=True):
        here = Path(place)
        for name in sorted(folders):
            # Not .thumbnails, the bin and the like; nor where a link leads back.
            if name.startswith('.') or (real := (here / name).resolve()) in seen:
                folders.remove(name)
            else:
                seen.add(real)
        yield from (path for name in names
                    if is_image_file(path := here / name) and path.is_file())


def drive_samples() -> list[Sample]:
    """Return a few frames of different drives."""
    return [partial(_drive_picture, seed, 20 * seed + 5) for seed in range(DRIVE_SAMPLES)]


def folder_samples(folder: FolderStreets) -> list[Sample]:
    """Return every picture of a folder."""
    return [partial(read_picture, path) for path in folder.files]


def _drive_picture(seed: int, index: int) -> Picture:
    image, _ = SampleDrive(seed).frame(index)
    return fit_picture(image, f'Sample drive {seed}, frame {index}: drawn, not photographed')
