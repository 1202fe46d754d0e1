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

"""Ground-truth label maps as annotation files: PNGs of class ids, named like their images."""

from pathlib import Path

import cv2
import numpy as np

from segnet_ros.frames import decode_pixels, is_image_file
from segnet_ros.labels import LabelSet


def annotation_files(folder: Path) -> list[Path]:
    """Return the PNGs in a folder, by name."""
    return sorted(path for path in folder.glob('*') if is_image_file(path)
                  and path.suffix.lower() == '.png' and path.is_file())


def annotations_by_stem(folder: Path) -> dict[str, Path]:
    """Return the annotations in a folder by the stem of their images."""
    return {path.stem: path for path in annotation_files(folder)}


def read_annotation(path: Path, label_set: LabelSet) -> np.ndarray:
    """
    Return a ground-truth label map, (H, W) uint8 class ids, VOID for pixels without a class.

    :raises ValueError: naming the file, if it is not an image of this label set's class ids.
    """
    # Read the bytes here: OpenCV crashes on a file name that is not valid text.
    content = path.read_bytes()
    try:
        annotation = decode_pixels(content, cv2.IMREAD_UNCHANGED)
    except ValueError as error:
        raise ValueError(f'{path}: {error}') from error
    if annotation.ndim == 3:
        raise ValueError(f'{path} holds colours, {annotation.shape}; it must hold class ids in '
                         'one channel (for a palette PNG, save the ids as greyscale with Pillow: '
                         'Image.fromarray(np.array(Image.open(path))))')
    if annotation.dtype != np.uint8:
        raise ValueError(f'{path} is {annotation.dtype}; it must hold class ids in one channel '
                         'of uint8')
    depth = content[24] if content.startswith(b'\x89PNG') else 8  # PNG specification, 11.2.2
    if depth < 8:  # OpenCV stretches 1, 2 and 4 bits to 0 to 255
        annotation //= 255 // (2**depth - 1)
    try:
        return label_set.from_file_ids(annotation)
    except ValueError as error:
        raise ValueError(f'{path}: {error}') from error
