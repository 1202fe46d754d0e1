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
Let raw camera images through Fast DDS, whose default shared memory is too small for them.

Knows the environment that Fast DDS reads; knows nothing of nodes. Other middlewares ignore it.
"""

import os

from segnet_ros.resources import share_directory

# Fast DDS 2 (Humble to Jazzy) reads the first, Fast DDS 3 (Kilted and later) the second.
PROFILE_VARIABLES = ('FASTRTPS_DEFAULT_PROFILES_FILE', 'FASTDDS_DEFAULT_PROFILES_FILE')


def use_large_image_profile():
    """
    Point Fast DDS at config/fastdds_large_images.xml, unless the user has set it up already.

    Call it before the process makes its first node. Child processes inherit it.
    """
    if any(name in os.environ for name in (*PROFILE_VARIABLES, 'FASTDDS_BUILTIN_TRANSPORTS')):
        return
    profile = share_directory() / 'config' / 'fastdds_large_images.xml'
    os.environ.update(dict.fromkeys(PROFILE_VARIABLES, str(profile)))
