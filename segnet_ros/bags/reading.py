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
Read rosbag2 recordings (mcap or sqlite3) without ROS, through rosbags.

Messages come one at a time, so that memory does not grow with a recording: file by file, in order
of record time within each. Knows the layout of bags and of the two image messages; knows nothing
of nodes.
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
import errno
from pathlib import Path
import sys
import tempfile
from typing import Any

import numpy as np
from rosbags.interfaces import Connection, Qos, QosReliability
from rosbags.rosbag2 import Reader
from rosbags.serde import SerdeError
from rosbags.typesys import get_typestore, Stores

from segnet_ros.encodings import unpack_compressed, unpack_image

if sys.version_info >= (3, 14):
    from compression import zstd
else:  # comes with rosbags
    from backports import zstd

IMAGE, COMPRESSED = 'sensor_msgs/msg/Image', 'sensor_msgs/msg/CompressedImage'
PACKED = '.zstd'  # as a recorder that compresses by file leaves them
SUFFIXES = ('.mcap', '.db3', f'.mcap{PACKED}', f'.db3{PACKED}')
# rosbag2 leaves empty what it does not find, such as the definitions of actions' feedback.
KNOWN_DEFINITIONS = ("copy the bag without that topic, or in each .db3 file: sqlite3 FILE 'DELETE "
                     "FROM message_definitions WHERE encoding NOT IN (\"ros2msg\", \"ros2idl\")'")
ZSTD = b'\x28\xb5\x2f\xfd'  # begins what is compressed (RFC 8878, 3.1.1); CDR begins with 0

TYPES = get_typestore(Stores.ROS2_JAZZY)


@dataclass(frozen=True)
class BagTopic:
    """
    A topic of a bag.

    :param type_name: '' if it has messages of several types.
    :param qos: what each of its recorded publishers offered, if known.
    """

    name: str
    type_name: str
    count: int
    qos: list[Qos]

    @property
    def is_best_effort(self) -> bool:
        """Tell whether all of its publishers are known to have offered best effort."""
        return bool(self.qos) and all(
            offered.reliability == QosReliability.BEST_EFFORT for offered in self.qos)

    @property
    def is_compressed(self) -> bool:
        """Tell whether its images are sensor_msgs/CompressedImage."""
        return self.type_name == COMPRESSED

    def moved_to(self, topic: str) -> str:
        """Return the name under which image_transport publishes its images for `topic`."""
        return compressed_topic(topic) if self.is_compressed else topic


@dataclass(frozen=True)
class RawMessage:
    """A recorded message as it went over the wire: CDR with its four-byte header."""

    topic: str
    type_name: str
    record_ns: int
    cdr: bytes


def compressed_topic(topic: str) -> str:
    """Return the name that image_transport gives to the compressed images of a topic."""
    suffix = '/compressed'
    return topic if topic.endswith(suffix) else topic + suffix


def is_bag(path: str | Path) -> bool:
    """Tell whether the path is a rosbag2: its folder, or one of its files."""
    path = Path(path)
    if path.is_dir():
        return (path / 'metadata.yaml').is_file() or bool(_storage_files(path))
    return path.is_file() and path.name.endswith(SUFFIXES)


