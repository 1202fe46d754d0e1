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
Set Fast DDS up for raw camera images, for which its default shared memory is too small.

Knows the environment variables that Fast DDS reads, which other middlewares ignore; knows nothing
of nodes.
"""

from importlib.metadata import PackageNotFoundError, version
import logging
import os
import sys

from segnet_ros.resources import share_directory

# Fast DDS 2 (Humble to Jazzy) reads the first, Fast DDS 3 (Kilted and later) the second.
PROFILE_VARIABLES = ('FASTRTPS_DEFAULT_PROFILES_FILE', 'FASTDDS_DEFAULT_PROFILES_FILE')
DEFAULTS_VARIABLE = 'FASTDDS_BUILTIN_TRANSPORTS'
# If one of these is set, the user has set Fast DDS up already.
OWN_SETTINGS = (*PROFILE_VARIABLES, DEFAULTS_VARIABLE)
# Shared memory that a process takes at start: the profile's segment of 64 MiB, and 3 MB for
# bookkeeping (measured, Fast DDS 2.14).
SHARED_MEMORY_FOLDER = '/dev/shm'
SHARED_MEMORY = 68 * 2**20


def large_image_environment(wanted: bool = True) -> dict[str, str]:
    """
    Return the environment variables that a process needs for large images.

    There are none to add if the user has set Fast DDS up already.

    :param wanted: False returns what keeps a process of this package from using the profile.
    """
    if any(name in os.environ for name in OWN_SETTINGS):
        return {}
    if not wanted:
        return {DEFAULTS_VARIABLE: 'DEFAULT'}
    return dict.fromkeys(_variables_read(), _profile())


def use_large_image_profile():
    """
    Point Fast DDS at config/fastdds_large_images.xml, unless the user has set it up already.

    Call this before the process creates its first node. Child processes inherit the setting. If
    there is too little shared memory, say so and what to do, and run without the profile: Fast DDS
    itself would say that the platform has none.
    """
    os.environ.update(large_image_environment())
    # Resolve links: launch files and users may name the profile by a link that colcon installed.
    profile = os.path.realpath(_profile())
    ours = [name for name in PROFILE_VARIABLES
            if name in os.environ and os.path.realpath(os.environ[name]) == profile]
    fast_dds = 'fastrtps' in os.environ.get('RMW_IMPLEMENTATION', 'rmw_fastrtps_cpp')
    if ours and fast_dds and (free := _free_shared_memory()) < SHARED_MEMORY:
        logging.getLogger(__name__).warning(  # prints without any set-up
            '%s has %d MB free (0 if it cannot be written), but large images need %d MB per '
            'process: many will be lost. Start the container with --shm-size=1g or --ipc=host; to '
            'free what killed processes left behind, run `fastdds shm clean`.',
            SHARED_MEMORY_FOLDER, free / 1e6, SHARED_MEMORY / 1e6)
        for name in ours:
            del os.environ[name]


def _variables_read() -> tuple[str, ...]:
    """Return the profile variable that Fast DDS reads; Kilted warns if the old one is set."""
    try:
        rclpy = version('rclpy')
    except PackageNotFoundError:
        return PROFILE_VARIABLES  # one of them is it
    # Jazzy has rclpy 7, Kilted 9.
    return PROFILE_VARIABLES[:1] if int(rclpy.split('.')[0]) < 8 else PROFILE_VARIABLES[1:]


def _profile() -> str:
    return str(share_directory() / 'config' / 'fastdds_large_images.xml')


def _free_shared_memory() -> float:
    try:
        found = os.statvfs(SHARED_MEMORY_FOLDER)
    except OSError:  # outside Linux, Fast DDS's shared memory is elsewhere
        return 0.0 if sys.platform == 'linux' else float('inf')
    return found.f_bavail * found.f_frsize if os.access(SHARED_MEMORY_FOLDER, os.W_OK) else 0.0
