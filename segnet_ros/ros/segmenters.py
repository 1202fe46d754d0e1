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

"""The segmenters of one camera: one for each frame that is processed at the same time."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
import threading

from segnet_ros.ros.settings import Settings
from segnet_ros.segmenter import Segmenter

Size = tuple[int, int]  # (height, width) in pixels


class Segmenters:
    """
    Lends segmenters, all of one size; builds one if none is free.

    A thread gets the one that it had last, if that is free. So a thread that uses the segmenters
    of several cameras together keeps the same ones, and with them the batch built on them.

    :param build: camera size -> Segmenter.
    :param on_size: called with the camera, network and output sizes when the camera's changes.
    """

    def __init__(self, build: Callable[[Size], Segmenter],
                 on_size: Callable[[Size, Size, Size], object]):
        self._build, self._on_size = build, on_size
        self._lock = threading.Lock()
        self._size: Size | None = None
        # Each with the settings applied to it and the thread that had it last.
        self._free: list[tuple[Segmenter, Settings, int]] = []

    @contextmanager
    def lend(self, size: Size, settings: Settings) -> Iterator[Segmenter]:
        """Lend a segmenter for frames of this size, with these settings, to one thread."""
        with self._lock:
            if size != self._size:
                self._free.clear()  # first release the buffers of the old resolution
            if self._free:
                me = threading.get_ident()
                own = (i for i, (*_, thread) in enumerate(self._free) if thread == me)
                segmenter, applied, _ = self._free.pop(next(own, -1))
            else:
                segmenter, applied = self._build(size), None
            if size != self._size:
                self._size = size
                self._on_size(size, segmenter.network_size, segmenter.output_size)
        if settings is not applied:
            segmenter.set_confidence_threshold(settings.confidence_threshold)
            segmenter.set_overlay_alpha(settings.overlay_alpha)
            segmenter.set_palette(settings.palette)
            segmenter.set_region(settings.roi)
        try:
            yield segmenter
        finally:
            with self._lock:
                if size == self._size:
                    self._free.append((segmenter, settings, threading.get_ident()))

    def clear(self):
        """Release the buffers."""
        with self._lock:
            self._free.clear()
            self._size = None
