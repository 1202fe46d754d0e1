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
Write a new rosbag2 file by file, so that a killed run resumes after its last whole file.

The result is what `ros2 bag record --max-bag-duration` makes: one folder, several files, one
metadata.yaml. Until it is complete the folder is called NAME.partial. Knows nothing of images.
"""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
import fcntl
import json
import os
from pathlib import Path
import shutil

from rosbags.interfaces import Connection, Qos
from rosbags.rosbag2 import StoragePlugin, Writer
import yaml

from segnet_ros.bags.reading import check_storage_path
from segnet_ros.whole_file import errors_named, whole_file

KEY = 'segnet_ros'  # of our entry in a bag's custom data
ROOT = 'rosbag2_bagfile_information'
PART = '.part.yaml'


@dataclass(frozen=True)
class OutTopic:
    """A topic of the new bag; definition and digest are its type's, as rosbags gives them."""

    name: str
    type_name: str
    definition: str
    digest: str
    qos: Sequence[Qos] = ()


class SplitBag:
    """
    Writes messages to file after file; use it in a `with` block.

    A file counts once its metadata are next to it, which is the last step of making it; anything
    else left by a kill is overwritten. If the caller ends each file at a point that depends only
    on its input, a killed and resumed run gives the same bytes as an uninterrupted one.

    :param out: folder to create.
    :param topics: all topics of the new bag, with or without messages.
    :param recipe: plain values that say what the bag is made from and how. They are stored in it,
        and a partial bag is resumed only with the same recipe.
    :param storage: 'mcap' or 'sqlite3'.
    :raises ValueError: if `out` exists, another process is writing it, or it was begun with
        another recipe.
    """

    def __init__(self, out: str | Path, topics: Sequence[OutTopic], recipe: dict,
                 storage: str = 'mcap'):
        self.out = Path(out)
        self.partial = self.out.parent / (self.out.name + '.partial')
        self.state: dict = {}  # what end_file was last given; {} if no file is whole
        self._topics, self._recipe = topics, recipe
        self._storage = StoragePlugin[storage.upper()]
        self._done: list[dict] = []  # the metadata of the files that are whole
        self._writer: Writer | None = None
        self._connections: dict[str, Connection] = {}

    def __enter__(self) -> 'SplitBag':
        """Lock the partial folder and find the files that are done."""
        if os.path.lexists(self.out):  # also a link to nothing
            raise ValueError(f'{self.out} already exists; remove it or choose another name')
        check_storage_path(self.out, self._storage.name.lower())
        self.partial.mkdir(parents=True, exist_ok=True)
        self._lock = os.open(self.partial, os.O_RDONLY)
        try:
            self._take_hold()
            self._find_done()
        except BaseException:
            os.close(self._lock)
            raise
        return self

    def __exit__(self, *error):
        """Leave the partial folder for another run, unless `complete` has been called."""
        if self._writer is not None:
            with suppress(Exception):  # fails too on a full disk, and the first error tells more
                self._writer.abort()
        os.close(self._lock)

    def write(self, topic: str, record_ns: int, cdr: bytes | memoryview):
        """Append a message to the current file."""
        with errors_named(self.partial):
            if self._writer is None:
                self._writer = self._begin_file()
            self._writer.write(self._connections[topic], record_ns, cdr)

    def end_file(self, state: dict):
        """Finish the current file; `state`, of plain values, says where its input ends."""
        self.state = state
        if self._writer is None:
            return
        folder, name = self._writer.path, self._writer.path.name
        with errors_named(self.partial):
            self._writer.set_custom_data(KEY, self._custom(state))
            self._writer.close()
        self._writer = None
        metadata = yaml.safe_load((folder / 'metadata.yaml').read_text())[ROOT]
        file = metadata['relative_file_paths'][0]
        (folder / file).rename(self.partial / file)
        (folder / 'metadata.yaml').rename(self.partial / (name + PART))
        self._done.append(metadata)

    def complete(self):
        """Merge the files' metadata and give the folder its final name."""
        with whole_file(self._metadata_file) as part:
            part.write_text(yaml.safe_dump({ROOT: self._joined()}, sort_keys=False))
        # If killed from here on, the next run finds the bag done and only repeats these steps.
        shutil.rmtree(self.partial / 'writing', ignore_errors=True)
        for path in self.partial.glob('*' + PART):
            path.unlink()
        self.partial.rename(self.out)

    @property
    def _metadata_file(self) -> Path:
        return self.partial / 'metadata.yaml'

    def _name(self, number: int) -> str:
        return f'{self.out.name}_{number}'

    def _custom(self, state: dict) -> str:
        return json.dumps({'recipe': self._recipe, 'state': state}, sort_keys=True)

    def _take_hold(self):
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise ValueError(f'{self.partial}: another process is writing to it') from error
        except OSError:
            pass  # NFS, as shared by a cluster, cannot lock folders

    def _find_done(self):
        whole = _read_metadata(self._metadata_file)
        self._done = [whole] if whole else []
        while not whole and (part := _read_metadata(
                self.partial / (self._name(len(self._done)) + PART))):
            self._done.append(part)
        if self._done:
            custom = _entry(self._done[-1])
            if custom.get('recipe') != self._recipe:
                raise ValueError(f'{self.partial} was started with a different input, weights or '
                                 'options; use the same again, or remove it')
            self.state = custom['state']

    def _begin_file(self) -> Writer:
        folder = self.partial / 'writing'
        shutil.rmtree(folder, ignore_errors=True)
        writer = Writer(folder / self._name(len(self._done)), version=9,
                        storage_plugin=self._storage)
        writer.open()
        self._connections = {
            topic.name: writer.add_connection(
                topic.name, topic.type_name, msgdef=topic.definition, rihs01=topic.digest,
                offered_qos_profiles=topic.qos)
            for topic in self._topics}
        return writer

    def _joined(self) -> dict:
        files = [file for metadata in self._done for file in metadata['files']]
        starts = [file['starting_time']['nanoseconds_since_epoch'] for file in files]
        ends = [start + file['duration']['nanoseconds']
                for start, file in zip(starts, files, strict=True)]
        topics = [{**topic, 'message_count': sum(m['topics_with_message_count'][i]['message_count']
                                                 for m in self._done)}
                  for i, topic in enumerate(self._done[0]['topics_with_message_count'])]
        return {**self._done[0],
                'relative_file_paths': [file['path'] for file in files],
                'duration': {'nanoseconds': max(ends) - min(starts)},
                'starting_time': {'nanoseconds_since_epoch': min(starts)},
                'message_count': sum(file['message_count'] for file in files),
                'topics_with_message_count': topics,
                'files': files,
                'custom_data': {KEY: self._custom(self.state)}}


def read_entry(bag: str | Path) -> dict:
    """Return 'recipe' and last 'state' of a complete bag; {} if SplitBag did not make it."""
    metadata = _read_metadata(Path(bag) / 'metadata.yaml')
    return _entry(metadata) if metadata else {}


def _read_metadata(file: Path) -> dict | None:
    """Return a bag's metadata; None if the file is missing or invalid, as after a power cut."""
    try:
        metadata = yaml.safe_load(file.read_text())[ROOT]
        # Check keys that are written last and read here: half a file may be valid YAML.
        return metadata if {'files', 'custom_data'} <= metadata.keys() else None
    except (OSError, UnicodeDecodeError, yaml.YAMLError, TypeError, KeyError, AttributeError):
        return None


def _entry(metadata: dict) -> dict:
    return json.loads((metadata.get('custom_data') or {}).get(KEY, '{}'))
