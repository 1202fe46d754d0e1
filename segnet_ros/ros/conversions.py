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
Conversions between image messages and arrays, both ways.

Knows what ROS's encodings mean and how rows lie in a message's data; knows nothing of nodes,
topics or networks. What comes in leaves as RGB, (H, W, 3) uint8; what is not an image raises
ImageConversionError, whose one line says what was wrong.

Sources: sensor_msgs/image_encodings.hpp for the names, the Linux kernel's V4L2 pages on packed and
semi-planar YUV for the layouts. YUV is BT.601 of limited range, as for OpenCV and cv_bridge.
"""

import contextlib

import cv2
import numpy as np
from sensor_msgs.msg import CompressedImage, Image
from std_msgs.msg import Header

from segnet_ros.frames import is_whole_image

# Encodings with whole pixels in one plane: name -> (channels, OpenCV's code to RGB).
# ROS names a Bayer mosaic after its first 2x2 pixels, OpenCV after those one row and column on.
# 8UC3 and 8UC4 leave the order open: they are read as BGR(A), as OpenCV keeps and RViz shows them.
PACKED_8 = {
    'rgb8': (3, None),
    'bgr8': (3, cv2.COLOR_BGR2RGB),
    'rgba8': (4, cv2.COLOR_RGBA2RGB),
    'bgra8': (4, cv2.COLOR_BGRA2RGB),
    'mono8': (1, cv2.COLOR_GRAY2RGB),
    'bayer_rggb8': (1, cv2.COLOR_BayerBG2RGB),
    'bayer_bggr8': (1, cv2.COLOR_BayerRG2RGB),
    'bayer_gbrg8': (1, cv2.COLOR_BayerGR2RGB),
    'bayer_grbg8': (1, cv2.COLOR_BayerGB2RGB),
    '8UC1': (1, cv2.COLOR_GRAY2RGB),
    '8UC3': (3, cv2.COLOR_BGR2RGB),
    '8UC4': (4, cv2.COLOR_BGRA2RGB),
}
# 16UC1 and its like are left out: they are depth images in ROS (REP 118).
PACKED_16 = {name.replace('8', '16'): layout
             for name, layout in PACKED_8.items() if not name.startswith('8UC')}
# Two pixels in four bytes, sharing their chroma. The first two names are older ones of the others.
YUV_422 = {
    'yuv422': cv2.COLOR_YUV2RGB_UYVY,
    'yuv422_yuy2': cv2.COLOR_YUV2RGB_YUY2,
    'uyvy': cv2.COLOR_YUV2RGB_UYVY,
    'yuyv': cv2.COLOR_YUV2RGB_YUY2,
}
# A plane of luma, then a plane of chroma pairs with half its rows; 2x2 pixels share a pair.
YUV_420 = {
    'nv12': cv2.COLOR_YUV2RGB_NV12,
    'nv21': cv2.COLOR_YUV2RGB_NV21,
}
BAYER = {name: code for name, (_, code) in (PACKED_8 | PACKED_16).items()
         if name.startswith('bayer_')}
# Distances (REP-118), which would make a picture of sorts.
DEPTH = ('16UC1', '32FC1')
SUPPORTED_ENCODINGS = (*PACKED_8, *PACKED_16, *YUV_422, *YUV_420)


class ImageConversionError(ValueError):
    """A message does not hold an image that can be read; the message says why."""


def image_from_message(msg: Image) -> np.ndarray:
    """
    Return the message's image as RGB, (H, W, 3) uint8.

    rgb8 is not copied: the result is a view of msg.data, and with padded rows (step > 3 * W) its
    first stride is step. Elsewhere too only the last two dimensions are sure to be contiguous.
    16-bit samples are scaled by 255 / 65535 and rounded, as cv_bridge does; alpha is dropped.
    Odd sizes of subsampled YUV need rows with room for the last whole group of pixels.

    The tables above come first, so that an image looks the same with every cv_bridge and without
    any; cv_bridge is asked for the names that they lack.

    :raises ImageConversionError: where the encoding is unknown or sizes and data disagree.
    """
    encoding, height, width = msg.encoding, msg.height, msg.width
    even_width = width + width % 2
    if encoding in PACKED_8:
        channels, code = PACKED_8[encoding]
        pixels = _rows(msg, width * channels)[:, :width * channels]
        return _to_rgb(pixels.reshape(height, width, channels), code)
    if encoding in PACKED_16:
        channels, code = PACKED_16[encoding]
        samples = _rows(msg, width * channels * 2)[:, :width * channels * 2].view(
            '>u2' if msg.is_bigendian else '<u2')
        return _to_rgb(_to_8_bits(samples).reshape(height, width, channels), code)
    if encoding in YUV_422:
        pairs = _rows(msg, even_width * 2)[:, :even_width * 2]
        return cv2.cvtColor(pairs.reshape(height, even_width, 2), YUV_422[encoding])[:, :width]
    if encoding in YUV_420:
        rows = _rows(msg, even_width, chroma_rows=(height + 1) // 2)[:, :even_width]
        # With an odd height the luma's last row is chroma: garbage that is cut off again.
        luma, chroma = rows[:height + height % 2], rows[height:]
        return cv2.cvtColorTwoPlane(luma, chroma.reshape(-1, even_width // 2, 2),
                                    YUV_420[encoding])[:height, :width]
    return _ask_cv_bridge(msg)


def image_from_compressed(msg: CompressedImage) -> np.ndarray:
    """
    Return a jpeg, png or webp message's image as RGB, (H, W, 3) uint8.

    Grey, alpha and 16-bit images become RGB too; a compressed Bayer mosaic, which image_transport
    names in the format ('bayer_rggb8; png compressed '), is demosaicked. An EXIF orientation is
    ignored: turning the image would break the camera's calibration.

    :raises ImageConversionError: where the data are no whole image.
    """
    stored = msg.format.partition(';')[0].strip()
    if 'compressedDepth' in msg.format or stored in DEPTH:
        raise ImageConversionError(
            f"format '{msg.format}': this is a depth image; subscribe to a colour image")
    bayer_code = BAYER.get(stored)
    flags = cv2.IMREAD_COLOR if bayer_code is None else cv2.IMREAD_GRAYSCALE
    data = bytes(msg.data)
    image = None
    if not data.startswith(b'BM') and is_whole_image(data):
        # OpenCV tells most bad data by None, some by an error.
        with contextlib.suppress(cv2.error):
            image = cv2.imdecode(np.frombuffer(data, np.uint8),
                                 flags | cv2.IMREAD_IGNORE_ORIENTATION)
    if image is None:
        raise ImageConversionError(f"format '{msg.format}': the {len(data)} bytes are not a whole "
                                   'jpeg, png or webp image')
    return _to_rgb(image, cv2.COLOR_BGR2RGB if bayer_code is None else bayer_code)


def preallocated_image(encoding: str, height: int, width: int) -> tuple[Image, np.ndarray]:
    """
    Return an Image message for publishing again and again, and a writable view of its data.

    The view is uint8, (H, W) for mono8 and (H, W, 3) for rgb8; step is W * channels. Write into
    it: an ndarray assigned to msg.data would be copied byte by byte in Python.
    """
    channels, _ = PACKED_8[encoding]
    msg = Image(height=height, width=width, encoding=encoding, step=width * channels)
    msg.data.frombytes(bytes(height * width * channels))
    shape = (height, width) if channels == 1 else (height, width, channels)
    return msg, np.frombuffer(msg.data, np.uint8).reshape(shape)


def compressed_message(image: np.ndarray, codec: str, header: Header,
                       jpeg_quality: int = 90) -> CompressedImage:
    """
    Return an image as a CompressedImage, its format in image_transport's words.

    :param image: uint8, (H, W) grey or (H, W, 3) RGB.
    :param codec: 'png', which keeps every value (masks), or 'jpeg', which does not.
    :param jpeg_quality: 1 to 100; png has none.
    """
    if image.ndim == 2:
        source, stored, pixels = 'mono8', '', image
    else:
        source, stored, pixels = 'rgb8', 'bgr8', cv2.cvtColor(image, cv2.COLOR_RGB2BGR)
    msg = CompressedImage(header=header, format=f'{source}; {codec} compressed {stored}')
    options = [cv2.IMWRITE_JPEG_QUALITY, jpeg_quality] if codec == 'jpeg' else []
    msg.data.frombytes(cv2.imencode(f'.{codec}', pixels, options)[1])
    return msg


def _rows(msg: Image, row_bytes: int, chroma_rows: int = 0) -> np.ndarray:
    """Return a view of the data, (height + chroma_rows, step) uint8, or say why there is none."""
    what = f'{msg.width}x{msg.height} {msg.encoding} image'
    if not msg.width or not msg.height:
        raise ImageConversionError(f'{what}: it is empty')
    if msg.step < row_bytes:
        raise ImageConversionError(
            f'{what}: a row needs at least {row_bytes} bytes, but step is {msg.step}')
    rows = msg.height + chroma_rows
    if len(msg.data) < rows * msg.step:
        raise ImageConversionError(f'{what}: {rows} rows of step {msg.step} are '
                                   f'{rows * msg.step} bytes, but data has {len(msg.data)}')
    return np.frombuffer(msg.data, np.uint8, rows * msg.step).reshape(rows, msg.step)


def _to_8_bits(samples: np.ndarray) -> np.ndarray:
    native = np.ascontiguousarray(samples, np.uint16)
    return cv2.convertScaleAbs(native, alpha=255 / 65535)


def _to_rgb(pixels: np.ndarray, code: int | None) -> np.ndarray:
    """Convert (H, W, C) uint8 by an OpenCV code; None means that it is RGB already."""
    if code is None:
        return pixels
    height, width = pixels.shape[:2]
    if min(height, width) < 3 and code in BAYER.values():
        # OpenCV leaves so small a mosaic black; mirrored around its edge pixels it stays a mosaic.
        larger = cv2.copyMakeBorder(pixels, 2, 2, 2, 2, cv2.BORDER_REFLECT_101)
        return cv2.cvtColor(larger, code)[2:-2, 2:-2]
    return cv2.cvtColor(pixels, code)


def _ask_cv_bridge(msg: Image) -> np.ndarray:
    """
    Return what an installed cv_bridge makes of an encoding that is not in our table.

    Imported only here, since a cv_bridge built for another numpy can crash the process. Names such
    as 32FC1 say nothing of colour, and cv_bridge would make arbitrary pixels of them.
    """
    if not msg.encoding[:1].isdigit():
        try:
            from cv_bridge import CvBridge
            image = CvBridge().imgmsg_to_cv2(msg, 'rgb8')
            if image.dtype == np.uint8 and image.shape == (msg.height, msg.width, 3):
                return image
        except Exception:  # noqa: BLE001  Its versions raise all kinds; none can read the image.
            pass
    raise ImageConversionError(f"encoding '{msg.encoding}' is not supported; supported are "
                               + ', '.join(SUPPORTED_ENCODINGS))
