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
Write videos that browsers and ordinary players show, H.264 in an mp4; read untrusted ones.

Both through PyAV. OpenCV's wheels can only write MPEG-4 part 2, which no browser plays, and they
read whatever a file tells them to. Knows nothing of networks, labels or ROS.
"""

from collections.abc import Iterator
from contextlib import ExitStack, suppress
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from segnet_ros.extras import install_extra, pip_install
from segnet_ros.whole_file import whole_file

ENCODER = 'libx264'
# x264's quality scale: 18 is visually almost lossless; masks have sharp edges to keep.
QUALITY = {'crf': '18', 'preset': 'veryfast'}
LONGEST_SIDE = 16384  # that x264 accepts
LONGEST_GAP = 10.0  # seconds that a video may stand still
TICKS = 100  # per frame interval, since cameras are not exactly regular
# FFmpeg's names for what cameras, phones and browsers write; its others include pictures.
CONTAINERS = 'mov,matroska,avi,mpegts,mpeg,ogg,flv,asf'


class UntrustedVideo:
    """
    An untrusted video, a Video of sources.py.

    Its frames have square pixels, whatever the file's. Only the formats in CONTAINERS are read:
    OpenCV takes a file that begins like a playlist (HLS) for one, and reads the files of this
    machine that it names.

    :raises ValueError: if the file is not a video, even if it is a picture.
    """

    def __init__(self, path: str | Path):
        self._path = str(Path(path).absolute())  # FFmpeg would take 12:30.mp4 for a URL
        self._av = _import_av()
        try:
            with self._open() as container:
                stream = container.streams.video[0]
                # As the file declares them; pixels may be wider or narrower than high.
                self._aspect = stream.sample_aspect_ratio or 1
                self.height, self.width = stream.height, round(stream.width * self._aspect)
                self.rate = float(stream.average_rate or 0)
                self.count = stream.frames or round(
                    self.rate * (container.duration or 0) / self._av.time_base)
        except (self._av.error.FFmpegError, IndexError) as error:
            raise ValueError(f'{path} is not a video that can be read') from error

    def _open(self) -> Any:
        return self._av.open(self._path, options={'format_whitelist': CONTAINERS},
                             metadata_errors='ignore')  # a title may be in any code page

    def read(self) -> Iterator[tuple[int, np.ndarray]]:
        """Yield time in nanoseconds and (H, W, 3) uint8 RGB of each frame, upright, as shown."""
        with self._open() as container, suppress(self._av.error.FFmpegError):  # damage ends it
            for frame in container.decode(video=0):
                image = frame.to_ndarray(width=round(frame.width * self._aspect), format='rgb24')
                # PyAV gives the degrees to rotate the frame by, anticlockwise.
                turns = round(frame.rotation / 90)
                yield round(1e9 * (frame.time or 0)), np.ascontiguousarray(np.rot90(image, turns))


class Timeline:
    """
    Places frames in a video by their stamps: some may be missing, and cameras are uneven.

    :param rate: frames per second of the video, at the speed of the stamps.
    """

    def __init__(self, rate: float):
        self._rate = rate
        self._start_ns: float | None = None  # the stamp that would be at the video's start
        self._last = 0.0

    def place(self, stamp_ns: int, anew: bool = False) -> float:
        """
        Return when to show the next frame, in frames from the start; see VideoWriter.write.

        :param anew: whether this frame begins another recording, which follows at once.
        """
        if self._start_ns is None:
            self._start_ns = stamp_ns
            return 0.0
        place = (stamp_ns - self._start_ns) * 1e-9 * self._rate
        step, longest = place - self._last, max(1.0, LONGEST_GAP * self._rate)
        if anew or not 0 < step <= longest:
            # A clock that was set must not add hours in which nothing moves.
            place = self._last + (1.0 if anew else min(max(1.0, step), longest))
            self._start_ns = stamp_ns - place / self._rate * 1e9
        self._last = place
        return place


class VideoWriter:
    """
    Writes RGB frames, one after the other, as H.264; use it in a `with` block.

    The file appears when it is whole, at the end of the block; without a frame there is none.
    If the block ends with an error, the frames written so far are kept as a whole video.

    :param path: file ending in .mp4; an older one is replaced.
    :param fps: frames a second.
    :raises ValueError: if path or rate cannot be used, or PyAV is not installed.
    :raises OSError: naming the file, if it cannot be written, for example on a full disk.
    """

    def __init__(self, path: str | Path, fps: float):
        self.path = Path(path)
        self.count = 0  # frames written
        self._ticks = -1  # of the last one
        if self.path.suffix.lower() != '.mp4':
            raise ValueError(f"'{path}': videos are written as .mp4; use that extension")
        if not 0.001 <= fps <= 1000:
            raise ValueError(f'{fps} frames a second: the rate must be from 0.001 to 1000')
        self._rate = Fraction(fps).limit_denominator(1001)
        self._av = _import_av()
        if ENCODER not in self._av.codecs_available:
            raise ValueError(f"PyAV's FFmpeg here has no {ENCODER}, which videos are written "
                             f'with: {pip_install("av")} installs one that does')
        self._file = ExitStack()  # closing it moves the file into place
        self._container: Any = None
        self._stream: Any = None
        self._shape: tuple[int, ...] = ()

    def __enter__(self) -> 'VideoWriter':
        """Return the writer itself."""
        return self

    def __exit__(self, *error):
        """Close the file."""
        self.close()

    def check(self, image: np.ndarray):
        """Raise ValueError if a frame is invalid, too large, or not of the first one's size."""
        if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
            raise ValueError(f'a frame of a video is (H, W, 3) uint8, not {image.shape} '
                             f'{image.dtype}')
        if max(image.shape) > LONGEST_SIDE:
            raise ValueError(f'{self.path}: {image.shape[1]}x{image.shape[0]} pixels are too many '
                             f'for a video, whose sides are limited to {LONGEST_SIDE}')
        if self._shape and image.shape != self._shape:
            raise ValueError(f'{self.path}: a frame of {image.shape[1]}x{image.shape[0]} does not '
                             f'fit in a video of {self._shape[1]}x{self._shape[0]}')

    def write(self, image: np.ndarray, place: float | None = None):
        """
        Append a frame, (H, W, 3) uint8 RGB.

        H.264 needs even sides: an odd one is padded by repeating the last row or column.

        :param place: when to show it, in frames from the start at the video's rate, such as 4.5;
            the one before is shown until then. Give a place for all frames or for none.
        :raises ValueError: as check() does.
        """
        self.check(image)
        if self._container is None:
            self._open(image.shape)
        height, width = image.shape[:2]
        if height % 2 or width % 2:
            image = np.pad(image, ((0, height % 2), (0, width % 2), (0, 0)), 'edge')
        frame = self._av.VideoFrame.from_ndarray(np.ascontiguousarray(image), 'rgb24')
        frame = frame.reformat(format='yuv420p', dst_colorspace='ITU601', dst_color_range='MPEG')
        ticks = round(TICKS * (self.count if place is None else place))
        self._ticks = max(ticks, self._ticks + 1)
        frame.pts, frame.time_base = self._ticks, 1 / (self._rate * TICKS)
        try:
            self._container.mux(self._stream.encode(frame))
        except OSError:
            self._stream = None  # flushing it after a header that was not written crashes FFmpeg
            with self._file:
                raise
        self.count += 1

    def close(self):
        """Flush the encoder and write the index; safe to call more than once."""
        if self._stream is None:
            return
        stream, self._stream = self._stream, None
        with self._file:
            self._container.mux(stream.encode())

    def _open(self, shape: tuple[int, ...]):
        with ExitStack() as file:
            part = file.enter_context(whole_file(self.path))
            # The index comes first, so that a browser can play before it has loaded everything.
            container = file.enter_context(self._av.open(
                str(part.absolute()), 'w', format='mp4', options={'movflags': 'faststart'}))
            stream = container.add_stream(ENCODER, self._rate, options=QUALITY)
            height, width = shape[:2]
            stream.height, stream.width = height + height % 2, width + width % 2
            stream.pix_fmt = 'yuv420p'
            context = stream.codec_context
            context.time_base = 1 / (self._rate * TICKS)
            # Browsers guess missing colour tags by the size. OpenCV reads BT.601 whatever is said.
            context.colorspace, context.color_range = 6, 1  # BT.601, 16 to 235
            context.color_primaries = context.color_trc = 1  # BT.709, close to those of screens
            self._file = file.pop_all()
        self._container, self._stream, self._shape = container, stream, shape


def _import_av() -> Any:
    with suppress(ImportError):
        import av
        # Before 12 (Ubuntu 24.04) it writes no colour tags, before 12.3 other colours than tagged.
        if [*map(int, av.__version__.split('.')[:2])] >= [12, 3]:
            return av
    raise ValueError(f"videos need PyAV 12.3 or later: {install_extra('video')}")
