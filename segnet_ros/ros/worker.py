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

"""What workers do with the frames that they take: message in, messages out, failures counted."""

from contextlib import contextmanager, ExitStack
from functools import cache, lru_cache
import time
import traceback

import torch

from segnet_ros.ros.frame_slots import NewestFrames
from segnet_ros.ros.settings import Settings
from segnet_ros.segmentation import Segmentation
from segnet_ros.segmenter import Segmenter
from segnet_ros.segmenter_batch import can_batch, SegmenterBatch


@cache
def cpu_threads() -> int:
    """Return the number of CPU threads that torch had before any worker started."""
    return torch.get_num_threads()  # cached: workers change this for new threads


class Worker:
    """
    Segments waiting frames until their store is closed; each thread has its own worker.

    :param together: if frames of this many cameras wait, they go through the network in one
        batch; 0 for one after the other. A batch pays on a GPU, which one frame does not fill; on
        a CPU it would only make the first camera wait for the last.
    """

    def __init__(self, node, frames: NewestFrames, together: int = 0):
        self._node, self._frames, self._together = node, frames, together
        self._batch = lru_cache(1)(SegmenterBatch)  # one: a thread keeps its segmenters
        self._fit = True  # whether the segmenters can be batched, as far as known
        self._sizes: dict = {}  # (height, width) of each camera's frames

    def run(self, threads: int):
        """Segment with this many CPU threads until the store is closed."""
        torch.set_num_threads(threads)
        # If no batch can be made, frames taken together would only grow old.
        while taken := self._frames.take(self._together if self._fit else 0):
            if self._node.enabled:
                self.process(taken, self._node.settings)
            else:
                for camera, _ in taken:
                    camera.monitor.count('paused')

    def process(self, taken: list[tuple], settings: Settings):
        """
        Segment one frame each of some cameras and publish what is subscribed; count failures.

        :param taken: (camera, (message, time received)) of each frame.
        """
        # Always in one order: each order of segmenters would need its own batch and CUDA graph.
        taken = sorted(taken, key=lambda one: one[0].name)
        with ExitStack() as lent:
            work = []
            for camera, (msg, received) in taken:
                with self._counting_failures_of(camera):
                    frame = camera.decode(msg, received, settings)
                    if frame is not None:
                        self._follow_size(camera, frame.image.shape[:2])
                        segmenter = lent.enter_context(camera.lend_segmenter(frame, settings))
                        work.append((camera, frame, segmenter))
            batch = self._make_batch([segmenter for _, _, segmenter in work])
            if batch is not None:
                self._segment_together(batch, work, settings)
                return
            for camera, frame, segmenter in work:
                with self._counting_failures_of(camera):
                    segmentation = segmenter.segment(frame.image, frame.wanted)
                    camera.publish(frame, segmentation, time.monotonic(), settings)

    def _segment_together(self, batch: SegmenterBatch, work: list[tuple], settings: Settings):
        segmentations: list[Segmentation] = []
        with self._counting_failures_of(*(camera for camera, _, _ in work)):
            segmentations = batch.segment([frame.image for _, frame, _ in work],
                                          [frame.wanted for _, frame, _ in work])
        segmented = time.monotonic()
        # There are none if the batch failed.
        for (camera, frame, _), segmentation in zip(work, segmentations, strict=False):
            with self._counting_failures_of(camera):
                camera.publish(frame, segmentation, segmented, settings)

    @contextmanager
    def _counting_failures_of(self, *cameras):
        """Count an exception as a failure of these cameras: it must not stop the node."""
        try:
            yield
        except Exception as error:  # noqa: BLE001
            if not self._node.context.ok():
                return  # ROS was shut down meanwhile; no frame is to blame
            for camera in cameras:
                camera.monitor.count('failed', repr(error))
                camera.log_error(f'frame dropped: {error!r}', traceback.format_exc())
            # CUDA errors persist, except out of memory. Only newer torch has a class for them.
            if 'CUDA error' in str(error) and 'out of memory' not in str(error):
                self._node.lose_device(error)

    def _follow_size(self, camera, size: tuple[int, int]):
        """Release a batch that holds segmenters, and so buffers, of a camera's previous size."""
        if self._sizes.setdefault(camera, size) != size:
            self._sizes[camera] = size
            self._fit = True
            self._batch.cache_clear()

    def _make_batch(self, segmenters: list[Segmenter]) -> SegmenterBatch | None:
        """Return the batch of all cameras' segmenters, or None if they run one by one."""
        # If frames of some cameras are stale or bad, the rest are not worth a graph of their own.
        if not len(segmenters) == self._together > 1:
            return None
        self._fit = can_batch(segmenters)
        try:
            return self._batch(*segmenters) if self._fit else None
        except Exception as error:  # noqa: BLE001 such as out of memory: do without the batch
            self._fit = False
            self._node.get_logger().warning(
                f'cannot batch all cameras, so they take turns from now on: {error}')
            return None
