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
The inputs that a user names: images, folders, patterns, videos, bags, the sample, a camera.

Finds them all and gives each frame the name of its results. sources.py reads the recordings;
cameras, which are not recordings, are read here.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from glob import glob
from itertools import chain, count
import os
from pathlib import Path
import time

import cv2

from segnet_ros.bags.reading import is_bag
from segnet_ros.frames import Frame, IMAGE_SUFFIXES
from segnet_ros.sources import FRAME_ID, Frames, image_files, OnError, open_frames, SAMPLE

CAMERA = 'camera'


@dataclass(frozen=True)
class Input:
    """
    One image, or one recording of many images.

    :param source: as sources.open_frames takes it, or 'camera:N'.
    :param name: of its results, without suffix; a recording's are in a folder of that name.
    """

    source: str
    name: str

    @property
    def is_image(self) -> bool:
        """Tell whether this is an image file."""
        return self.source.lower().endswith(IMAGE_SUFFIXES)

    @property
    def is_file(self) -> bool:
        """Tell whether this is a file or a bag's folder, not a camera or the sample drive."""
        return _kind(self.source) not in (SAMPLE, CAMERA)

    @property
    def is_camera(self) -> bool:
        """Tell whether this is a camera, which never ends."""
        return _kind(self.source) == CAMERA


def find_inputs(inputs: Iterable[str]) -> list[Input]:
    """
    Return every image and recording that the arguments mean, each once, with unique names.

    A name is the file's stem, or 'input' if it has none. If two names collide, all include their
    folders below the common one; if that is not enough (x.png next to x.jpg), their suffixes
    too, and as a last resort numbers.

    :param inputs: images, folders of images, patterns such as 'data/**/*.png', videos, rosbag2s,
        'sample', 'sample:SEED', 'camera:N'. Write './sample' for a file or folder of that name.
    :raises FileNotFoundError: if an argument matches nothing.
    :raises ValueError: if a folder holds no images.
    """
    found: dict[str, str] = {}
    for text in inputs:
        for source in _expand(text):
            found.setdefault(_identity(source), source)
    sources = list(found.values())
    names = [_stem(source) for source in sources]
    if _collide(names):
        paths = [os.path.abspath(source) for source in sources]
        common = os.path.commonpath([os.path.dirname(path) for path in paths])
        below = [Path(os.path.relpath(path, common)) for path in paths]
        names = [path.with_suffix('').as_posix() for path in below]
        if _collide(names):
            names = _numbered([path.as_posix().replace('.', '_') for path in below])
    return [Input(source, name) for source, name in zip(sources, names, strict=True)]


def read_inputs(inputs: Iterable[Input], fps: float, on_error: OnError,
                topic: str | None = None) -> Iterator[tuple[Input, float, Frame]]:
    """
    Yield Input, frame rate and Frame, input by input; Frame.name is the name of its results.

    :param fps: rate of images, which count as the frames of one recording, and of a video or
        camera that does not report its own.
    :param on_error: called with the error of each file or frame that is left out.
    :param topic: which of a bag's image topics; needed only if there are several.
    """
    images = 0
    for item in inputs:
        try:
            source = _open_camera(item.source, fps) if item.is_camera else \
                open_frames(item.source, fps, topic, on_error)
            for frame in source:
                if item.is_image:
                    stamp_ns = round(images * 1e9 / fps)
                    frame = replace(frame, name=item.name, stamp_ns=stamp_ns, index=images)
                    yield item, fps, frame
                else:
                    yield item, source.rate, replace(frame, name=f'{item.name}/{frame.name}')
        except (ValueError, OSError) as error:
            on_error(error if isinstance(error, ValueError) else ValueError(str(error)))
        images += item.is_image


def _kind(source: str) -> str:
    return source.partition(':')[0]


def _identity(source: str) -> str:
    """Return what tells spellings of one path from different paths, even to one file."""
    folder, name = os.path.split(source)
    if _kind(source) in (SAMPLE, CAMERA):
        return source
    if name in ('', '.', '..'):
        return os.path.realpath(source)
    return os.path.join(os.path.realpath(folder), name)


def _stem(source: str) -> str:
    if _kind(source) not in (SAMPLE, CAMERA):
        source = os.path.abspath(source)  # so that '.' has a name too
    return Path(source).stem.replace(':', '') or 'input'


def _expand(text: str) -> list[str]:
    if _kind(text) in (SAMPLE, CAMERA):
        return [text]
    path = Path(os.path.expanduser(text))  # pathlib's raises if a file name begins with ~
    names = [str(path)] if path.exists() else sorted(glob(str(path), recursive=True))
    if not names:
        raise FileNotFoundError(f"no file or folder '{text}', and nothing matches it as a pattern")
    return [source for name in names for source in _files(Path(name))]


def _files(path: Path) -> list[str]:
    files = image_files(path) if path.is_dir() and not is_bag(path) else [path]
    # Path drops the './' that tells a file from the sample drive or a camera.
    return [f'./{file}' if _kind(str(file)) in (SAMPLE, CAMERA) else str(file) for file in files]


def _collide(names: list[str]) -> bool:
    """Tell whether two names are the same, or one is a parent folder of another."""
    apart = {*names}
    return len(apart) < len(names) or any(
        parent.as_posix() in apart for name in names for parent in Path(name).parents)


def _numbered(names: list[str]) -> list[str]:
    """Return the names, with _2, _3 and so on appended to repeated ones."""
    found: dict[str, None] = {}  # an ordered set
    for name in names:
        tries = chain([name], (f'{name}_{number}' for number in count(2)))
        found[next(tried for tried in tries if tried not in found)] = None
    return list(found)


def _open_camera(source: str, fps: float) -> Frames:
    number = source.partition(':')[2] or '0'
    if not number.isdecimal():
        raise ValueError(f"'{source}': write camera:N with N as in /dev/videoN, such as camera:0")
    capture = cv2.VideoCapture(int(number))
    if not capture.isOpened():
        raise ValueError(f'{source}: OpenCV cannot open /dev/video{number}; check that it exists, '
                         'that you may read it and that no other program uses it')
    rate = capture.get(cv2.CAP_PROP_FPS)
    return Frames(rate if 0 < rate < 1000 else fps, None, lambda: _film(capture))


def _film(capture: cv2.VideoCapture) -> Iterator[Frame]:
    index = 0
    try:
        while (read := capture.read())[0]:
            image = cv2.cvtColor(read[1], cv2.COLOR_BGR2RGB)
            yield Frame(index, time.time_ns(), FRAME_ID, f'{index:06d}', image)
            index += 1
    finally:
        capture.release()
