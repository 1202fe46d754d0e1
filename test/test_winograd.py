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

"""Check that Winograd convolution matches the definition, and is used where it is faster."""

from concurrent.futures import ThreadPoolExecutor

import pytest
from small_network import shake_batch_norms
import torch
from torch import nn
from torch.nn import functional

from segnet_ros.networks.build import build_network
from segnet_ros.onednn import NO_ACTIVATION, onednn_is_available, PackedConvolution, RELU
from segnet_ros.runtime import prepare
from segnet_ros.winograd import winograd_pays, WinogradConvolution

CPU = torch.device('cpu')


@pytest.mark.parametrize('activation', [RELU, NO_ACTIVATION])
@pytest.mark.parametrize('count,size', [
    (1, (8, 12)), (2, (9, 14)), (1, (3, 7)), (3, (1, 1)), (1, (22, 31))])
def test_it_gives_what_the_definition_gives(count, size, activation):
    torch.manual_seed(0)
    conv = nn.Conv2d(24, 17, 3, padding=1).requires_grad_(False)
    assert conv.bias is not None
    weight = conv.weight.clone()
    x = torch.randn(count, 24, *size).contiguous(memory_format=torch.channels_last)
    kept = x.clone()
    expected = functional.conv2d(x.double(), conv.weight.double(), conv.bias.double(), padding=1)
    if activation == RELU:
        expected = expected.relu()
    result = WinogradConvolution(conv, activation)(x)
    assert result.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(result, expected.float(), rtol=0, atol=5e-5)
    assert torch.equal(x, kept) and torch.equal(conv.weight, weight)


def test_maps_with_channels_first_are_taken_too():
    torch.manual_seed(0)
    conv = nn.Conv2d(4, 5, 3, padding=1).requires_grad_(False)
    x = torch.randn(1, 4, 6, 5)
    torch.testing.assert_close(WinogradConvolution(conv, NO_ACTIVATION)(x), conv(x), rtol=0,
                               atol=5e-5)


def test_threads_may_share_one():
    torch.manual_seed(0)
    conv = nn.Conv2d(32, 48, 3, padding=1).requires_grad_(False)
    shared = WinogradConvolution(conv, RELU)
    maps = [torch.randn(1, 32, 20 + n, 60) for n in range(8)]
    with ThreadPoolExecutor(4) as pool:
        results = list(pool.map(shared, maps * 5))
    for x, result in zip(maps * 5, results, strict=True):
        torch.testing.assert_close(result, conv(x).relu(), rtol=0, atol=5e-5)


@pytest.mark.parametrize('changed,pays', [
    ({}, True), ({'out_channels': 128}, True), ({'in_channels': 128}, True),
    ({'in_channels': 128, 'out_channels': 128}, False), ({'in_channels': 64}, False),
    ({'out_channels': 11}, False), ({'stride': 2}, False), ({'groups': 2}, False),
    ({'dilation': 2, 'padding': 2}, False), ({'padding': 0}, False),
    ({'kernel_size': 7, 'padding': 3}, False), ({'padding_mode': 'reflect'}, False)])
def test_where_it_pays(changed, pays):
    conv = nn.Conv2d(**{'in_channels': 256, 'out_channels': 256, 'kernel_size': 3, 'padding': 1,
                        **changed})
    assert winograd_pays(conv, torch.float32) is pays
    assert not winograd_pays(conv, torch.bfloat16)


@pytest.mark.skipif(not onednn_is_available(torch.float32), reason='this torch has no oneDNN')
def test_a_prepared_network_of_half_width_has_both_and_gives_the_same():
    torch.manual_seed(0)
    network = build_network('segnet', 11, 0.5).eval()
    shake_batch_norms(network)  # as if trained: folding then gives biases
    image = torch.randn(2, 3, 45, 62)
    with torch.no_grad():
        expected = network(image)
        prepared = prepare(network, CPU, torch.float32)
        result = prepared(image.contiguous(memory_format=torch.channels_last))
    kinds = [type(module) for module in prepared.modules()]
    assert kinds.count(WinogradConvolution) == 12 and kinds.count(PackedConvolution) == 14
    # If the two largest values of a pooling window are nearly equal, rounding decides.
    close = torch.isclose(result, expected, rtol=0, atol=1e-4 * float(expected.abs().max()))
    assert close.float().mean() > 0.99
