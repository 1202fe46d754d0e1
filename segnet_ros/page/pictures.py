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
Prepare visitors' pictures for the network, and arrays for the browser.

Knows nothing of networks or of the page.
"""

import base64
from dataclasses import dataclass
from pathlib import Path
import warnings

import cv2
import numpy as np
from PIL import Image

from segnet_ros.frames import decode_image, encode_image, shown_name

MAX_SIDE = 1600  # pixels; the network looks at fewer, a screen shows no more
MAX_PIXELS = 120_000_000  # of a file: 360 MB once decoded
THUMBNAIL_HEIGHT = 160
JPEG_QUALITY = 88
MAX_ASPECT = 8  # the network needs some height and some width

# Pillow's own limits: it warns from 90 million pixels on, which are not too many here.
warnings.filterwarnings('ignore', category=Image.DecompressionBombWarning)


@dataclass(frozen=True, eq=False)
class Picture:
    """
    One picture to segment.

    :param image: (H, W, 3) uint8 RGB.
    :param caption: where it comes from, in words for the visitor; plain text.
    """

    image: np.ndarray
    caption: str


def fit_picture(image: np.ndarray, caption: str, max_side: int = MAX_SIDE) -> Picture:
    """
    Return the picture of an image of any size; the caption says if it was scaled down.

    :param image: (H, W, 3) uint8 RGB.
    :raises ValueError: if it is so thin that nothing could be seen in it.
    """
    height, width = image.shape[:2]
    if max(height, width) > MAX_ASPECT * min(height, width):
        raise ValueError(f'{caption} is {width} x {height} pixels: too thin a strip '
                         'to be a street')
    scale = max_side / max(height, width)
    if scale < 1:
        image = cv2.resize(image, (round(width * scale), round(height * scale)),
                           interpolation=cv2.INTER_AREA)
        caption += f' (scaled down from {width} x {height})'
    return Picture(image, caption)


def read_picture(path: str | Path) -> Picture:
    """
    Read an image file as a visitor sees it: upright by its EXIF, grey and palettes as RGB.

    A WebP's EXIF is not looked at.

    :raises ValueError: saying why it cannot be used, without naming its folder.
    """
    path = Path(path)
    name = shown_name(path.name)
    try:
        with Image.open(path) as header:  # reads no pixels
            pixels = header.width * header.height
        if pixels > MAX_PIXELS:
            raise Image.DecompressionBombError
        image = decode_image(path.read_bytes(), upright=True)
    except Image.DecompressionBombError:
        raise ValueError(f'{name} is too large: at most {MAX_PIXELS // 10**6} million pixels '
                         'can be segmented. Scale it down first.') from None
    except (OSError, SyntaxError, ValueError):  # Pillow raises SyntaxError for some damage
        raise ValueError(f'{name} is not a picture that can be read: it is damaged, or not a '
                         'JPEG, PNG, WebP or BMP.') from None
    return fit_picture(image, name)


def thumbnail(image: np.ndarray) -> np.ndarray:
    """Return the image scaled to THUMBNAIL_HEIGHT, uint8 RGB."""
    width = max(1, round(image.shape[1] * THUMBNAIL_HEIGHT / image.shape[0]))
    return cv2.resize(image, (width, THUMBNAIL_HEIGHT), interpolation=cv2.INTER_AREA)


def data_uri(image: np.ndarray, kind: str) -> str:
    """
    Return the image as a data: URI, so that the page is self-contained.

    :param image: (H, W, 3) uint8 RGB, or (H, W) uint8.
    :param kind: 'jpeg', or 'png', which is exact.
    """
    data = encode_image(image, kind, JPEG_QUALITY)
    return f'data:image/{kind};base64,' + base64.b64encode(data).decode()
