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

"""Hand frames from thread to thread: each camera's newest waits, cameras take turns."""

from collections import deque
import threading


class NewestFrames:
    """
    Holds at most one frame for each camera; a newer one replaces it.

    The executor's thread puts frames, the workers' threads take them. Cameras are served in the
    order in which their frames began to wait, so that a fast camera cannot starve a slow one.
    """

    def __init__(self):
        self._frames: dict = {}
        self._order: deque = deque()
        self._condition = threading.Condition()
        self._closed = False

    def put(self, camera, frame) -> bool:
        """Store the camera's newest frame; return whether it replaced an older one."""
        with self._condition:
            replaced = camera in self._frames
            self._frames[camera] = frame
            if not replaced:
                self._order.append(camera)
                self._condition.notify()
            return replaced

    def take(self, together: int = 0) -> list[tuple]:
        """
        Wait for a frame; return [(camera, frame)] of the next camera, or [] once closed.

        :param together: if frames of this many cameras wait, return one of each.
        """
        with self._condition:
            self._condition.wait_for(lambda: self._order or self._closed)
            if self._closed:
                return []
            count = together if 0 < together <= len(self._order) else 1
            cameras = [self._order.popleft() for _ in range(count)]
            return [(camera, self._frames.pop(camera)) for camera in cameras]

    def close(self) -> list:
        """Drop all frames, wake all takers for good; return the cameras whose frames waited."""
        with self._condition:
            self._closed = True
            cameras = list(self._order)
            self._frames.clear()
            self._order.clear()
            self._condition.notify_all()
            return cameras