@contextmanager
def open_bag(path: str | Path) -> Iterator[Reader]:
    """
    Open a bag with rosbags; read errors within the block become ValueError.

    If metadata.yaml is missing from a folder, as after a crash, its only bag file is read.

    :raises ValueError: if the bag is damaged, of an unknown kind, or cannot be read whole.
    :raises OSError: if there is none, or it cannot be read at present.
    """
    path = Path(path)
    file = path
    if path.is_dir() and not (path / 'metadata.yaml').is_file():
        files = _storage_files(path)
        if len(files) != 1:
            raise ValueError(f'{path}: no metadata.yaml and {len(files)} bag files; '
                             'create it with `ros2 bag reindex` (it passes over .zstd: unpack '
                             'these first), or name one file')
        file = files[0]
    if file.suffix == PACKED:
        raise ValueError(f'{file} is compressed; name its folder, or unpack it with zstd -d')
    _check_database(file)
    try:
        with Reader(file) as reader:
            _reconcile(reader)
            yield reader
    except UnicodeDecodeError as error:
        raise ValueError(f'{path} cannot be read as a rosbag2: {error}') from error
    except (ValueError, MemoryError):
        raise
    except Exception as error:
        # A disk or network error does not mean a damaged bag; an invalid seek does.
        if isinstance(error, OSError) and error.errno != errno.EINVAL:
            if error.errno == errno.ENOSPC:
                raise OSError(error.errno, 'it is compressed by file, and no space is left to '
                              f'unpack it in {tempfile.gettempdir()}; set TMPDIR to a larger '
                              'folder', str(path)) from error
            raise
        if isinstance(error, KeyError) and isinstance(error.args[0], str):
            raise ValueError(f'{path}: a topic has a message definition of encoding {error}, '
                             f'which rosbags cannot read; {KNOWN_DEFINITIONS}') from error
        # rosbags passes on whatever its storage libraries raise for a damaged file.
        raise ValueError('; '.join([f'{path} cannot be read as a rosbag2: {error}',
                                    *_advice(path)])) from error


def bag_topics(path: str | Path) -> list[BagTopic]:
    """Return the topics of a bag, sorted by name."""
    with open_bag(path) as reader:
        return [_topic(name, info.connections) for name, info in sorted(reader.topics.items())]


def bag_period_ns(path: str | Path) -> int:
    """Return the mean time from one message of a bag to the next in ns; a second if unknown."""
    with open_bag(path) as reader:
        if reader.message_count < 2:
            return 10**9
        return (reader.duration - 1) // (reader.message_count - 1) or 10**9


def read_messages(path: str | Path, topics: Iterable[str] | None = None) -> Iterator[RawMessage]:
    """
    Yield a bag's messages, of all topics or of those named, file by file in order of record time.

    :raises ValueError: if damage cuts the bag short; after the last message, if its metadata
        list more.
    """
    wanted = None if topics is None else set(topics)
    with open_bag(path) as reader:
        connections = [c for c in reader.connections if wanted is None or c.topic in wanted]
        missing = {c.topic: reader.topics[c.topic].msgcount for c in connections}
        for connection, record_ns, cdr in reader.messages(connections) if connections else ():
            missing[connection.topic] -= 1
            if bytes(cdr[:4]) == ZSTD:  # only metadata.yaml says so, which a crash leaves out
                cdr = zstd.decompress(cdr)
            yield RawMessage(connection.topic, connection.msgtype, record_ns, bytes(cdr))
    lost = [f'{count} of {topic}' for topic, count in missing.items() if count > 0]
    if lost:
        raise ValueError(f'{path}: its metadata lists more messages than its files hold: '
                         f'{", ".join(lost)}; if the metadata is wrong, run `ros2 bag reindex`')


def image_topic(path: str | Path, topic: str | None = None,
                option: str = '--topic') -> BagTopic:
    """
    Return the named image topic of a bag; without a name, the only one that has messages.

    :param option: the command-line option that names a topic, for the error message only.
    :raises ValueError: listing the image topics, unless exactly one fits.
    """
    images = [t for t in bag_topics(path) if t.type_name in (IMAGE, COMPRESSED) and t.count]
    found = [t for t in images if topic in (None, t.name)]
    if len(found) == 1:
        return found[0]
    names = ', '.join(f'{t.name} ({t.type_name.rsplit("/")[-1]}, {t.count})' for t in images)
    if not images:
        raise ValueError(f'{path} holds no images: none of its topics with messages is of type '
                         f'{IMAGE} or {COMPRESSED}')
    if topic is not None:
        raise ValueError(f"{path} has no image topic '{topic}'; it has {names}")
    raise ValueError(f'{path} has several image topics; choose one with {option}: {names}')


