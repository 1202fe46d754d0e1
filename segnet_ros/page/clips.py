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
Videos for the page: a visitor's clip in, input above and segmentation below out.

Knows nothing of the page.
"""

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from segnet_ros.page.pictures import fit_picture, MAX_PIXELS
from segnet_ros.sources import video_frames
from segnet_ros.video import UntrustedVideo, VideoWriter

MAX_SECONDS = 60.0
MAX_FRAMES = 60 * 60  # above 60 a second this ends a clip first: others are waiting
UNTOLD_RATE = 15.0  # frames a second, for clips that do not state their rate
MAX_SIDE = 960  # pixels; input and segmentation are stacked


def segment_clip(source: str | Path, target: Path, overlay: Callable[[np.ndarray], np.ndarray],
                 warn: Callable[[str], None], max_seconds: float = MAX_SECONDS,
                 max_frames: int = MAX_FRAMES) -> Iterator[float]:
    """
    Write the video of a clip and its segmentation, step by step; close the generator to stop.

    :param overlay: takes (H, W, 3) uint8 RGB and returns the segmentation to show, same shape.
    :param warn: called with the reason if only part of the clip is segmented.
    :return: yields the share that is done, 0 to 1.
    :raises ValueError: if the clip is not a video, cannot be read, or has too large frames.
    :raises OSError: if the target cannot be written, as on a full disk.
    """
    source = Path(source)

    def words(error: ValueError) -> str:
        return str(error).replace(str(source), source.name).replace(str(target), target.name)
    try:
        clip = UntrustedVideo(source)
        if clip.height * clip.width > MAX_PIXELS:
            raise ValueError(f'{source} is too large: frames of at most {MAX_PIXELS // 10**6} '
                             'million pixels can be segmented. Scale it down first.')
        frames = video_frames(source, clip, UNTOLD_RATE, lambda error: warn(words(error)))
        limit = min(max_frames, max(1, round(frames.rate * max_seconds)))
        total = min(frames.count or limit, limit)
        shape: tuple[int, ...] = ()
        end = 0.0  # seconds; a clip's clock may jump, so that the next frame's time says nothing
        with VideoWriter(target, frames.rate) as video:
            for frame in frames:
                seconds = frame.stamp_ns / 1e9
                if frame.index >= max_frames or seconds >= max_seconds:
                    warn(f'Only the first {end:.0f} seconds were segmented.')
                    return
                if frame.image.shape != (shape := shape or frame.image.shape):
                    warn(f'{source.name} changes size: only the first {end:.0f} seconds were '
                         'segmented.')
                    return
                image = fit_picture(frame.image, source.name, MAX_SIDE).image
                video.write(np.vstack((image, overlay(image))), seconds * frames.rate)
                end = seconds + 1 / frames.rate
                yield min(1.0, (frame.index + 1) / total)
    except ValueError as error:
        raise ValueError(words(error)) from error
