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
Quantise a trained SegNet to 8-bit integers for CPUs, without data or training.

Batch normalisation gives the range of each channel's values, so no images are needed to measure it
(Nagel et al. 2019, arXiv 1906.04721). Each channel has its own step size, which ReLU, pooling and
unpooling leave as it is and the next convolution's weights undo. Maps are pooled and unpooled
before they are rounded: among 8-bit values maxima would tie, and the first would win.
"""

import torch
from torch import nn
from torch.nn.utils import fuse_conv_bn_eval

from segnet_ros.networks.build import Network
from segnet_ros.networks.layers import ConvUnit
from segnet_ros.networks.segnet import SegNet
from segnet_ros.onednn import onednn_has_int8, PackedConvolution, QuantizedConvolution

# Standard deviations above its mean at which a channel is clipped. Too few lose rare strong
# activations, too many lose fine ones; from 7 to 14 the mIoU on CamVid was the same within 0.2.
REACH = 10
LEVELS = 255


@torch.no_grad()
def quantize(network: Network, dtype: torch.dtype) -> Network:
    """
    Replace the convolutions by 8-bit ones, in place; of the first, only the results are 8-bit.

    :param network: in eval mode, with batch normalisation not yet folded.
    :param dtype: of the image and of the maps that are pooled; bfloat16 or float32.
    :raises ValueError: if the network, this CPU or this build of torch does not support int8.
    """
    if not isinstance(network, SegNet):
        # A channel's step passes only through ReLU, pooling and unpooling. Sums of maps do not
        # work, nor do convolutions without a ReLU after them.
        raise ValueError(f"precision 'int8' is only for SegNet, not {type(network).__name__}: "
                         'choose bfloat16 or float32')
    if not onednn_has_int8():
        raise ValueError("precision 'int8': this CPU has no AVX2, or torch "
                         f'{torch.__version__} has no convolutions for it; choose auto')
    stages = [*network.encoder, *network.decoder]
    # The last unit of each stage is followed by pooling or unpooling; that of the last stage, not
    # among these, by the classifier.
    ends = {id(stage[-1]) for stage in stages[:-1]}
    steps: torch.Tensor | None = None
    for stage in stages:
        for i, unit in enumerate(stage):
            out_steps = _steps(unit)
            conv = fuse_conv_bn_eval(unit.conv, unit.bn)
            if steps is None:
                stage[i] = _first(conv, out_steps, dtype)
            else:
                stage[i] = QuantizedConvolution(
                    conv, steps, out_steps, dtype if id(unit) in ends else torch.uint8)
            steps = out_steps
    assert steps is not None
    network.classifier = QuantizedConvolution(  # type: ignore[assignment]
        network.classifier, steps, None, torch.float32)
    return network


def _steps(unit: ConvUnit) -> torch.Tensor:
    """Return the value of one of 255 levels for each channel after ReLU, (C,)."""
    reach = unit.bn.bias + REACH * unit.bn.weight.abs()
    # A channel that is always zero needs a non-zero step too.
    return reach.clamp(min=1e-3 * float(reach.max().clamp(min=1e-6))) / LEVELS


def _first(conv: nn.Conv2d, steps: torch.Tensor, dtype: torch.dtype) -> PackedConvolution:
    """Return the first convolution, too small to gain from 8 bits, with its results in steps."""
    assert conv.bias is not None
    conv.weight.div_(steps[:, None, None, None])
    conv.bias.div_(steps).add_(0.5)  # what follows truncates, which now rounds
    return PackedConvolution(
        conv.to(dtype, memory_format=torch.channels_last),  # type: ignore[call-overload]
        ('hardtanh', 0.0, float(LEVELS)))
