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

"""Rendered pictures for tests, cached because drawing one takes longer than testing with it."""

from functools import cache

import numpy as np

from segnet_ros.sample_drive.drive import SampleDrive


@cache
def picture(index: int, size: tuple[int, int]) -> np.ndarray:
    """Return frame `index` of the sample drive, (*size, 3) uint8 RGB, read-only."""
    image = _street(size).frame(index)[0]
    image.flags.writeable = False  # shared by all callers
    return image


@cache
def _street(size: tuple[int, int]) -> SampleDrive:
    return SampleDrive(0, size)
