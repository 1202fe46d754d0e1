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
Segment a whole rosbag2 into a new one: every image in order, no frame dropped.

Stamps and frame_ids are kept; a result has its image's record time. Knows nothing of nodes.
"""

from collections import deque
from collections.abc import Container, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass
import hashlib
from itertools import islice
from pathlib import Path

import numpy as np
from tqdm import tqdm

from segnet_ros.bags.cameras import camera_topics, check_names, copied_topics, result_prefixes
from segnet_ros.bags.reading import decode_message, open_bag, RawMessage, read_messages
from segnet_ros.bags.result_messages import CameraResults, RESULTS
from segnet_ros.bags.split_bag import read_entry, SplitBag
from segnet_ros.bags.writing import STORAGES
from segnet_ros.predictor import Predictor
from segnet_ros.sources import OnError

FILE_FRAMES = 1000  # per file of the new bag; after a kill up to this many are redone
DECODERS = 4  # threads; decoding a large image takes longer than segmenting it on a GPU
DECODED_AHEAD = 8  # images, while the network runs
BYTES_AHEAD = 256 * 2**20  # of all messages held in memory meanwhile
OVERHEAD = 256  # bytes that a message takes besides its data

Decoded = tuple[int, str, np.ndarray]  # what reading.decode_message returns


@dataclass(frozen=True)
class BagOptions:
    """
    What to segment in a bag, and what to write to the new one.

    :param results: which of result_messages.RESULTS; label_info goes with the mask.
    :param topics: image topics; () for all that hold camera images, except results of another
        segmentation.
    :param results_only: leave the originals out.
    :param file_frames: images for each file of the new bag.
    :param storage: of the new bag, 'mcap' or 'sqlite3'.
    """

    results: tuple[str, ...] = ('mask', 'statistics')
    topics: tuple[str, ...] = ()
    results_only: bool = False
    file_frames: int = FILE_FRAMES
    storage: str = 'mcap'

    def __post_init__(self):
        """Reject invalid values."""
        unknown = {*self.results} - {*RESULTS}
        if unknown or not self.results:
            raise ValueError(f'results {sorted(unknown)}: choose from {", ".join(RESULTS)}')
        if self.storage not in STORAGES:
            raise ValueError(f"'{self.storage}' is not one of {', '.join(STORAGES)}")
        if self.file_frames < 1:
            raise ValueError('each file of the new bag needs at least one frame')


@dataclass(frozen=True)
class BagOutcome:
    """
    The outcome of segmenting a bag.

    :param frames: images segmented, including those of an earlier, killed run.
    :param left_out: images that could not be read; their originals are copied all the same.
    :param resumed: how many of these an earlier run segmented.
    :param cameras_left_out: number of image topics left out because of their encoding.
    :param damaged: whether the bag held less than it should, or damage cut it short.
    """

    frames: int
    left_out: int
    resumed: int
    cameras_left_out: int
    damaged: bool

    @property
    def is_whole(self) -> bool:
        """Tell whether nothing was left out, by this run or an earlier one."""
        return not (self.left_out or self.cameras_left_out or self.damaged)


def segment_bag(source: str | Path, out: str | Path, predictor: Predictor,
                options: BagOptions | None = None, on_error: OnError = lambda error: None,
                progress: bool = False) -> BagOutcome:
    """
    Segment every image of a bag into a new bag; resume where a killed run stopped.

    A new bag that is already complete, from the same source and options, is left as it is.

    Results of /front/image_raw go to /front/segmentation/mask and so on. If image topics share a
    namespace, those of /front/left go to /front/left/segmentation/mask.

    :param on_error: called with the ValueError of each image, or camera, that cannot be read.
    :raises FileNotFoundError, ValueError: if the bag cannot be read or the new one not started.
    """
    options = options or BagOptions()
    made_by = recipe(source, predictor, options)
    before = read_entry(out)
    if before.get('recipe') == made_by:
        done = before['state']
        unread = done['cameras_left_out']
        for text in unread:
            on_error(ValueError(text))
        return BagOutcome(done['frames'], done['left_out'], done['frames'], len(unread),
                          done['damaged'])
    chosen, errors = camera_topics(source, options.topics)
    for error in errors:
        on_error(error)
    cameras = {topic: CameraResults(prefix, options.results, predictor.info.label_set)
               for topic, prefix in result_prefixes([t.name for t in chosen]).items()}
    copied = [] if options.results_only else copied_topics(source)
    topics = [*copied, *(t for camera in cameras.values() for t in camera.topics())]
    check_names(source, topics)
    read = [*cameras, *(topic.name for topic in copied)]
    with SplitBag(out, topics, made_by, options.storage) as bag, \
            ThreadPoolExecutor(DECODERS) as pool, \
            tqdm(total=sum(t.count for t in chosen), desc=Path(source).name, unit='frame',
                 disable=not progress) as bar:
        run = _Run(source, bag, cameras, predictor, list(map(str, errors)), on_error)
        resumed = run.frames
        bar.update(run.frames + run.left_out)
        messages = islice(run.until_damage(read_messages(source, read)), run.messages, None)
        for message, decoded in _decode_ahead(messages, cameras, pool):
            if not options.results_only:
                bag.write(message.topic, message.record_ns, message.cdr)
            run.messages += 1
            if decoded is not None:
                run.segment(message, decoded)
                bar.update()
                if (run.frames + run.left_out) % options.file_frames == 0:
                    bag.end_file(run.state)
        bag.end_file(run.state)
        if not run.frames:
            raise ValueError(f'{source}: none of its images could be read')
        bag.complete()
    return BagOutcome(run.frames, run.left_out, resumed, len(errors), run.damaged)


class _Run:
    """The progress of a run, which may resume an earlier one; segments image by image."""

    def __init__(self, source: str | Path, bag: SplitBag, cameras: dict[str, CameraResults],
                 predictor: Predictor, cameras_left_out: list[str], on_error: OnError):
        self._source, self._bag, self._cameras, self._predictor = source, bag, cameras, predictor
        self._cameras_left_out, self._on_error = cameras_left_out, on_error
        self.damaged = False  # a resumed run meets the damage again
        self.messages: int = bag.state.get('messages', 0)
        self.frames: int = bag.state.get('frames', 0)
        self.left_out: int = bag.state.get('left_out', 0)
        self._begun: list[str] = list(bag.state.get('begun', []))  # topics with label_info written

    @property
    def state(self) -> dict:
        return {'messages': self.messages, 'frames': self.frames, 'left_out': self.left_out,
                'begun': list(self._begun), 'cameras_left_out': self._cameras_left_out,
                'damaged': self.damaged}

    def until_damage(self, messages: Iterator[RawMessage]) -> Iterator[RawMessage]:
        """Yield messages up to any damage, so that those waiting to be segmented are not lost."""
        try:
            yield from messages
        except ValueError as error:
            self.damaged = True
            self._on_error(error)

    def segment(self, message: RawMessage, decoded: 'Future[Decoded]'):
        try:
            stamp_ns, frame_id, image = decoded.result()
        except ValueError as error:
            self.left_out += 1
            self._on_error(ValueError(f'{self._source}: {error}'))
            return
        camera = self._cameras[message.topic]
        segmentation = self._predictor.segment(image, camera.arrays)
        first = message.topic not in self._begun
        for topic, cdr in camera.messages(stamp_ns, frame_id, segmentation, first):
            self._bag.write(topic, message.record_ns, cdr)
        if first:
            self._begun.append(message.topic)
        self.frames += 1


def recipe(source: str | Path, predictor: Predictor, options: BagOptions) -> dict:
    """Return what a new bag is made from and how, in the form stored in it."""
    with open_bag(source) as reader:
        made_of = [Path(source).name, reader.message_count, reader.start_time, reader.duration]
    with predictor.weights.open('rb') as file:
        weights = hashlib.file_digest(file, 'sha256').hexdigest()
    return {'source': made_of, 'weights': [predictor.weights.stem, weights],
            'computed': [predictor.device.type, str(predictor.dtype)],
            'options': {**asdict(options), 'results': list(options.results),
                        'topics': list(options.topics)}}


def _decode_ahead(messages: Iterable[RawMessage], cameras: Container[str], pool: ThreadPoolExecutor
                  ) -> Iterator[tuple[RawMessage, 'Future[Decoded] | None']]:
    """Yield each message, with its image if it has one, decoded while the network runs."""
    waiting: deque[tuple[RawMessage, Future[Decoded] | None]] = deque()
    images = size = 0
    for message in messages:
        image = pool.submit(decode_message, message) if message.topic in cameras else None
        waiting.append((message, image))
        images += image is not None
        size += len(message.cdr) + OVERHEAD
        # Only images are counted: hundreds of other messages may lie between two of them.
        while images > DECODED_AHEAD or size > BYTES_AHEAD:
            first, its_image = waiting.popleft()
            images -= its_image is not None
            size -= len(first.cdr) + OVERHEAD
            yield first, its_image
    yield from waiting
