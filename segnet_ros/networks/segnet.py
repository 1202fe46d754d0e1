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
SegNet and SegNet-Basic (Badrinarayanan, Kendall, Cipolla; arXiv 1511.00561).

An encoder of convolutions and max pooling keeps the position of each maximum (the pooling
indices); the decoder unpools to exactly those positions, and its convolutions make the sparse map
dense again. No skip connections, no learned upsampling.
"""

from collections.abc import Iterator

import torch
from torch import nn
from torch.nn import functional

from segnet_ros.networks.layers import ConvUnit, initialise

# Channels of the convolutions of each encoder stage: VGG16's thirteen (arXiv 1409.1556).
VGG16_STAGES = ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512))
BASIC_STAGES = ((64,), (64,), (64,), (64,))


def _stage(channels: list[int], kernel_size: int, relu: bool = True) -> nn.Sequential:
    return nn.Sequential(*(ConvUnit(a, b, kernel_size, relu)
                           for a, b in zip(channels[:-1], channels[1:], strict=True)))


def scatter_unpool(x: torch.Tensor, indices: torch.Tensor, size: torch.Size) -> torch.Tensor:
    """
    Put each value where its maximum was, and zeros everywhere else: max_unpool2d, channels last.

    On CUDA functional.max_unpool2d always returns channels first, and the convolution after it
    converts the layout back: 9 % of what an H100 does in a training step.

    :param x: (N, C, h, w).
    :param indices: of the same shape, as functional.max_pool2d returns them.
    :param size: (H, W) of the result, (N, C, H, W).
    """
    values, places = (t.permute(0, 2, 3, 1).flatten(1, 2) for t in (x, indices))
    result = x.new_zeros((x.shape[0], size[0] * size[1], x.shape[1]))
    return result.scatter_(1, places, values).unflatten(1, size).permute(0, 3, 1, 2)


class EncoderDecoder(nn.Module):
    """
    What SegNet and SegNet-Basic share: stages, pooling indices, unpooling.

    Images (N, 3, H, W), normalised RGB, go in; logits (N, num_classes, H, W) come out, for any H
    and W: if a side is odd, the last pooling window is one pixel wide (ceil mode).
    """

    encoder: nn.ModuleList
    decoder: nn.ModuleList
    classifier: nn.Conv2d

    def stage_channels(self) -> list[int]:
        """Return the channels of the bottleneck and of each decoder stage, deepest first."""
        return [stage[-1].conv.out_channels
                for stage in (self.encoder[-1], *self.decoder)]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the logits, (N, num_classes, H, W)."""
        # One at a time: memory that is released early is still in the cache when reused.
        for output in self._stages(x):
            logits = output
        return logits

    def forward_stages(self, x: torch.Tensor) -> list[torch.Tensor]:
        """
        Return the bottleneck, each decoder stage's output (deepest first) and, last, the logits.

        Training attaches its auxiliary heads to them (deep supervision, arXiv 1409.5185).
        """
        return list(self._stages(x))

    def _stages(self, x: torch.Tensor) -> Iterator[torch.Tensor]:
        pooled = []
        for stage in self.encoder:
            x = stage(x)
            size = x.shape[-2:]
            x, indices = functional.max_pool2d(x, 2, ceil_mode=True, return_indices=True)
            pooled.append((indices, size))
        yield x
        for stage in self.decoder:
            x = stage(self.unpool(x, *pooled.pop()))
            yield x
        yield self.classifier(x)

    @staticmethod
    def unpool(x: torch.Tensor, indices: torch.Tensor, size: torch.Size) -> torch.Tensor:
        """Undo functional.max_pool2d, with zeros for the values it dropped."""
        if x.is_cuda:
            return scatter_unpool(x, indices, size)
        return functional.max_unpool2d(x, indices, (2, 2), output_size=size)


class SegNet(EncoderDecoder):
    """
    The paper's SegNet: VGG16's 13 convolutions, mirrored by 13; the last is the classifier.

    :param num_classes: channels of the logits.
    :param width: multiplies every stage's channels; 1.0 is the paper's 29.4 M parameters.
    """

    def __init__(self, num_classes: int, width: float = 1.0):
        super().__init__()
        stages = [[max(1, round(c * width)) for c in stage] for stage in VGG16_STAGES]
        inputs = [3] + [stage[-1] for stage in stages[:-1]]
        self.encoder = nn.ModuleList(
            _stage([first, *stage], 3) for first, stage in zip(inputs, stages, strict=True))
        # Each decoder stage mirrors its encoder stage, and ends with the channels of the next
        # shallower one, whose pooling indices unpool it. The last convolution of all is the
        # classifier, so the shallowest stage has one unit fewer.
        decoder = []
        for i in reversed(range(len(stages))):
            mirrored = [*reversed(stages[i]), inputs[i]] if i else list(reversed(stages[i]))
            decoder.append(_stage(mirrored, 3))
        self.decoder = nn.ModuleList(decoder)
        self.classifier = nn.Conv2d(stages[0][0], num_classes, 3, padding=1)
        initialise(self)


class SegNetBasic(EncoderDecoder):
    """
    The paper's small network: 4 + 4 convolutions of 7x7 with 64 channels, 1.4 M parameters.

    As in the paper the decoder has no ReLU. The checkpoint's mean and standard deviation replace
    the authors' local response normalisation of the input.
    """

    def __init__(self, num_classes: int, width: float = 1.0):
        super().__init__()
        stages = [[max(1, round(c * width)) for c in stage] for stage in BASIC_STAGES]
        inputs = [3] + [stage[-1] for stage in stages[:-1]]
        self.encoder = nn.ModuleList(
            _stage([first, *stage], 7) for first, stage in zip(inputs, stages, strict=True))
        self.decoder = nn.ModuleList(
            _stage([stage[-1], stage[-1]], 7, relu=False) for stage in reversed(stages))
        self.classifier = nn.Conv2d(stages[0][0], num_classes, 1)
        initialise(self)
