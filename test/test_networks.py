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

"""Check the networks against a reference written from the paper alone, in plain PyTorch layers."""

import copy
import math

import pytest
from small_network import shake_batch_norms
import torch
from torch import nn

from segnet_ros.networks.build import ARCHITECTURES, build_network
from segnet_ros.networks.segnet import scatter_unpool, SegNet, SegNetBasic

CLASSES = 11
torch.set_num_threads(1)


class Reference(nn.Module):
    """
    SegNet as the paper draws it: layers in a row, indices pushed by pooling, popped by unpooling.

    `plan` holds 'pool', 'unpool', and (in, out, kernel, with norm, with ReLU) for convolutions.
    """

    def __init__(self, plan):
        super().__init__()
        self.pool = nn.MaxPool2d(2, stride=2, ceil_mode=True, return_indices=True)
        self.unpool = nn.MaxUnpool2d(2, stride=2)
        self.plan = plan
        self.layers = nn.ModuleList()
        for step in plan:
            if not isinstance(step, str):
                inputs, outputs, kernel, norm, relu = step
                layers = [nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, bias=not norm)]
                layers += [nn.BatchNorm2d(outputs)] if norm else []
                layers += [nn.ReLU()] if relu else []
                self.layers.append(nn.Sequential(*layers))

    def forward(self, x):
        layers, stack = iter(self.layers), []
        for step in self.plan:
            if step == 'pool':
                size = x.shape
                x, indices = self.pool(x)
                stack.append((indices, size))
            elif step == 'unpool':
                indices, size = stack.pop()
                x = self.unpool(x, indices, output_size=size)
            else:
                x = next(layers)(x)
        return x


def segnet_plan(width=1.0):
    c64, c128, c256, c512 = (round(c * width) for c in (64, 128, 256, 512))
    down = [(3, c64), (c64, c64), 'pool', (c64, c128), (c128, c128), 'pool',
            (c128, c256), (c256, c256), (c256, c256), 'pool',
            (c256, c512), (c512, c512), (c512, c512), 'pool',
            (c512, c512), (c512, c512), (c512, c512), 'pool']
    up = ['unpool', (c512, c512), (c512, c512), (c512, c512),
          'unpool', (c512, c512), (c512, c512), (c512, c256),
          'unpool', (c256, c256), (c256, c256), (c256, c128),
          'unpool', (c128, c128), (c128, c64), 'unpool', (c64, c64)]
    plan = [s if isinstance(s, str) else (*s, 3, True, True) for s in down + up]
    return [*plan, (c64, CLASSES, 3, False, False)]


def basic_plan():
    plan = []
    for inputs in (3, 64, 64, 64):
        plan += [(inputs, 64, 7, True, True), 'pool']
    for _ in range(4):
        plan += ['unpool', (64, 64, 7, True, False)]
    return [*plan, (64, CLASSES, 1, False, False)]


def with_same_weights(network, reference):
    """Fill both with the same random weights, layer by layer in the order of use."""
    shake_batch_norms(network)
    ours, theirs = network.state_dict(), reference.state_dict()
    assert [t.shape for t in ours.values()] == [t.shape for t in theirs.values()]
    reference.load_state_dict(dict(zip(theirs, ours.values(), strict=True)))
    return network.eval(), reference.eval()


@pytest.mark.parametrize('height, width', [(64, 96), (45, 61), (33, 32)])
@pytest.mark.parametrize('network, plan', [
    (SegNet(CLASSES, 0.125), segnet_plan(0.125)), (SegNetBasic(CLASSES), basic_plan())],
    ids=['segnet', 'basic'])
def test_agrees_with_the_reference(network, plan, height, width):
    network, reference = with_same_weights(network, Reference(plan))
    image = torch.randn(2, 3, height, width)
    with torch.no_grad():
        logits, expected = network(image), reference(image)
    assert logits.shape == (2, CLASSES, height, width)
    assert expected.std() > 1e-3
    torch.testing.assert_close(logits, expected)


def parameters(network):
    return sum(p.numel() for p in network.parameters())


@pytest.mark.parametrize('architecture, width, count', [
    ('segnet', 1.0, 29_441_419), ('segnet_basic', 1.0, 1_416_075),
    ('segnet', 0.5, 7_366_347), ('segnet', 0.25, 1_844_587)])
def test_parameter_counts(architecture, width, count):
    with torch.device('meta'):
        assert parameters(build_network(architecture, CLASSES, width)) == count


@pytest.mark.parametrize('width', [0.5, 0.25])
def test_narrow_networks_are_the_same_layers_narrower(width):
    network, reference = with_same_weights(SegNet(CLASSES, width), Reference(segnet_plan(width)))
    image = torch.randn(1, 3, 32, 32)
    with torch.no_grad():
        torch.testing.assert_close(network(image), reference(image))


def test_convolutions_are_13_and_13_and_4_and_4():
    with torch.device('meta'):
        full, basic = SegNet(CLASSES), SegNetBasic(CLASSES)

    def convolutions(module):
        return sum(isinstance(m, nn.Conv2d) for m in module.modules())

    # SegNet's 13th decoder convolution is the classifier; SegNet-Basic's classifier is a fifth.
    assert [convolutions(p) for p in (full.encoder, full.decoder, full.classifier)] == [13, 12, 1]
    assert [convolutions(p) for p in (basic.encoder, basic.decoder)] == [4, 4]


