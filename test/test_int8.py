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

"""Check that the 8-bit network predicts the labels of the network it was quantised from."""

import copy

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from segnet_ros import int8, onednn
from segnet_ros.checkpoint import find_weights, load_checkpoint
from segnet_ros.networks.build import build_network
from segnet_ros.onednn import (
    onednn_has_int8, PackedConvolution, QuantizedConvolution, WEIGHT_LEVELS)
from segnet_ros.runtime import choose_precision, prepare
from segnet_ros.sample_drive.drive import SampleDrive
from segnet_ros.segmenter import Segmenter

CPU = torch.device('cpu')
needs_int8 = pytest.mark.skipif(
    not onednn_has_int8(), reason="needs a CPU with AVX2 and oneDNN's 8-bit convolution")


def levels(*shape):
    return torch.randint(0, 256, shape, dtype=torch.uint8).contiguous(
        memory_format=torch.channels_last)


@needs_int8
def test_the_first_convolution_s_results_are_rounded_once_truncated():
    torch.manual_seed(0)
    conv = nn.Conv2d(3, 16, 3, padding=1).requires_grad_(False)
    steps = torch.rand(16) / 99 + 1e-2
    x = torch.randn(1, 3, 13, 21).contiguous(memory_format=torch.channels_last)
    expected = (conv(x) / steps[:, None, None]).clamp(0, 255)
    found = int8._first(conv, steps, torch.float32)(x).to(torch.uint8)
    assert (found - expected).abs().max() < 0.51


def convolution(whole_weights: torch.Tensor, bias: torch.Tensor) -> nn.Conv2d:
    conv = nn.Conv2d(*whole_weights.shape[1::-1], 3, padding=1)
    conv.weight.data, conv.bias.data = whole_weights.float(), bias
    return conv.requires_grad_(False)


@needs_int8
def test_whole_numbers_are_convolved_exactly():
    torch.manual_seed(0)
    weights = torch.randint(-WEIGHT_LEVELS, WEIGHT_LEVELS + 1, (16, 8, 3, 3))
    weights[:, 0, 0, 0] = WEIGHT_LEVELS  # so that the scale of each output channel is 1
    bias = torch.randint(-1000, 1000, (16,)).float()
    x, conv = levels(1, 8, 13, 21), convolution(weights, bias)
    found = QuantizedConvolution(conv, torch.ones(8), None, torch.float32)(x)
    assert torch.equal(found, conv(x.float()))


@needs_int8
@pytest.mark.parametrize('ins, outs', [(32, 16), (32, 11), (3, 8)])
@pytest.mark.parametrize('sign', [1, -1])
def test_the_largest_products_do_not_saturate(ins, outs, sign):
    weights = torch.full((outs, ins, 3, 3), sign * WEIGHT_LEVELS)
    conv = convolution(weights, torch.zeros(outs))
    x = torch.full((1, ins, 5, 7), 255, dtype=torch.uint8).contiguous(
        memory_format=torch.channels_last)
    found = QuantizedConvolution(conv, torch.ones(ins), None, torch.float32)(x)
    assert torch.equal(found, conv(x.float()))
    assert 2 * 255 * WEIGHT_LEVELS < 2**15  # what CPUs without VNNI add in 16 bits


@needs_int8
@pytest.mark.parametrize('dtype', [torch.uint8, torch.float32, torch.bfloat16])
def test_steps_of_channels_are_taken_in_and_given_out(dtype):
    torch.manual_seed(0)
    conv = convolution(torch.randn(16, 8, 3, 3) / 9, torch.randn(16))
    in_steps, out_steps = torch.rand(8) / 99 + 1e-3, torch.rand(16) / 99 + 1e-2
    x = levels(1, 8, 13, 21)
    found = QuantizedConvolution(conv, in_steps, out_steps, dtype)(x)
    assert found.dtype == dtype
    expected = conv(x * in_steps[:, None, None]) / out_steps[:, None, None]
    found = found.to(torch.uint8).float()
    difference = (found - expected.clamp(0, 255)).abs()
    assert expected.max() > 255 and expected.min() < 0
    # Half a level from rounding the result, plus the error of the rounded weights.
    assert difference.max() < 5 and difference.mean() < 0.6
    # With the weights rounded, rounding the result is all; bfloat16 has steps of 1 above 128.
    weight = conv.weight * in_steps[:, None, None] / out_steps[:, None, None, None]
    scale = weight.abs().amax((1, 2, 3), keepdim=True) / WEIGHT_LEVELS
    exact = functional.conv2d(x.float(), (weight / scale).round() * scale, conv.bias / out_steps,
                              padding=1).clamp(0, 255)
    assert (found - exact).abs().max() < (1.01 if dtype == torch.bfloat16 else 0.51)


