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
Frame, the common form of all recorded images; decoding and encoding of images.

Knows nothing of folders, videos, bags or ROS.
"""

import contextlib
from dataclasses import dataclass
import os
from pathlib import Path
import re

import cv2
import numpy as np

# Of what decode_image reads. Browsers on Windows save JPEGs as .jfif.
IMAGE_SUFFIXES = ('.png', '.jpg', '.jpeg', '.jpe', '.jfif', '.bmp', '.webp')
# The start of a JPEG segment; its length follows.
JPEG_MARKER = re.compile(rb'\xff+([^\x00\xff])')


@dataclass(frozen=True, eq=False)
class Frame:
    """
    One image of a recording.

    :param index: its place in the recording, from 0; unreadable frames are counted too.
    :param stamp_ns: when it was taken, in nanoseconds; from 0 if no clock was recorded.
    :param frame_id: the camera's coordinate frame.
    :param name: short: an image file's stem, else the index.
    :param image: (H, W, 3) uint8 RGB.
    :param record_ns: when a bag recorded it; None if it is not from a bag.
    """

    index: int
    stamp_ns: int
    frame_id: str
    name: str
    image: np.ndarray
    record_ns: int | None = None


def shown_name(name: str) -> str:
    """Return a file's name as valid text, for pages and pictures: names may be any bytes."""
    return os.fsencode(name).decode(errors='replace')


def is_image_file(path: Path) -> bool:
    """Tell by its name whether a file is an image; macOS's hidden ._NAME.jpg are not."""
    return path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith('.')


def decode_image(data: bytes, upright: bool = False, keep_grey: bool = False) -> np.ndarray:
    """
    Return an encoded image (JPEG, PNG, BMP, WebP) as RGB, (H, W, 3) uint8.

    :param upright: rotate the image by its EXIF orientation, which OpenCV finds in all but WebP.
        Right for photographs; wrong for camera messages, whose calibration is for the image as it
        is.
    :param keep_grey: return a grey image as it is stored, (H, W) uint8.
    :raises ValueError: if the data are not a whole image.
    """
    flags = cv2.IMREAD_ANYCOLOR if keep_grey else cv2.IMREAD_COLOR
    if not upright:
        flags |= cv2.IMREAD_IGNORE_ORIENTATION
    image = decode_pixels(data, flags)
    return image if image.ndim == 2 else cv2.cvtColor(image, cv2.COLOR_BGR2RGB, image)


def decode_pixels(data: bytes, flags: int) -> np.ndarray:
    """Return what cv2.imdecode does; ValueError if the data are not a whole image."""
    image, why = None, ''
    if is_whole_image(data):
        try:  # OpenCV returns None for most bad data and raises for some, such as huge images
            image = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
        except cv2.error as error:
            why = f': {error.err}'
    if image is None:
        raise ValueError(f'the {len(data)} bytes are not a whole image that OpenCV can read{why}')
    return image


def encode_image(image: np.ndarray, codec: str, jpeg_quality: int = 95) -> bytes:
    """
    Return an image's encoded bytes.

    :param image: uint8, (H, W) grey or (H, W, 3) RGB.
    :param codec: 'png', which keeps every value (for masks), or 'jpeg', which does not.
    :param jpeg_quality: 1 to 100; unused for png.
    :raises ValueError: if the image is too large for the codec.
    """
    pixels = image if image.ndim == 2 else cv2.cvtColor(image, cv2.COLOR_RGB2BGR)
    options = [cv2.IMWRITE_JPEG_QUALITY, jpeg_quality] if codec == 'jpeg' else []
    with contextlib.suppress(cv2.error):  # 4.6 (Ubuntu 24.04) raises where 4.11 returns False
        done, data = cv2.imencode(f'.{codec}', pixels, options)
        if done:
            return data.tobytes()
    raise ValueError(f'{image.shape[1]}x{image.shape[0]} pixels are too many for a {codec}')


def is_whole_image(data: bytes) -> bool:
    """
    Tell whether encoded data reach from their signature to their end marker.

    Only such data go to OpenCV: 4.6 (Ubuntu 24.04) fills the missing part of a truncated JPEG
    with grey, and 4.11 allocates gigabytes for a PNG whose chunk lengths are garbage. BMP has no
    end marker.
    """
    if data.startswith(b'\xff\xd8'):
        return _is_whole_jpeg(data)
    if data.startswith(b'\x89PNG\r\n\x1a\n'):
        chunk = 8
        while data[chunk:chunk + 8] != b'\0\0\0\0IEND' and chunk < len(data):
            chunk += 12 + int.from_bytes(data[chunk:chunk + 4], 'big')
        return chunk < len(data)
    return data.startswith(b'BM') or (data.startswith(b'RIFF') and data[8:12] == b'WEBP')


def _is_whole_jpeg(data: bytes) -> bool:
    """Tell whether an end (FF D9) follows the first scan (FF DA); phones may append a video."""
    place = 2
    # Go segment by segment: a thumbnail in one of them has scans and an end of its own.
    while marker := JPEG_MARKER.search(data, place):
        if marker[1] == b'\xda':
            return data.find(b'\xff\xd9', marker.end()) >= 0
        place = marker.end() + int.from_bytes(data[marker.end():marker.end() + 2], 'big')
    return False
