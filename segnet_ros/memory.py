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

"""The memory of this process: how much it holds, and keeping what is freed for the next use."""

import ctypes
import resource


def resident_bytes() -> int:
    """Return the resident memory of this process, in bytes."""
    with open('/proc/self/statm') as file:
        return int(file.read().split()[1]) * resource.getpagesize()


def keep_freed_memory():
    """
    Tell the C library to keep freed memory for the next allocations of this process.

    By default glibc returns large blocks to the kernel, and each new one comes as untouched
    pages: page faults took a third of a training step, and a tenth of a node's frame with two
    frames processed at a time. Does nothing if the C library has no mallopt (musl, macOS).
    """
    # From glibc's malloc.h; mallopt(3).
    m_trim_threshold, m_top_pad, m_mmap_max = -1, -2, -4
    mallopt = getattr(ctypes.CDLL(None), 'mallopt', None)
    if mallopt:
        mallopt(m_mmap_max, 0)
        mallopt(m_trim_threshold, 2**31 - 1)
        mallopt(m_top_pad, 64 * 2**20)
