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
Convolutions for CPUs whose weights oneDNN has packed once, with the ReLU fused in.

torch's own convolution packs the weights anew on every call and runs the ReLU as another pass over
memory. These are the operators that torch.compile uses; calling them needs no compiler. The
results are the same: in bfloat16 bit for bit, in float32 up to rounding.
"""

import torch
from torch import nn


def onednn_is_available(dtype: torch.dtype) -> bool:
    """Tell whether this build of torch has oneDNN's packed convolution for this dtype on CPUs."""
    return (dtype in (torch.float32, torch.bfloat16) and torch.backends.mkldnn.is_available()
            and hasattr(torch.ops.mkldnn, '_convolution_pointwise'))


class PackedConvolution(nn.Module):
    """
    A convolution of stride 1, its bias and, if asked for, ReLU.

    :param conv: what it computes; left as it is, its bias shared.
    :param relu: whether what comes out is cut off below zero.
    """

    def __init__(self, conv: nn.Conv2d, relu: bool):
        super().__init__()
        self._padding = list(conv.padding)
        self._activation = 'relu' if relu else 'none'
        self.bias = conv.bias
        # Not a buffer: it is opaque, and good for nothing but this operator.
        self._weight = torch.ops.mkldnn._reorder_convolution_weight(
            conv.weight, self._padding, [1, 1], [1, 1], 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the convolved (N, C, H, W) map, channels last where `x` is."""
        return torch.ops.mkldnn._convolution_pointwise(
            x, self._weight, self.bias, self._padding, [1, 1], [1, 1], 1, self._activation, [],
            '')
