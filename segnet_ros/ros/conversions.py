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

Knows messages, but leaves the meaning of their encodings to encodings.py. Knows nothing of nodes,
topics or networks.
"""

import numpy as np
from sensor_msgs.msg import CompressedImage, Image
from std_msgs.msg import Header

from segnet_ros.encodings import PACKED_8, SUPPORTED_ENCODINGS, unpack_compressed, unpack_image
from segnet_ros.frames import encode_image


def stamp_ns(header: Header) -> int:
    """Return the stamp in nanoseconds; rclpy's Time would raise for those before 1970."""
    return header.stamp.sec * 10**9 + header.stamp.nanosec


def image_from_message(msg: Image | CompressedImage) -> np.ndarray:
    """
    Return the message's image as RGB, (H, W, 3) uint8.

    The tables of encodings.py come first, so that an image looks the same with any cv_bridge or
    none; cv_bridge is only asked about encodings that they lack.

    :raises ImageConversionError: if the message holds no readable image.
    """
    if isinstance(msg, CompressedImage):
        return unpack_compressed(msg)
    image = None if msg.encoding in SUPPORTED_ENCODINGS else _ask_cv_bridge(msg)
    return unpack_image(msg) if image is None else image


def preallocated_image(encoding: str, height: int, width: int) -> tuple[Image, np.ndarray]:
    """
    Return a reusable Image message and a writable view of its data.

    The view is uint8, (H, W) for mono8 and (H, W, 3) for rgb8; step is W * channels. Write into
    the view: an ndarray assigned to msg.data would be copied byte by byte in Python.
    """
    channels, _ = PACKED_8[encoding]
    msg = Image(height=height, width=width, encoding=encoding, step=width * channels)
    msg.data.frombytes(bytes(height * width * channels))
    shape = (height, width) if channels == 1 else (height, width, channels)
    return msg, np.frombuffer(msg.data, np.uint8).reshape(shape)


def compressed_message(image: np.ndarray, codec: str, header: Header,
                       jpeg_quality: int = 90) -> CompressedImage:
    """
    Return an image as a CompressedImage, with its format written as by image_transport.

    :param image: uint8, (H, W) grey or (H, W, 3) RGB.
    :param codec: 'png', which keeps every value (masks), or 'jpeg', which does not.
    :param jpeg_quality: 1 to 100; png ignores it.
    """
    source, stored = ('mono8', '') if image.ndim == 2 else ('rgb8', 'bgr8')
    msg = CompressedImage(header=header, format=f'{source}; {codec} compressed {stored}')
    msg.data.frombytes(encode_image(image, codec, jpeg_quality))
    return msg


def _ask_cv_bridge(msg: Image) -> np.ndarray | None:
    """
    Return the image as cv_bridge reads an encoding that our tables lack; None if it cannot.

    cv_bridge is imported only here, since one built for another numpy can crash the process. Names
    such as 32FC1 do not specify a colour; cv_bridge would make arbitrary pixels of them.
    """
    if not msg.encoding[:1].isdigit():
        try:
            from cv_bridge import CvBridge
            image = CvBridge().imgmsg_to_cv2(msg, 'rgb8')
            if image.dtype == np.uint8 and image.shape == (msg.height, msg.width, 3):
                return image
        except Exception:  # noqa: BLE001  Versions raise different errors for unreadable images.
            pass
    return None
