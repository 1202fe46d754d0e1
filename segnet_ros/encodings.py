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
Decode ROS's image encodings: from a message's bytes to RGB.

Takes any object with the fields of sensor_msgs/Image, from a bag or over the wire; imports no
ROS. Anything that is not an image raises ImageConversionError, with one line on what is wrong.

Sources: sensor_msgs/image_encodings.hpp for the names, the Linux kernel's V4L2 pages on packed and
semi-planar YUV for the layouts. YUV is limited-range BT.601, as in OpenCV and cv_bridge.
"""

from typing import Any

import cv2
import numpy as np

from segnet_ros.frames import decode_image

# Encodings with whole pixels in one plane: name -> (channels, OpenCV's code to RGB).
# ROS names a Bayer mosaic by its first 2x2 pixels, OpenCV by those one row and column further on.
# 8UC3 and 8UC4 leave the channel order open: they are read as BGR(A), as OpenCV and RViz do.
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
# 16UC1 and the like are left out: they are depth images in ROS (REP 118).
PACKED_16 = {name.replace('8', '16'): layout
             for name, layout in PACKED_8.items() if not name.startswith('8UC')}
# Two pixels in four bytes, sharing their chroma. The first two are older names of the others.
YUV_422 = {
    'yuv422': cv2.COLOR_YUV2RGB_UYVY,
    'yuv422_yuy2': cv2.COLOR_YUV2RGB_YUY2,
    'uyvy': cv2.COLOR_YUV2RGB_UYVY,
    'yuyv': cv2.COLOR_YUV2RGB_YUY2,
}
# A plane of luma, then a plane of chroma pairs with half as many rows; 2x2 pixels share a pair.
YUV_420 = {
    'nv12': cv2.COLOR_YUV2RGB_NV12,
    'nv21': cv2.COLOR_YUV2RGB_NV21,
}
BAYER = {name: code for name, (_, code) in (PACKED_8 | PACKED_16).items()
         if name.startswith('bayer_')}
SUPPORTED_ENCODINGS = (*PACKED_8, *PACKED_16, *YUV_422, *YUV_420)


class ImageConversionError(ValueError):
    """Raised for a message without a readable image; the error's text says why."""


def unpack_image(msg: Any) -> np.ndarray:
    """
    Return the image of a raw message as RGB, (H, W, 3) uint8.

    rgb8 is not copied: the result is a view of msg.data, and with padded rows (step > 3 * W) its
    first stride is step. In other cases too, only the last two dimensions are sure to be
    contiguous. 16-bit samples are scaled by 255 / 65535 and rounded, as cv_bridge does; alpha is
    dropped. Subsampled YUV of odd size needs rows with room for the last whole group of pixels.

    :param msg: has height, width, encoding, is_bigendian, step and data (bytes-like).
    :raises ImageConversionError: if the encoding is unknown or sizes and data disagree.
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
        # With an odd height the last luma row is really chroma: garbage that is cropped below.
        luma, chroma = rows[:height + height % 2], rows[height:]
        return cv2.cvtColorTwoPlane(luma, chroma.reshape(-1, even_width // 2, 2),
                                    YUV_420[encoding])[:height, :width]
    raise ImageConversionError(f"encoding '{encoding}' is not supported; supported are "
                               + ', '.join(SUPPORTED_ENCODINGS))


def unpack_compressed(msg: Any) -> np.ndarray:
    """
    Return the image of a jpeg, png or webp message as RGB, (H, W, 3) uint8.

    Grey, alpha and 16-bit images become RGB too; a compressed Bayer mosaic, which image_transport
    names in the format ('bayer_rggb8; png compressed '), is demosaicked. An EXIF orientation is
    ignored: rotating the image would break the camera's calibration.

    :param msg: has the fields of sensor_msgs/CompressedImage: format and data (bytes-like).
    :raises ImageConversionError: if it is a depth image, or the data are not a whole image.
    """
    if is_depth(msg.format):
        raise ImageConversionError(
            f"format '{msg.format}': this is a depth image; subscribe to a colour image")
    data = bytes(msg.data)
    # image_transport's format names the source's encoding, then the stored one if it converted:
    # 'bayer_rggb8; png compressed ' is a mosaic, 'bayer_rggb8; jpeg compressed mono8' is grey.
    source, _, stored = msg.format.partition(';')
    converted = stored.rstrip().endswith((' mono8', ' bgr8'))
    code = None if converted else BAYER.get(source.strip())
    try:
        if data.startswith(b'BM'):  # not an image_transport format, and without an end marker
            raise ValueError('a bitmap')
        image = decode_image(data, keep_grey=code is not None)
    except ValueError as error:
        raise ImageConversionError(f"format '{msg.format}': the {len(data)} bytes are not a whole "
                                   'jpeg, png or webp image') from error
    if code is None:
        return image
    if image.ndim == 3:
        mosaic = image[..., 0]
        if (image != mosaic[..., None]).any():
            return image  # named after the sensor, but already demosaicked
        image = np.ascontiguousarray(mosaic)  # WebP has no grey images
    return _to_rgb(image, code)


def is_depth(encoding: str) -> bool:
    """
    Tell whether an encoding, or a compressed image's format, is that of depth images.

    These have one channel and name no colour: 16UC1 and 32FC1 hold distances (REP 118).
    """
    name = encoding.partition(';')[0].strip()
    return 'compressedDepth' in encoding or (
        name[:1].isdigit() and name.endswith('C1') and name not in SUPPORTED_ENCODINGS)


def _to_rgb(pixels: np.ndarray, code: int | None) -> np.ndarray:
    """Convert (H, W, C) uint8 by an OpenCV code; None means that it is RGB already."""
    if code is None:
        return pixels
    height, width = pixels.shape[:2]
    if min(height, width) < 3 and code in BAYER.values():
        # OpenCV leaves so small a mosaic black; mirroring about its edge pixels keeps the mosaic.
        larger = cv2.copyMakeBorder(pixels, 2, 2, 2, 2, cv2.BORDER_REFLECT_101)
        return cv2.cvtColor(larger, code)[2:-2, 2:-2]
    return cv2.cvtColor(pixels, code)


def _rows(msg: Any, row_bytes: int, chroma_rows: int = 0) -> np.ndarray:
    """
    Return a view of the data, (height + chroma_rows, step) uint8.

    :raises ImageConversionError: if the image is empty or its sizes disagree.
    """
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
