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
The network in OpenVINO, for comparison: with exact unpooling that can be exported.

Comparing a feature map with its upsampled maximum would not be exact: zeros tie after ReLU.
"""

from collections.abc import Callable
import importlib
import importlib.util

import torch
from torch import nn
from torch.nn import functional

from segnet_ros.networks.segnet import EncoderDecoder

_HINTS = {torch.float32: 'f32', torch.bfloat16: 'bf16', torch.float16: 'f16'}


def openvino_is_installed() -> bool:
    """Return whether OpenVINO can be imported, without importing it."""
    return importlib.util.find_spec('openvino') is not None


class ExportableNetwork(nn.Module):
    """
    A SegNet without pooling indices: the four places of each window are four strided maps.

    A mask for each place says whether the maximum is there; ties go to the first, as in torch.
    Takes images whose sides can be halved as often as the network pools.
    """

    def __init__(self, network: EncoderDecoder):
        super().__init__()
        self._network = network

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the logits, as the network itself does."""
        pooled = []
        for stage in self._network.encoder:
            x, masks = _pool(stage(x))
            pooled.append(masks)
        for stage in self._network.decoder:
            x = stage(_unpool(x, pooled.pop()))
        return self._network.classifier(x)


def _pool(x: torch.Tensor) -> tuple[torch.Tensor, list[torch.Tensor]]:
    places = [x[..., row::2, column::2] for row in (0, 1) for column in (0, 1)]
    best = functional.max_pool2d(x, 2)
    free = torch.ones_like(best, dtype=torch.bool)
    masks = []
    for place in places:
        here = (place == best) & free
        free = free & ~here
        masks.append(here)
    return best, masks


def _unpool(x: torch.Tensor, masks: list[torch.Tensor]) -> torch.Tensor:
    places = torch.stack([x * mask.to(x.dtype) for mask in masks], 2)
    return functional.pixel_shuffle(places.flatten(1, 2), 2)


def openvino_runner(network: EncoderDecoder, image: torch.Tensor,
                    dtype: torch.dtype) -> Callable[[], object]:
    """Return a function that runs the network on the image, on the CPU in this precision."""
    openvino = importlib.import_module('openvino')
    with torch.inference_mode():
        model = openvino.convert_model(ExportableNetwork(network), example_input=image)
    model.reshape(list(image.shape))
    compiled = openvino.compile_model(model, 'CPU', {
        'INFERENCE_PRECISION_HINT': _HINTS[dtype], 'PERFORMANCE_HINT': 'LATENCY'})
    request, array = compiled.create_infer_request(), image.numpy()
    return lambda: request.infer([array], share_inputs=True, share_outputs=True)
