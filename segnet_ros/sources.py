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
Where frames come from: a folder of images, a video, a rosbag2 or the rendered sample drive.

All give the same thing: frames in order with their times, one at a time, so that memory does not
grow with a recording. Knows nothing of ROS nodes; bags/ knows about bags.
"""

from collections.abc import Callable, Iterator
from contextlib import suppress
from copy import copy
from dataclasses import dataclass, replace
from itertools import islice, pairwise, tee
import os
from pathlib import Path
from typing import Protocol

import cv2
import numpy as np

from segnet_ros.annotations import annotation_files, annotations_by_stem, read_annotation
from segnet_ros.bags.reading import decode_message, image_topic, is_bag, read_messages
from segnet_ros.frames import decode_image, Frame, IMAGE_SUFFIXES, is_image_file
from segnet_ros.labels import LabelSet, load_label_set
from segnet_ros.sample_drive.drive import SAMPLE_FRAMES, SampleDrive

FRAME_ID = 'camera'  # of recordings that name no coordinate frame
SAMPLE = 'sample'
RATE_FRAMES = 31  # of a bag, from whose times its rate is measured
WHOLE = 0.95  # a video with this share of its declared length counts as whole

# Called with the error of each frame that cannot be read, which is then left out, and of a video
# or bag that is cut off.
OnError = Callable[[ValueError], None]


@dataclass(frozen=True)
class Frames:
    """
    The frames of a source; every iteration starts from the first.

    :param rate: average frames per second as recorded; for a bag, over its first seconds.
    :param count: how many there are, including unreadable ones; None if only reading to the end
        would tell. A video's count is what its file says.
    """

    rate: float
    count: int | None
    _read: Callable[[], Iterator[Frame]]

    def __iter__(self) -> Iterator[Frame]:
        """Return an iterator over the frames."""
        return self._read()


def open_frames(source: str | Path, fps: float = 15.0, topic: str | None = None,
                on_error: OnError | None = None) -> Frames:
    """
    Return the frames of a source.

    :param source: a folder of images (png, jpg, bmp, webp; in the order of their names), one
        image, a video, a rosbag2 (folder, .mcap or .db3), or 'sample' or 'sample:SEED' for the
        rendered drive. Write './sample' for a folder of that name.
    :param fps: the rate of images, and of a video or bag that does not report its own.
    :param topic: which of a bag's image topics; needed only if there are several.
    :param on_error: called with the ValueError of each frame that cannot be read, which is then
        left out, and at the end of a video or bag that is cut off. Without it the error is raised
        and ends the iteration.
    :raises FileNotFoundError: if there is no such file or folder.
    :raises ValueError: saying why the source cannot be used.
    """
    if not fps >= 0.001:
        raise ValueError(f'{fps} frames a second: the rate must be at least 0.001')
    seed = sample_seed(source)
    if seed is not None:
        drive = SampleDrive(seed)
        return Frames(drive.rate, SAMPLE_FRAMES, lambda: _rendered(drive))
    path = Path(os.path.expanduser(source))
    if not path.exists():
        raise FileNotFoundError(f"no file or folder '{source}'; give a folder of images, a video, "
                                "a rosbag2, or 'sample' for the rendered drive")
    if path.is_fifo():  # a video is opened twice, and no suffix tells what it is
        raise ValueError(f'{path} is a pipe; write it to a file first')
    report = on_error or _raise
    if is_bag(path):
        return _open_bag(path, fps, topic, report)
    if path.is_dir() or path.suffix.lower() in IMAGE_SUFFIXES:
        files = image_files(path)
        return Frames(fps, len(files), lambda: _images(files, fps, report))
    return video_frames(path, _OpenCVVideo(path), fps, report)


def keep_frames(frames: Frames) -> Frames:
    """
    Return the same frames, read once and kept in memory.

    For sources without bad frames: later iterations end at an error. Changes to a frame's pixels
    persist into the next iteration.
    """
    start, = tee(frames, 1)  # its copies start at the beginning and share what is read
    return replace(frames, _read=lambda: copy(start))


def image_files(path: str | Path) -> list[Path]:
    """Return the images in a folder by name, or the one image that the path names."""
    path = Path(path)
    if path.is_file():
        return [path]
    files = sorted(filter(is_image_file, path.iterdir()))
    if not files:
        raise ValueError(f'{path} holds no images ({", ".join(IMAGE_SUFFIXES)}) and no rosbag2')
    return files


def open_labels(source: str | Path, label_set: LabelSet
                ) -> Callable[[int], np.ndarray | None] | None:
    """
    Return a function from Frame.index to the true label map, (H, W) uint8; None if unknown.

    The sample drive knows its labels. Those of any other source are the PNG files of class ids in
    the folder next to it that has its name (without suffix) plus 'annot'. Images are matched by
    stem, the frames of a bag or video one by one in the order of the file names. The function
    returns None for a frame without an annotation, and raises ValueError for a damaged one.

    :raises ValueError: if there is such a folder, but nothing in it belongs to any frame.
    """
    seed = sample_seed(source)
    if seed is not None:
        if label_set.class_names != load_label_set('camvid11').class_names:
            return None
        drive = SampleDrive(seed)
        return lambda index: drive.frame(index)[1] if index < SAMPLE_FRAMES else None
    path = Path(os.path.expanduser(source)).absolute()
    annotations = path.with_name((path.stem if path.is_file() else path.name) + 'annot')
    if not annotations.is_dir():
        return None
    if is_bag(path) or (path.is_file() and path.suffix.lower() not in IMAGE_SUFFIXES):
        files: list[Path | None] = [*annotation_files(annotations)]
    else:
        by_stem = annotations_by_stem(annotations)
        files = [by_stem.get(image.stem) for image in image_files(path)]
    if not any(files):
        raise ValueError(f'{annotations} holds no PNG of class ids with the name of an image in '
                         f'{path}; rename the files, or the folder if it holds something else')

    def read(index: int) -> np.ndarray | None:
        file = files[index] if index < len(files) else None
        return None if file is None else read_annotation(file, label_set)
    return read


def sample_seed(source: str | Path) -> int | None:
    """Return the seed that 'sample' or 'sample:SEED' stands for; None for any other source."""
    name, colon, seed = str(source).partition(':')
    if name != SAMPLE:
        return None
    if colon and not seed.isdecimal():
        raise ValueError(f"'{source}': write sample:SEED with a whole number, such as sample:7")
    return int(seed or 0)


def is_bag_source(source: str | Path) -> bool:
    """Tell whether a source is a rosbag2; 'sample' is the drive, even if a bag has that name."""
    return sample_seed(source) is None and is_bag(os.path.expanduser(source))


def _raise(error: ValueError):
    raise error


def _rendered(drive: SampleDrive) -> Iterator[Frame]:
    for index in range(SAMPLE_FRAMES):
        yield Frame(index, _stamp(index, drive.rate), FRAME_ID, _name(index),
                    drive.frame(index)[0])


def _images(files: list[Path], fps: float, on_error: OnError) -> Iterator[Frame]:
    for index, path in enumerate(files):
        try:
            image = decode_image(path.read_bytes(), upright=True)
        except (ValueError, OSError) as error:
            on_error(ValueError(f'{path}: {error}'))
            continue
        yield Frame(index, _stamp(index, fps), FRAME_ID, path.stem, image)


class Video(Protocol):
    """
    An open video, whatever library reads it.

    :param rate: frames per second, 0 if the file does not say.
    :param count: number of frames, 0 if the file does not say.
    """

    rate: float
    count: int

    def read(self) -> Iterator[tuple[int, np.ndarray]]:
        """Yield the time in nanoseconds, 0 if unknown, and (H, W, 3) uint8 RGB of each frame."""


def video_frames(path: Path, video: Video, fps: float, on_error: OnError) -> Frames:
    """Return the frames of a video; see open_frames for the rest."""
    own_rate, count = video.rate, video.count
    # Some containers give no rate, or the ticks of their clock (90 kHz) instead.
    rate = own_rate if 0 < own_rate < 1000 else fps
    seconds = count / own_rate if own_rate > 0 else 0.0

    def read() -> Iterator[Frame]:
        done, end_ns = 0, 0
        for start_ns, frame in _timed(video, rate):
            yield frame
            done, end_ns = frame.index + 1, start_ns + frame.stamp_ns + _stamp(1, rate)
        if not done:
            raise ValueError(f'{path}: no frame of this video can be decoded')
        # Some containers guess the count from length and rate: too few frames alone prove nothing.
        if done < WHOLE * count and end_ns < WHOLE * seconds * 1e9:
            # Matroska's length is that of the longest track.
            on_error(ValueError(f'{path} is cut off or damaged, or its sound is longer: it ends '
                                f'after {done} frames, {end_ns / 1e9:.2f} of {seconds:.2f} s'))
    return Frames(rate, count if count > 0 else None, read)


def _timed(video: Video, rate: float) -> Iterator[tuple[int, Frame]]:
    """Yield the video's own time of the first frame, and each frame with the time since then."""
    start_ns = stamp_ns = 0
    step_ns = _stamp(1, rate)
    for index, (clock_ns, image) in enumerate(video.read()):
        if index == 0:
            start_ns = clock_ns
        else:
            # Repeat the last step if times are missing or go back. They are missing for the last
            # few frames in OpenCV before 4.7 (opencv/opencv#22141).
            if clock_ns - start_ns > stamp_ns:
                step_ns = clock_ns - start_ns - stamp_ns
            stamp_ns += step_ns
        yield start_ns, Frame(index, stamp_ns, FRAME_ID, _name(index), image)