def test_stage_channels_are_those_of_the_stages():
    network = SegNet(CLASSES, 0.125).eval()
    with torch.no_grad():
        *stages, logits = network.forward_stages(torch.zeros(1, 3, 32, 64))
    assert [s.shape[1] for s in stages] == network.stage_channels()
    assert [tuple(s.shape[-2:]) for s in stages] == [
        (1, 2), (2, 4), (4, 8), (8, 16), (16, 32), (32, 64)]
    assert logits.shape == (1, CLASSES, 32, 64)


def without_convolutions():
    network = SegNet(3, 1 / 64)
    network.encoder = nn.ModuleList(nn.Identity() for _ in network.encoder)
    network.decoder = nn.ModuleList(nn.Identity() for _ in network.decoder)
    network.classifier = nn.Identity()
    return network


@pytest.mark.parametrize('architecture, width, channels', [
    ('segnet', 0.3, 154), ('segnet_basic', 0.26, 17), ('pspnet', 0.3, 80)])
def test_channels_are_rounded_to_the_nearest_or_older_weights_would_not_fit(architecture, width,
                                                                            channels):
    assert build_network(architecture, 11, width).stage_channels()[0] == channels


@pytest.mark.parametrize('architecture', ARCHITECTURES)
def test_random_weights_keep_the_variance_through_relus(architecture):
    torch.manual_seed(0)
    network = build_network(architecture, CLASSES)
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            expected = (2 / module.weight[0].numel()) ** 0.5
            assert module.weight.std().item() == pytest.approx(expected, rel=0.1)
    assert not network.classifier.bias.any()


def test_unpooling_puts_values_where_the_maxima_stood():
    network = without_convolutions()
    image = torch.rand(1, 3, 37, 64) + 0.1
    sparse = network(image)[0]
    # Only the largest value of each 32x32 block remains, in its own place. This includes the
    # blocks at the bottom, which are only 5 rows high.
    for channel, result in zip(image[0], sparse, strict=True):
        expected = torch.zeros_like(channel)
        for rows in (slice(0, 32), slice(32, 37)):
            for columns in (slice(0, 32), slice(32, 64)):
                block = channel[rows, columns]
                expected[rows, columns] = torch.where(block == block.max(), block, 0)
        assert torch.equal(result, expected)


def test_first_of_equal_maxima_wins():
    network = without_convolutions()
    sparse = network(torch.zeros(1, 3, 32, 32) + 0.5)
    assert sparse.count_nonzero() == 3 and (sparse[..., 0, 0] == 0.5).all()


@pytest.mark.parametrize('architecture, width, word', [
    ('resnet', 1.0, 'segnet_basic'), ('segnet', 0.0, 'positive'), ('segnet', -1, 'positive'),
    ('segnet', math.inf, 'positive')])
def test_build_refuses(architecture, width, word):
    with pytest.raises(ValueError, match=word):
        build_network(architecture, CLASSES, width)


@pytest.mark.parametrize('size', [(8, 12), (7, 9), (1, 2)])
@pytest.mark.parametrize('layout', [torch.contiguous_format, torch.channels_last])
def test_unpooling_by_scatter_is_unpooling_channels_last(size, layout):
    images = torch.randn(2, 5, *size).contiguous(memory_format=layout)
    results = []
    for of in (scatter_unpool, lambda x, indices, size: nn.functional.max_unpool2d(
            x, indices, 2, output_size=size)):
        pooled, indices = nn.functional.max_pool2d(images, 2, ceil_mode=True, return_indices=True)
        pooled.requires_grad_()
        result = of(pooled, indices, torch.Size(size))
        (result * torch.arange(result[0].numel()).view(result[0].shape)).sum().backward()
        results.append((result.detach(), pooled.grad))
    (ours, our_grad), (theirs, their_grad) = results
    assert torch.equal(ours, theirs) and torch.equal(our_grad, their_grad)
    assert ours.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.skipif(not torch.cuda.is_available(), reason='needs a CUDA device')
@pytest.mark.parametrize('kind', [SegNet, SegNetBasic])
def test_cuda_computes_what_the_cpu_computes_forward_and_backward(kind):
    network = kind(CLASSES, 0.125)
    # In float32 even a CPU's gradients are up to 7 % off: batch normalisation has only a dozen
    # pixels in the deepest stage.
    images = torch.rand(2, 3, 45, 70, dtype=torch.float64)
    grads = []
    for device in ('cpu', 'cuda'):
        own = copy.deepcopy(network).double().to(device, memory_format=torch.channels_last)
        logits = own(images.to(device))
        logits.square().mean().backward()
        grads.append([logits.detach().cpu(), *(p.grad.cpu() for p in own.parameters())])
    for expected, value in zip(*grads, strict=True):
        assert (value - expected).norm() < 1e-5 * expected.norm() + 1e-9
