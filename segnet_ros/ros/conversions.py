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

from segnet_ros.encodings import PACKED_8, unpack_compressed, unpack_image
from segnet_ros.frames import encode_image


def stamp_ns(header: Header) -> int:
    """Return the stamp in nanoseconds; rclpy's Time would raise for those before 1970."""
    return header.stamp.sec * 10**9 + header.stamp.nanosec


def image_from_message(msg: Image | CompressedImage) -> np.ndarray:
    """
    Return the message's image as RGB, (H, W, 3) uint8.

    :raises ImageConversionError: if the message holds no readable image.
    """
    return unpack_compressed(msg) if isinstance(msg, CompressedImage) else unpack_image(msg)


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
