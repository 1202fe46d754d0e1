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

"""Write frames as a rosbag2 recording (mcap or sqlite3) without ROS, through rosbags."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
import re
import shutil
from typing import Any

import numpy as np
from rosbags.rosbag2 import StoragePlugin, Writer

from segnet_ros.bags.reading import check_storage_path, COMPRESSED, IMAGE, TYPES
from segnet_ros.frames import encode_image, Frame
from segnet_ros.whole_file import errors_named

STORAGES = ('mcap', 'sqlite3')
IMAGE_FORMATS = ('raw', 'jpeg', 'png')


def write_bag(frames: Iterable[Frame], out: str | Path, topic: str = '/image',
              storage: str = 'mcap', image_format: str = 'raw') -> int:
    """
    Write frames as a new rosbag2 folder; return how many there were.

    Record times are the frames' own, else their stamps. For progress, pass tqdm(frames).

    :param out: folder to create; it is removed again if writing fails.
    :param storage: 'mcap' or 'sqlite3'.
    :param image_format: 'raw' (sensor_msgs/Image, rgb8), or 'jpeg' or 'png'
        (sensor_msgs/CompressedImage).
    :raises ValueError: if `out` exists already, an argument is wrong, or there is no frame.
    """
    out = Path(out)
    for value, known in ((storage, STORAGES), (image_format, IMAGE_FORMATS)):
        if value not in known:
            raise ValueError(f"'{value}' is not one of {', '.join(known)}")
    if not re.fullmatch(r'/?[A-Za-z_]\w*(/[A-Za-z_]\w*)*', topic, re.ASCII):
        raise ValueError(f"'{topic}' is no topic name: between slashes it takes letters, digits "
                         'and underscores, a digit not first')
    if out.exists():
        raise ValueError(f'{out} already exists; remove it or choose another name')
    check_storage_path(out, storage)
    raw = image_format == 'raw'
    type_name = IMAGE if raw else COMPRESSED
    count = 0
    try:
        with _bag_writer(out, storage) as writer:
            connection = writer.add_connection(topic, type_name, typestore=TYPES)
            for frame in frames:
                msg = _raw_message(frame) if raw else _compressed_message(frame, image_format)
                record_ns = frame.stamp_ns if frame.record_ns is None else frame.record_ns
                with errors_named(out):
                    writer.write(connection, record_ns, TYPES.serialize_cdr(msg, type_name))
                count += 1
        if not count:
            raise ValueError(f'{out} was not written: the source has no frames')
    except BaseException:
        shutil.rmtree(out, ignore_errors=True)
        raise
    return count


@contextmanager
def _bag_writer(out: Path, storage: str) -> Iterator[Writer]:
    """Yield an open writer, and close it at the end of the block; errors of both name the bag."""
    writer = Writer(out, version=9, storage_plugin=StoragePlugin[storage.upper()])
    try:
        with errors_named(out):
            writer.open()
        yield writer
        with errors_named(out):
            writer.close()
    except BaseException:
        with suppress(Exception):  # fails too on a full disk, and the first error tells more
            writer.abort()
        raise


def make_header(stamp_ns: int, frame_id: str) -> Any:
    """Return a std_msgs/Header."""
    seconds, nanoseconds = divmod(stamp_ns, 10**9)
    stamp = TYPES.types['builtin_interfaces/msg/Time'](seconds, nanoseconds)
    return TYPES.types['std_msgs/msg/Header'](stamp, frame_id)


def _raw_message(frame: Frame) -> Any:
    height, width = frame.image.shape[:2]
    header = make_header(frame.stamp_ns, frame.frame_id)
    return TYPES.types[IMAGE](header, height, width, 'rgb8', 0, 3 * width,
                              np.ascontiguousarray(frame.image).reshape(-1))


def _compressed_message(frame: Frame, codec: str) -> Any:
    data = np.frombuffer(encode_image(frame.image, codec), np.uint8)
    header = make_header(frame.stamp_ns, frame.frame_id)
    return TYPES.types[COMPRESSED](header, f'rgb8; {codec} compressed bgr8', data)
