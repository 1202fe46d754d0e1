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
CPU convolutions whose weights oneDNN packs once, with the ReLU fused in.

torch's own convolution repacks the weights on every call and runs the ReLU as another pass over
memory. These are the operators that torch.compile uses; calling them needs no compiler. SegNet's
results are the same: bit for bit in bfloat16, up to rounding in float32.
"""

import torch
from torch import nn

# The name of the fused activation, then its parameters.
Activation = tuple[str, *tuple[float, ...]]
NO_ACTIVATION: Activation = ('none',)
RELU: Activation = ('relu',)

# Levels of 8-bit weights on either side of zero. CPUs without VNNI add products in pairs in 16
# bits: twice 255 * 64 fits, twice 255 * 65 saturates. With VNNI more would fit, but CPUs
# that compute the rest in the same precision should give the same labels.
WEIGHT_LEVELS = 64


def onednn_is_available(dtype: torch.dtype) -> bool:
    """Tell whether torch has oneDNN's packed convolution for this dtype on this CPU."""
    if not (torch.backends.mkldnn.is_available()
            and hasattr(torch.ops.mkldnn, '_convolution_pointwise')):
        return False
    # With only AVX2, oneDNN rejects bfloat16; torch's own convolution accepts it, slowly.
    return dtype == torch.float32 or (
        dtype == torch.bfloat16 and torch.ops.mkldnn._is_mkldnn_bf16_supported())


def cpu_has(feature: str) -> bool:
    """Tell whether torch finds a CPU feature, e.g. 'avx2'; False if torch is too old to check."""
    return getattr(torch.cpu, f'_is_{feature}_supported', lambda: False)()


def onednn_has_int8() -> bool:
    """Tell whether this CPU has AVX2 and this torch has oneDNN's 8-bit convolution."""
    return (onednn_is_available(torch.float32) and cpu_has('avx2')
            and hasattr(torch.ops.onednn, 'qconv2d_pointwise'))


class PackedConvolution(nn.Module):
    """
    A convolution with its bias and a fused activation.

    :param conv: the convolution to compute; left unchanged, its bias shared.
    :param activation: e.g. RELU.
    """

    def __init__(self, conv: nn.Conv2d, activation: Activation):
        super().__init__()
        self._geometry = list(conv.padding), list(conv.stride), list(conv.dilation), conv.groups
        self._activation, self._numbers = activation[0], list(activation[1:])
        self.bias = conv.bias
        # Not a buffer: it is opaque, and only this operator can use it.
        self._weight = torch.ops.mkldnn._reorder_convolution_weight(
            conv.weight, *self._geometry)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the convolved (N, C, H, W) map, channels last if `x` is."""
        return torch.ops.mkldnn._convolution_pointwise(
            x, self._weight, self.bias, *self._geometry, self._activation, self._numbers, '')


class QuantizedConvolution(nn.Module):
    """
    A convolution of stride 1 that takes uint8 maps, multiplies int8 weights and adds in int32.

    :param conv: the convolution to compute, float32; its weights are rounded to WEIGHT_LEVELS on
        either side of zero, with a scale for each output channel.
    :param in_steps: (in channels,) the value of one level of each input channel.
    :param out_steps: likewise for the output, which is then clipped to 0 to 255 levels; None for
        plain values, as from a classifier.
    :param out_dtype: uint8 or a floating dtype. With the latter, levels are not rounded but 0.5
        higher, so that truncation rounds them (in bfloat16, whose own steps are 0.5 from 64 and 1
        from 128, often to one level more).
    """

    def __init__(self, conv: nn.Conv2d, in_steps: torch.Tensor, out_steps: torch.Tensor | None,
                 out_dtype: torch.dtype):
        super().__init__()
        assert conv.bias is not None
        weight, bias = conv.weight * in_steps[:, None, None], conv.bias.clone()
        self._activation: Activation = NO_ACTIVATION
        if out_steps is not None:
            weight, bias = weight / out_steps[:, None, None, None], bias / out_steps
            self._activation = RELU
            if out_dtype != torch.uint8:
                bias += 0.5
                self._activation = ('hardtanh', 0.0, 255.0)
        self._padding, self._out_dtype = list(conv.padding), out_dtype
        self.bias = nn.Parameter(bias, requires_grad=False)
        self._scale = weight.abs().amax((1, 2, 3)).clamp(min=1e-12) / WEIGHT_LEVELS
        self._zero_points = torch.zeros(len(bias), dtype=torch.int32)
        whole = (weight / self._scale[:, None, None, None]).round().to(torch.int8)
        self._weight = torch.ops.onednn.qconv_prepack(
            whole, self._scale, 1.0, 0, [1, 1], self._padding, [1, 1], 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the convolved (N, C, H, W) map; `x` in levels, 0 to 255, of any dtype."""
        name, *numbers = self._activation
        return torch.ops.onednn.qconv2d_pointwise(
            x.to(torch.uint8), 1.0, 0, self._weight, self._scale, self._zero_points, self.bias,
            [1, 1], self._padding, [1, 1], 1, 1.0, 0, self._out_dtype, name, numbers, '')