class _OpenCVVideo:
    """
    A video read by OpenCV, which every user of this package has.

    It takes colours for limited-range BT.601 whatever a file says (except for yuvj formats): those
    of a BT.709 file are up to 20 levels off, which changes few labels.
    """

    def __init__(self, path: Path):
        # Absolute, or FFmpeg would take 12:30.mp4 for a URL. And valid text, or OpenCV crashes.
        self._path = str(path.absolute())
        try:
            self._path.encode()
        except UnicodeEncodeError as error:
            raise ValueError(f'{path}: OpenCV cannot open a video whose name is not UTF-8; '
                             'rename it') from error
        capture = cv2.VideoCapture(self._path)
        if not capture.isOpened():
            raise ValueError(
                f'{path} is not an image, a video that OpenCV can read, or a rosbag2')
        self.rate = capture.get(cv2.CAP_PROP_FPS)
        self.count = int(capture.get(cv2.CAP_PROP_FRAME_COUNT))
        capture.release()

    def read(self) -> Iterator[tuple[int, np.ndarray]]:
        capture = cv2.VideoCapture(self._path)
        # Rotate phone videos upright; some versions of OpenCV do so by default.
        capture.set(cv2.CAP_PROP_ORIENTATION_AUTO, 1)
        # 4.6 (Ubuntu 24.04) makes quarter turns the wrong way round (opencv/opencv#22088).
        upside_down = (cv2.__version__.startswith('4.6.')
                       and capture.get(cv2.CAP_PROP_ORIENTATION_META) in (90, 270))
        start_ns = None
        try:
            while (read := capture.read())[0]:
                clock_ns = round(capture.get(cv2.CAP_PROP_POS_MSEC) * 1e6)
                if start_ns is None:
                    start_ns = self._start_ns(capture, clock_ns)
                image = cv2.rotate(read[1], cv2.ROTATE_180) if upside_down else read[1]
                yield start_ns + clock_ns, cv2.cvtColor(image, cv2.COLOR_BGR2RGB)
        finally:
            capture.release()

    def _start_ns(self, capture: cv2.VideoCapture, clock_ns: int) -> int:
        """Return the time that OpenCV takes off those of a Matroska file, whose length has it."""
        if self.rate <= 0 or not hasattr(cv2, 'CAP_PROP_PTS'):  # new in OpenCV 4.11
            return 0
        return max(0, round(capture.get(cv2.CAP_PROP_PTS) * 1e9 / self.rate) - clock_ns)


