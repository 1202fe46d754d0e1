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
PSPNet (Zhao, Shi, Qi, Wang, Jia; arXiv 1612.01105) on a dilated ResNet-18 (arXiv 1512.03385).

The last two stages are dilated instead of strided, so that the features keep an eighth of the
image's resolution. Pooled over the whole image and over 2x2, 3x3 and 6x6 parts of it, they give
each position the context of its scene. The authors' networks have a ResNet-50 or deeper; unlike
them, this one has a stem of two convolutions and no dropout.
"""

import torch
from torch import nn
from torch.nn import functional

from segnet_ros.networks.layers import ConvUnit, initialise

# Channels, stride and dilation of the residual stages, two blocks each.
STAGES = ((64, 1, 1), (128, 2, 1), (256, 1, 2), (512, 1, 4))
# The pyramid levels' bins along each side.
BINS = (1, 2, 3, 6)


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions, with the input added to their output."""

    def __init__(self, in_channels: int, out_channels: int, stride: int, dilation: int):
        super().__init__()
        self.units = nn.Sequential(
            ConvUnit(in_channels, out_channels, 3, stride=stride, dilation=dilation),
            ConvUnit(out_channels, out_channels, 3, relu=False, dilation=dilation))
        self.shortcut = (
            nn.Identity() if (in_channels, stride) == (out_channels, 1)
            else ConvUnit(in_channels, out_channels, 1, relu=False, stride=stride))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return (N, out_channels, H / stride, W / stride)."""
        return functional.relu(self.units(x) + self.shortcut(x), inplace=True)


class PyramidPooling(nn.Module):
    """The features concatenated with their averages over ever smaller bins, then a 3x3."""

    def __init__(self, in_channels: int, out_channels: int):
        super().__init__()
        part = in_channels // len(BINS)
        self.parts = nn.ModuleList(ConvUnit(in_channels, part, 1) for _ in BINS)
        self.unit = ConvUnit(in_channels + part * len(BINS), out_channels, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return (N, out_channels, H, W)."""
        parts = (unit(functional.adaptive_avg_pool2d(x, size))
                 for unit, size in zip(self.parts, BINS, strict=True))
        wide = [functional.interpolate(part, x.shape[-2:], mode='bilinear') for part in parts]
        return self.unit(torch.cat([x, *wide], 1))


class PSPNet(nn.Module):
    """
    Images (N, 3, H, W), normalised RGB, go in; logits (N, num_classes, H, W) come out.

    :param num_classes: channels of the logits.
    :param width: multiplies every stage's channels, rounded to a multiple of 8, at least 8; 1.0 is
        ResNet-18's.
    """

    def __init__(self, num_classes: int, width: float = 1.0):
        super().__init__()
        # Multiples of 8: from 4 channels oneDNN (of torch 2.13, AVX2) gets the weight gradient of
        # a strided 1x1 convolution wrong if channels come last, and corrupts memory.
        channels = [max(8, round(stage[0] * width / 8) * 8) for stage in STAGES]
        self.stem = nn.Sequential(ConvUnit(3, channels[0], 3, stride=2),
                                  ConvUnit(channels[0], channels[0], 3))
        self.encoder = nn.ModuleList()
        inputs = [channels[0], *channels[:-1]]
        for before, after, (_, stride, dilation) in zip(inputs, channels, STAGES, strict=True):
            self.encoder.append(nn.Sequential(ResidualBlock(before, after, stride, dilation),
                                              ResidualBlock(after, after, 1, dilation)))
        self.pyramid = PyramidPooling(channels[-1], channels[1])
        self.classifier = nn.Conv2d(channels[1], num_classes, 1)
        initialise(self)

    def stage_channels(self) -> list[int]:
        """Return the channels of the last stage but one, and of the classifier's input."""
        last_but_one = self.encoder[-2][-1]  # type: ignore[index]
        return [last_but_one.units[-1].conv.out_channels, self.classifier.in_channels]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the logits, (N, num_classes, H, W)."""
        return self.forward_stages(x)[-1]

    def forward_stages(self, x: torch.Tensor) -> list[torch.Tensor]:
        """
        Return the output of the last stage but one, the classifier's input and the logits.

        The paper's auxiliary loss uses the first.
        """
        size = x.shape[-2:]
        x = functional.max_pool2d(self.stem(x), 3, 2, padding=1)
        for stage in self.encoder[:-1]:
            x = stage(x)
        scene = self.pyramid(self.encoder[-1](x))
        logits = functional.interpolate(self.classifier(scene), size, mode='bilinear')
        return [x, scene, logits]
