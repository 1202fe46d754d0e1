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
Segment images, videos, bags and cameras; write pictures, a video and statistics.

One frame at a time, so that memory does not grow with their number. Whatever cannot be read is
reported and left out. Knows nothing of ROS.
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager, ExitStack, suppress
import csv
from dataclasses import dataclass
import errno
from itertools import islice
import os
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from segnet_ros.frames import encode_image, Frame
from segnet_ros.inputs import find_inputs, Input, read_inputs
from segnet_ros.labels import LabelSet
from segnet_ros.predictor import Predictor
from segnet_ros.segmentation import PICTURES, Segmentation
from segnet_ros.sources import OnError
from segnet_ros.video import Timeline, VideoWriter
from segnet_ros.whole_file import errors_named, whole_file, write_whole, writing_mode

COLUMNS = ('frame', 'stamp', 'class_id', 'class_name', 'pixel_count', 'fraction',
           'mean_confidence')


@dataclass(frozen=True)
class Results:
    """
    Where results go; None for those that are not wanted.

    :param out: folder; the pictures are OUT/KIND/NAME.png (overlays: .jpg).
    :param kinds: which of segmentation.PICTURES to write there.
    :param video: .mp4 file of all frames, the image above and `below` below.
    :param below: 'color_mask' or 'overlay'.
    :param statistics: .csv file with a row per frame and class.
    """

    out: Path | None = None
    kinds: tuple[str, ...] = ('mask',)
    video: Path | None = None
    below: str = 'color_mask'
    statistics: Path | None = None

    def arrays(self) -> tuple[str, ...]:
        """Return which of segmenter.OUTPUTS these need."""
        arrays = [PICTURES[kind][0] for kind in self.kinds if self.out]
        arrays += [self.below] if self.video else []
        arrays += ['statistics'] if self.statistics else []
        return tuple(dict.fromkeys(arrays))


@dataclass(frozen=True)
class Outcome:
    """The number of frames segmented, and a message for each thing left out."""

    frames: int
    left_out: list[str]


def predict(inputs: Iterable[str], predictor: Predictor, results: Results, fps: float = 15.0,
            limit: int | None = None, on_error: OnError = lambda error: None,
            progress: bool = False, topic: str | None = None) -> Outcome:
    """
    Segment all frames of all inputs, in order, and write the results.

    If a camera, which never ends, is among the inputs, an interrupt (Ctrl-C) is a normal end.

    :param inputs: as inputs.find_inputs takes them.
    :param fps: the rate of images, and of a video or camera that does not report its own.
    :param limit: stop after this many frames.
    :param on_error: called at once with the error of each file or frame that is left out.
    :param topic: which of a bag's image topics; needed only if there are several.
    :raises FileNotFoundError, ValueError: before the first frame, for inputs that do not exist
        or that a result would overwrite.
    :raises OSError: naming the file that cannot be written.
    """
    found = find_inputs(inputs)
    _refuse_to_overwrite(found, results)
    left_out: list[str] = []

    def leave_out(error: ValueError):
        left_out.append(str(error))
        on_error(error)

    arrays = results.arrays()
    ends = [KeyboardInterrupt] if any(item.is_camera for item in found) else []
    # Not every recording says how many frames it holds.
    total = len(found) if all(item.is_image for item in found) else None
    with _Writer(results, predictor.info.label_set) as writer, suppress(*ends), \
            tqdm(total=total, unit='frame', disable=not progress) as bar:
        for item, rate, frame in islice(read_inputs(found, fps, leave_out, topic), limit):
            segmentation = predictor.segment(frame.image, arrays)
            writer.write(item, frame, segmentation, rate, leave_out)
            bar.update()
    return Outcome(writer.count, left_out)


def _refuse_to_overwrite(found: list[Input], results: Results):
    """Raise ValueError if an output file is given twice or is an input, even by another name."""
    if results.video and results.statistics and \
            os.path.realpath(results.video) == os.path.realpath(results.statistics):
        raise ValueError(f'{results.video} cannot be both the video and the statistics; give two '
                         'files')
    read = {}
    for item in found:
        source = Path(item.source)
        if item.is_file:  # or a bag's folder
            for path in filter(Path.exists, [source, *source.rglob('*')]):
                read[path.stat().st_dev, path.stat().st_ino] = source
    for path in filter(Path.exists, _files_to_write(found, results)):
        overwritten = read.get((path.stat().st_dev, path.stat().st_ino))
        if overwritten is not None:
            raise ValueError(f'{path} would overwrite the input {overwritten}; write elsewhere')


