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

"""Check PSPNet against a second version in plain functions, which look weights up by name."""

import pytest
from small_network import shake_batch_norms
import torch
from torch import nn
from torch.nn import functional

from segnet_ros.networks.build import build_network
from segnet_ros.networks.pspnet import PSPNet
from segnet_ros.runtime import prepare

CLASSES = 11
CPU = torch.device('cpu')
torch.set_num_threads(1)


@pytest.fixture
def network():
    """Return a narrow network whose batch normalisation does something."""
    torch.manual_seed(1)
    network = PSPNet(CLASSES, 0.125)
    shake_batch_norms(network)
    return network.eval()


def reference(state, x):
    """
    Return the logits.

    The network is ResNet-18, with stride 1 and dilations 2 and 4 at its end, and a pyramid.
    """
    def unit(name, x, stride=1, dilation=1):
        weight = state[f'{name}.conv.weight']
        padding = dilation * (weight.shape[-1] // 2)
        x = functional.conv2d(x, weight, None, stride, padding, dilation)
        return functional.batch_norm(x, state[f'{name}.bn.running_mean'],
                                     state[f'{name}.bn.running_var'],
                                     state[f'{name}.bn.weight'], state[f'{name}.bn.bias'])

    def block(name, x, stride, dilation):
        y = functional.relu(unit(f'{name}.units.0', x, stride, dilation))
        y = unit(f'{name}.units.1', y, 1, dilation)
        projected = f'{name}.shortcut.conv.weight' in state
        return functional.relu(y + (unit(f'{name}.shortcut', x, stride) if projected else x))

    size = x.shape[-2:]
    x = functional.relu(unit('stem.0', x, 2))
    x = functional.relu(unit('stem.1', x))
    x = functional.max_pool2d(x, 3, 2, 1)
    for i, (stride, dilation) in enumerate([(1, 1), (2, 1), (1, 2), (1, 4)]):
        x = block(f'encoder.{i}.0', x, stride, dilation)
        x = block(f'encoder.{i}.1', x, 1, dilation)
    levels = [x]
    for i, bins in enumerate((1, 2, 3, 6)):
        level = functional.adaptive_avg_pool2d(x, bins)
        level = functional.relu(unit(f'pyramid.parts.{i}', level))
        levels.append(functional.interpolate(level, x.shape[-2:], mode='bilinear'))
    x = functional.relu(unit('pyramid.unit', torch.cat(levels, 1)))
    x = functional.conv2d(x, state['classifier.weight'], state['classifier.bias'])
    return functional.interpolate(x, size, mode='bilinear')


@pytest.mark.parametrize('height, width', [(64, 96), (45, 61), (9, 8)])
@torch.no_grad()
def test_agrees_with_plain_functions(network, height, width):
    image = torch.randn(2, 3, height, width)
    logits, expected = network(image), reference(network.state_dict(), image)
    assert logits.shape == (2, CLASSES, height, width)
    assert expected.std() > 1e-3
    torch.testing.assert_close(logits, expected)


@torch.no_grad()
def test_stages_are_an_eighth_of_the_image(network):
    image = torch.randn(1, 3, 64, 96)
    *stages, logits = network.forward_stages(image)
    assert [tuple(s.shape) for s in stages] == [(1, c, 8, 12) for c in network.stage_channels()]
    assert torch.equal(logits, network(image))


@torch.no_grad()
def test_every_place_sees_the_whole_image(network):
    image = torch.zeros(1, 3, 64, 1024)
    before = network(image)
    image[..., -8:] = 5
    assert (network(image)[..., :8] != before[..., :8]).any()


def test_weights_are_those_of_resnet_18_and_the_pyramid():
    def count(module):
        return sum(p.numel() for p in module.parameters())

    with torch.device('meta'):
        network = build_network('pspnet', CLASSES)
    # torchvision's resnet18: layer1 to layer4.
    assert [count(stage) for stage in network.encoder] == [147_968, 525_568, 2_099_712, 8_393_728]
    assert count(network) == 12_650_315


@torch.no_grad()
def test_prepared_it_gives_the_same(network):
    image = torch.randn(1, 3, 45, 61)
    expected = network(image)
    prepared = prepare(network, CPU, torch.float32)
    assert not any(isinstance(m, nn.BatchNorm2d) for m in prepared.modules())
    torch.testing.assert_close(prepared(image), expected, rtol=1e-3, atol=1e-4)


def test_int8_is_for_segnet(network):
    with pytest.raises(ValueError, match='int8.*only for SegNet, not PSPNet'):
        prepare(network, CPU, torch.int8)


@pytest.mark.parametrize('width', [0.01, 0.3])
@torch.no_grad()
def test_any_width_does(width):
    network = PSPNet(CLASSES, width).eval()
    assert network(torch.zeros(1, 3, 24, 40)).shape == (1, CLASSES, 24, 40)
    assert all(m.in_channels % 8 == 0 for m in network.modules()
               if isinstance(m, nn.Conv2d) and m.in_channels != 3)