def decode_message(message: RawMessage) -> tuple[int, str, np.ndarray]:
    """
    Return stamp (nanoseconds), frame_id and image, (H, W, 3) uint8 RGB, of an image message.

    :raises ValueError: if its encoding is not one of encodings.SUPPORTED_ENCODINGS, its data are
        incomplete, or its stamp is no time.
    """
    try:
        msg: Any = TYPES.deserialize_cdr(message.cdr, message.type_name)
    except SerdeError as error:
        raise ValueError(f'{message.topic}: damaged message ({error})') from error
    stamp_ns = msg.header.stamp.sec * 10**9 + msg.header.stamp.nanosec
    if stamp_ns >= 2**31 * 10**9:
        raise ValueError(f'{message.topic}: {stamp_ns} ns is no time that a stamp can hold')
    try:
        image = unpack_compressed(msg) if message.type_name == COMPRESSED else unpack_image(msg)
    except ValueError as error:
        raise ValueError(f'{message.topic}, message at time {stamp_ns / 1e9:.3f}: '
                         f'{error}') from error
    return stamp_ns, msg.header.frame_id, image


def check_storage_path(path: str | Path, storage: str):
    """Raise ValueError if rosbags would take part of a path for an sqlite3 option."""
    if storage == 'sqlite3' and (found := sorted({*'#?%'} & {*str(path)})):
        raise ValueError(f"{path}: sqlite3 paths cannot contain {' '.join(found)}; rename it, "
                         'or use mcap')


def _check_database(path: Path):
    """Raise ValueError if an sqlite3 bag cannot be read whole."""
    for file in [path] if path.suffix == '.db3' else sorted(path.glob('*.db3*')):
        check_storage_path(file, 'sqlite3')
        for ahead in (file.with_name(file.name + suffix) for suffix in ('-wal', '-journal')):
            if ahead.is_file() and ahead.stat().st_size:
                raise ValueError(f'{ahead} is left of a crash, and the bag not whole without it; '
                                 f"let SQLite take it in: sqlite3 {file} 'PRAGMA "
                                 "wal_checkpoint(TRUNCATE)'")


def _reconcile(reader: Reader):
    """
    Give the topics in the files the QoS that metadata.yaml lists for them.

    rosbags silently skips all messages of a topic for which the two differ, for example if the
    tool that wrote one of them did not know about QoS.
    """
    told = {(c.topic, c.msgtype): c.ext for c in reader.connections}
    for storage in getattr(reader.storage, 'storages', ()):
        storage.connections = [c._replace(ext=told.get((c.topic, c.msgtype), c.ext))
                               for c in storage.connections]


def _advice(path: Path) -> Iterator[str]:
    """Yield what can be done about a bag that cannot be read."""
    damaged = [path]
    if path.is_dir():
        files = [file for file in _storage_files(path) if file.suffix != PACKED]
        damaged = [file for file in files if not _opens(file)]
        if damaged:
            yield f'damaged: {", ".join(file.name for file in damaged)}'
        if len(damaged) < len(files):
            yield 'its other files can be read one by one, by their names'
    if any(file.suffix == '.mcap' for file in damaged):
        yield '`mcap recover` may repair an .mcap that is damaged or has no index'


def _opens(file: Path) -> bool:
    with suppress(Exception), Reader(file):
        return True
    return False


def _storage_files(folder: Path) -> list[Path]:
    return [path for suffix in SUFFIXES for path in sorted(folder.glob('*' + suffix))]


def _topic(name: str, connections: list[Connection]) -> BagTopic:
    first, *others = {c.msgtype for c in connections}
    qos = [profile for c in connections for profile in getattr(c.ext, 'offered_qos_profiles', [])]
    return BagTopic(name, '' if others else first, sum(c.msgcount for c in connections), qos)