def _files_to_write(found: list[Input], results: Results) -> Iterator[Path]:
    yield from filter(None, (results.video, results.statistics))
    if results.out is None:
        return
    for kind in results.kinds:
        folder, suffix = results.out / kind, _suffix(kind)
        for item in found:
            if item.is_image:
                yield folder / (item.name + suffix)
            else:  # only reading tells how many frames it has
                yield from (folder / item.name).glob('*' + suffix)


class _Writer:
    """Writes each frame's results; closes its files at the end of the `with` block."""

    def __init__(self, results: Results, label_set: LabelSet):
        self.count = 0
        self._results, self._label_set = results, label_set
        self._files = ExitStack()
        self._video: VideoWriter | None = None
        self._shown: Input | None = None  # last in the video
        self._rows: Any = None

    def __enter__(self) -> '_Writer':
        return self

    def __exit__(self, *error):
        self._files.close()

    def write(self, item: Input, frame: Frame, segmentation: Segmentation, rate: float,
              on_error: OnError):
        if self._results.out:
            self._write_pictures(self._results.out, frame, segmentation, on_error)
        if self._results.statistics:
            self._write_rows(frame, segmentation)
        if self._results.video:
            self._write_video(item, frame, segmentation, rate, on_error)
        self.count += 1

    def _write_pictures(self, out: Path, frame: Frame, segmentation: Segmentation,
                        on_error: OnError):
        for kind in self._results.kinds:
            path = out / kind / (frame.name + _suffix(kind))
            codec = 'jpeg' if kind == 'overlay' else 'png'
            try:
                write_whole(path, encode_image(getattr(segmentation, PICTURES[kind][0]), codec))
            except (ValueError, OSError) as error:  # image too large, or name too long
                if isinstance(error, OSError) and error.errno != errno.ENAMETOOLONG:
                    raise
                on_error(ValueError(f'cannot write the {kind} of {frame.name}: {error}'))

    def _write_rows(self, frame: Frame, segmentation: Segmentation):
        statistics, path = segmentation.statistics, self._results.statistics
        assert statistics is not None and path is not None
        if self._rows is None:
            self._rows = self._files.enter_context(_table(path))
            self._rows.writeheader()
        seconds, nanoseconds = divmod(abs(frame.stamp_ns), 10**9)
        stamp = '-' * (frame.stamp_ns < 0) + f'{seconds}.{nanoseconds:09d}'
        with errors_named(path):
            self._rows.writerows({'frame': frame.name, 'stamp': stamp, 'class_name': name,
                                  **statistics.values(class_id)}
                                 for class_id, name in enumerate(self._label_set.class_names))

    def _write_video(self, item: Input, frame: Frame, segmentation: Segmentation, rate: float,
                     on_error: OnError):
        if self._video is None:
            assert self._results.video is not None
            self._video = self._files.enter_context(VideoWriter(self._results.video, rate))
            self._timeline = Timeline(rate)
        picture = np.vstack((frame.image, getattr(segmentation, self._results.below)))
        try:
            self._video.check(picture)
        except ValueError as error:  # not the size of the first, or too large
            return on_error(ValueError(f'{frame.name} is not in the video: {error}'))
        # Frames of one recording keep their timing; another one, or an image, follows at once.
        place = self._timeline.place(frame.stamp_ns, anew=item is not self._shown)
        self._video.write(picture, place)
        self._shown = item


def _suffix(kind: str) -> str:
    return '.jpg' if kind == 'overlay' else '.png'


@contextmanager
def _table(path: Path) -> Iterator[Any]:
    # File names may hold bytes that are not valid text.
    with whole_file(path) as part, part.open(writing_mode(path), newline='', encoding='utf-8',
                                             errors='surrogateescape') as file:
        yield csv.DictWriter(file, COLUMNS, extrasaction='ignore')