def _open_bag(path: Path, fps: float, topic: str | None, on_error: OnError) -> Frames:
    chosen = image_topic(path, topic)
    times: list[int] = []
    with suppress(ValueError):  # damage is reported when the frames are read
        times.extend(m.record_ns for m in islice(
            read_messages(path, [chosen.name]), RATE_FRAMES))
    steps = sorted(after - before for before, after in pairwise(times))
    if 0 < 10 * sum(steps[:-1]) < len(steps[:-1]) * steps[-1]:  # the clock was set meanwhile
        steps.pop()
    # As with videos: messages recorded in one burst give no rate.
    if sum(steps) > len(steps) * 10**6:
        fps = len(steps) / (sum(steps) / 1e9)
    return Frames(fps, chosen.count, lambda: _bag_frames(path, chosen.name, on_error))


def _bag_frames(path: Path, topic: str, on_error: OnError) -> Iterator[Frame]:
    try:
        for index, message in enumerate(read_messages(path, [topic])):
            try:
                stamp_ns, frame_id, image = decode_message(message)
            except ValueError as error:
                on_error(ValueError(f'{path}: {error}'))
                continue
            yield Frame(index, stamp_ns, frame_id, _name(index), image, message.record_ns)
    except ValueError as error:
        on_error(error)  # damage ends a bag, as it ends a video


def _stamp(index: int, rate: float) -> int:
    return round(index * 1e9 / rate)


def _name(index: int) -> str:
    return f'{index:06d}'
