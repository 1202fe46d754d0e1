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

"""A separate ROS domain for commands that start nodes as a trial, so that they meet no robot."""

import os


def enter_domain(domain: int | None):
    """
    Put this process, and those that it starts, in a ROS domain.

    :param domain: None for one that is likely to be free, and limited to this machine.
    :raises ValueError: if DDS has no ports for it.
    """
    if domain is not None and not 0 <= domain <= 232:
        raise ValueError(f'--domain {domain}: ROS domains are numbered from 0 to 232')
    # Above 100, the ports that DDS computes from it overlap the system's ephemeral ports.
    os.environ['ROS_DOMAIN_ID'] = str(1 + os.getpid() % 100 if domain is None else domain)
    if domain is None:
        os.environ['ROS_AUTOMATIC_DISCOVERY_RANGE'] = 'LOCALHOST'