@pytest.fixture(scope='module')
def shipped():
    return load_checkpoint(find_weights('segnet_half_camvid11'))


def segment(shipped, dtype: torch.dtype, image: np.ndarray):
    network, info = shipped
    segmenter = Segmenter(prepare(copy.deepcopy(network), CPU, dtype), info, image.shape[:2])
    result = segmenter.segment(image)
    return result.label_map.copy(), result.confidence.astype(int)


@needs_int8
@pytest.mark.parametrize('size', [(240, 320), (181, 323)])
def test_labels_are_those_of_the_trained_network(shipped, size):
    image, truth = SampleDrive(seed=3, size=size).frame(20)
    expected, sure = segment(shipped, torch.float32, image)
    found, confidence = segment(shipped, torch.int8, image)
    assert (found == expected).mean() > 0.97
    assert np.abs(confidence - sure).mean() < 5
    assert (found == truth).mean() == pytest.approx((expected == truth).mean(), abs=0.01)


@needs_int8
def test_rounding_before_pooling_would_cost_more(shipped, monkeypatch):
    """As int8.py's docstring says, rounded values tie, and the first maximum wins."""
    image = SampleDrive(seed=3, size=(240, 320)).frame(80)[0]
    expected, _ = segment(shipped, torch.float32, image)
    found, _ = segment(shipped, torch.int8, image)

    class Rounding(QuantizedConvolution):

        def forward(self, x):
            levels = super().forward(x)
            return levels.floor() if self._activation[0] == 'hardtanh' else levels

    monkeypatch.setattr(int8, 'QuantizedConvolution', Rounding)
    rounded, _ = segment(shipped, torch.int8, image)
    assert (rounded == expected).mean() < (found == expected).mean()


@needs_int8
def test_a_channel_may_be_always_zero_or_have_a_negative_factor(shipped):
    network, info = copy.deepcopy(shipped)
    unit, image = network.encoder[1][0], SampleDrive(seed=3, size=(240, 320)).frame(20)[0]
    unit.bn.weight.data[0], unit.bn.bias.data[0] = 0, -9
    expected, _ = segment((network, info), torch.float32, image)
    for tensor in (unit.conv.weight, unit.bn.running_mean, unit.bn.weight):
        tensor.data.neg_()  # which changes nothing, taken together
    found, _ = segment((network, info), torch.int8, image)
    assert (found == expected).mean() > 0.97


@needs_int8
def test_every_convolution_is_replaced(shipped):
    network = prepare(copy.deepcopy(shipped[0]), CPU, torch.int8)
    kinds = [type(m) for m in network.modules()]
    assert kinds.count(QuantizedConvolution) == 25 and kinds.count(PackedConvolution) == 1
    assert not {nn.Conv2d, nn.BatchNorm2d} & set(kinds)


def test_what_cannot_be_run_so_is_said(shipped, monkeypatch):
    with pytest.raises(ValueError, match='only for SegNet, not SegNetBasic'):
        prepare(build_network('segnet_basic', 11), CPU, torch.int8)
    with pytest.raises(ValueError, match='float16'):
        choose_precision('int8', torch.device('cuda'))
    monkeypatch.setattr(onednn, 'cpu_has', lambda feature: feature != 'avx2')
    with pytest.raises(ValueError, match='AVX2'):
        prepare(copy.deepcopy(shipped[0]), CPU, torch.int8)
