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
3x3 convolutions by Winograd's minimal filtering, for CPUs that compute in float32.

F(4x4, 3x3) of Lavin and Gray (arXiv 1509.09308): a tile of 6x6 pixels gives 4x4 results with 36
multiplications instead of 144, and two changes of basis. Their cost per channel is constant, so
Winograd pays with many channels. It rounds more than direct convolution: with 256 channels the
results are off by up to 1e-5 of the largest in float32, by 9 % in bfloat16.
"""

import torch
from torch import nn
from torch.nn import functional

from segnet_ros.onednn import Activation, RELU

# Minimum channels, in and out each, and in times out, to be faster (docs/performance.md).
LEAST_CHANNELS, LEAST_PRODUCT = 128, 128 * 256

# The paper's B transposed, G and A transposed: for the tiles, the weights and the results.
_TILE = ((4, 0, -5, 0, 1, 0), (0, -4, -4, 1, 1, 0), (0, 4, -4, -1, 1, 0), (0, -2, -1, 2, 1, 0),
         (0, 2, -1, -2, 1, 0), (0, 4, 0, -5, 0, 1))
_WEIGHT = ((1 / 4, 0, 0), (-1 / 6, -1 / 6, -1 / 6), (-1 / 6, 1 / 6, -1 / 6),
           (1 / 24, 1 / 12, 1 / 6), (1 / 24, -1 / 12, 1 / 6), (0, 0, 1))
_RESULT = ((1, 1, 1, 1, 1, 0), (0, 1, -1, 2, -2, 0), (0, 1, 1, 4, 4, 0), (0, 1, -1, 8, -8, 1))


def winograd_pays(conv: nn.Conv2d, dtype: torch.dtype) -> bool:
    """Tell whether Winograd is faster for this convolution on a CPU, and exact enough."""
    return (dtype == torch.float32 and conv.kernel_size == (3, 3) and conv.groups == 1
            and conv.stride == conv.dilation == conv.padding == (1, 1)
            and conv.padding_mode == 'zeros'
            and min(conv.in_channels, conv.out_channels) >= LEAST_CHANNELS
            and conv.in_channels * conv.out_channels >= LEAST_PRODUCT)


class WinogradConvolution(nn.Module):
    """
    A 3x3 convolution of stride 1 whose padding keeps the size, with its bias and optional ReLU.

    Holds no buffers, so several threads may run it at once.

    :param conv: the convolution to compute, float32; left unchanged, its bias shared.
    """

    def __init__(self, conv: nn.Conv2d, activation: Activation):
        super().__init__()
        assert conv.bias is not None
        tile, weight, result = (torch.tensor(rows, dtype=torch.float64)
                                for rows in (_TILE, _WEIGHT, _RESULT))
        # Both axes at once, as one matrix product over all tiles and channels.
        self._tile = torch.kron(tile, tile).float()
        self._result = torch.kron(result, result).float()
        self._weight = torch.einsum('ai,kcij,bj->abck', weight, conv.weight.double(), weight) \
            .flatten(0, 1).float().contiguous()
        self.bias = conv.bias
        self._relu = activation == RELU

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the convolved (N, C, H, W) map, channels last."""
        count, channels, height, width = x.shape
        rows, columns = -(-height // 4), -(-width // 4)  # of tiles
        padded = functional.pad(x.permute(0, 2, 3, 1), (
            0, 0, 1, 4 * columns + 1 - width, 1, 4 * rows + 1 - height))
        tiles = padded.unfold(1, 6, 4).unfold(2, 6, 4).permute(4, 5, 0, 1, 2, 3).reshape(36, -1)
        products = torch.bmm((self._tile @ tiles).view(36, -1, channels), self._weight)
        results = (self._result @ products.view(36, -1)).view(4, 4, count, rows, columns, -1)
        whole = results.permute(2, 3, 0, 4, 1, 5).reshape(count, 4 * rows, 4 * columns, -1)
        whole = whole[:, :height, :width] + self.bias
        return (whole.relu_() if self._relu else whole).permute(0, 3, 1, 2)
