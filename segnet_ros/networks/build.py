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

"""Build a network by its architecture's name, as checkpoints and the command line give it."""

import math

from segnet_ros.networks.pspnet import PSPNet
from segnet_ros.networks.segnet import EncoderDecoder, SegNet, SegNetBasic

Network = EncoderDecoder | PSPNet
ARCHITECTURES: dict[str, type[Network]] = {
    'segnet': SegNet, 'segnet_basic': SegNetBasic, 'pspnet': PSPNet}


def build_network(architecture: str, num_classes: int, width: float = 1.0) -> Network:
    """
    Return a new network with random weights.

    :raises ValueError: for a name that is not in ARCHITECTURES, or a width that is not positive.
    """
    if architecture not in ARCHITECTURES:
        raise ValueError(f"unknown architecture '{architecture}'; choose from "
                         f"{', '.join(sorted(ARCHITECTURES))}")
    if not 0 < width < math.inf:
        raise ValueError(f'width must be a positive number, not {width}')
    return ARCHITECTURES[architecture](num_classes, width)
