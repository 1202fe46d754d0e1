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

"""A separate ROS domain for each test process, so that concurrent tests do not meet."""

import fcntl
from functools import cache
from pathlib import Path
import tempfile

_held = []  # open lock files: a lock lasts as long as its file is open


@cache
def free_domain() -> str:
    """Return a ROS_DOMAIN_ID that no other test process on this machine has taken."""
    # Above 100, the ports that DDS computes from it overlap the system's ephemeral ports.
    for domain in range(1, 101):
        lock = open(  # noqa: SIM115 it stays open
            Path(tempfile.gettempdir(), f'segnet_ros_test_domain_{domain}.lock'), 'w')
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.close()
            continue
        _held.append(lock)
        return str(domain)
    raise RuntimeError('all 100 ROS domains are taken by test processes')
