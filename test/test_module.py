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

"""Check the losses, the optimiser, the rates and the CUDA graphs of a training step."""

import gc
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch.nn import functional
from training_fixtures import recipe, write_labels

from segnet_ros.checkpoint import ModelInfo
from segnet_ros.cuda_graph import training_graph
from segnet_ros.labels import load_label_set, VOID
from segnet_ros.segmenter import Segmenter
from segnet_ros.training.config import Phase
from segnet_ros.training.dataset import class_shares
from segnet_ros.training.module import class_weights, SegmentationModule

torch.set_num_threads(1)
CAMVID = load_label_set('camvid11')


def test_rare_classes_weigh_more():
    frames = [(np.zeros((2, 5, 3), np.uint8), np.array([[0] * 5, [0, 0, 0, 1, VOID]], np.uint8))]
    shares = class_shares(frames, 3)
    np.testing.assert_allclose(shares, [8 / 9, 1 / 9, 0])
    weights = class_weights(shares, 1.1).numpy()
    expected = 1 / np.log(1.1 + np.array([8 / 9, 1 / 9, 0]))
    np.testing.assert_allclose(weights, expected / expected.mean(), rtol=1e-6)


def test_class_weights_that_would_not_be_positive_numbers_are_refused():
    class_weights(np.array([0.9, 0.1]), 1.0)
    with pytest.raises(ValueError, match='class_weight_offset 1.0 is too small'):
        class_weights(np.array([1.0, 0.0]), 1.0)
    with pytest.raises(ValueError, match='class_weight_offset 0.9 is too small'):
        class_weights(np.array([0.95, 0.05]), 0.9)


def test_void_pixels_count_neither_as_loss_nor_as_weight(data):
    config = recipe(data)
    weights = torch.arange(1.0, 12.0)
    module = SegmentationModule(config, ModelInfo(CAMVID, width=config.width), weights)
    logits = torch.randn(1, 11, 4, 6, generator=torch.Generator().manual_seed(0))
    labels = torch.arange(24).view(1, 4, 6) % 11
    whole = module._cross_entropy(logits[:, :, :2], labels[:, :2])
    labels[:, 2:] = VOID
    torch.testing.assert_close(module._cross_entropy(logits, labels), whole)
    expected = functional.cross_entropy(logits, labels, weights, ignore_index=VOID)
    torch.testing.assert_close(whole, expected)
    assert module._cross_entropy(logits, torch.full_like(labels, VOID)) == 0
    module.class_weights = weights / 20  # one pixel of a common class weighs less than 1
    labels[:] = VOID
    labels[0, 1, 1] = 0
    torch.testing.assert_close(module._cross_entropy(logits, labels), functional.cross_entropy(
        logits, labels, weights, ignore_index=VOID))


def test_going_on_with_other_classes_is_refused_wherever_their_file_is(data, tmp_path):
    def module(labels, folder=data):
        config = recipe(folder, label_set=labels)
        return SegmentationModule(config, ModelInfo(load_label_set(labels), width=config.width),
                                  torch.ones(12))
    state: dict = {}
    module(write_labels(tmp_path / 'own.yaml')).on_save_checkpoint(state)
    module(write_labels(tmp_path / 'moved.yaml'), tmp_path / 'moved too').on_load_checkpoint(state)
    for classes in (range(11, -1, -1), range(13)):
        with pytest.raises(ValueError, match='holds a run for other classes.*--output'):
            module(write_labels(tmp_path / 'own.yaml', classes)).on_load_checkpoint(state)


def module_of_a_run(config, steps):
    info = ModelInfo(CAMVID, config.architecture, config.width)
    module = SegmentationModule(config, info, torch.ones(11))
    module.trainer = SimpleNamespace(estimated_stepping_batches=steps)
    return module


@pytest.mark.parametrize('architecture, convolutions', [('segnet', 25), ('pspnet', 26)])
def test_muon_takes_the_convolutions_and_adamw_the_rest(data, architecture, convolutions):
    module = module_of_a_run(recipe(data, architecture=architecture), 10)
    groups = module.configure_optimizers()['optimizer'].param_groups
    names = {id(p): n for n, p in module.named_parameters()}
    grouped = [[names[id(p)] for p in group['params']] for group in groups]
    assert sorted(sum(grouped, [])) == sorted(names.values())
    assert [group['use_muon'] for group in groups] == [True, False, False]
    muon, heads, norms = grouped
    assert all(n.endswith('conv.weight') for n in muon) and len(muon) == convolutions
    assert {n.split('.')[-2] for n in norms} == {'bn'} and groups[2]['weight_decay'] == 0
    assert {n.split('.')[0] for n in heads} == {'aux_heads', 'network'}


@pytest.mark.parametrize('weight', [0.25, 1.0])
def test_auxiliary_losses_weigh_what_the_recipe_says(data, weight):
    images = torch.randint(0, 256, (2, 3, 32, 32), dtype=torch.uint8)
    label_maps = torch.randint(0, 11, (2, 32, 32), dtype=torch.uint8)
    module = module_of_a_run(recipe(data, aux_weight=weight), 10).eval()
    logged = {}
    module.log = lambda name, value, **_: logged.update({name: value})
    loss = module.training_step((images, label_maps), 0)
    *features, _ = module.network.forward_stages(module._normalised(images))
    assert len(module.aux_heads) == 5  # the last stage of the decoder needs none
    auxiliary = []
    for head, feature in zip(module.aux_heads, features, strict=False):
        step = 32 // feature.shape[-1]
        auxiliary.append(functional.cross_entropy(
            head(feature), label_maps[:, ::step, ::step].long()))
    assert (loss - logged['loss']).item() == pytest.approx(
        weight * torch.stack(auxiliary).mean().item(), rel=1e-4)


@pytest.mark.parametrize(('final_lr', 'half_way'), [(0.0, 0.5), (0.2, 0.6), (1.0, 1.0)])
def test_the_rates_rise_and_fall_to_the_final_share_of_their_peak(data, final_lr, half_way):
    config = recipe(data, final_lr=final_lr, warmup_steps=4, lr=0.1, muon_lr=0.5)
    configured = module_of_a_run(config, 24).configure_optimizers()
    schedule = configured['lr_scheduler']['scheduler']
    rates = [schedule.get_last_lr()]
    for _ in range(24):
        configured['optimizer'].step()
        schedule.step()
        rates.append(schedule.get_last_lr())
    shares = torch.tensor(rates) / torch.tensor([0.5, 0.1, 0.1])
    expected = {0: 0.25, 3: 1.0, 4: 1.0, 14: half_way, 24: final_lr}
    for step, share in expected.items():
        torch.testing.assert_close(shares[step], torch.full((3,), share))


def test_a_short_run_warms_up_for_a_quarter_of_it(data):
    configured = module_of_a_run(recipe(data, warmup_steps=100), 8).configure_optimizers()
    share = configured['lr_scheduler']['scheduler'].lr_lambdas[0]
    assert [share(step) for step in (0, 1, 2, 8)] == [0.5, 1.0, 1.0, 0.0]


def test_what_is_scored_is_what_the_network_says_whatever_the_bias_of_classes(data):
    bias = {name: 9.0 * class_id for class_id, name in enumerate(CAMVID.class_names)}
    module = module_of_a_run(recipe(data, class_bias=bias), 10).eval()
    images, label_maps = batch_of(0)
    module.validation_step((images, label_maps), 0)
    predicted = module.network(module._normalised(images)).argmax(1)
    assert module.confusion.compute().sum(0).tolist() == np.bincount(
        predicted.flatten(), minlength=11).tolist()


@torch.inference_mode()
def test_images_are_normalised_as_they_are_when_segmented(data):
    info = ModelInfo(CAMVID, width=1 / 16)
    module = SegmentationModule(recipe(data), info, torch.ones(11))
    image = batch_of(0, (1, *info.input_size))[0]
    segmenter = Segmenter(module.network, info, info.input_size)
    segmenter.load(image[0].permute(1, 2, 0).numpy())
    torch.testing.assert_close(module._normalised(image)[0].permute(1, 2, 0),
                               segmenter.preprocess(), rtol=0, atol=1e-5)


def batch_of(seed, shape=(4, 64, 96)):
    """Return random images, (N, 3, h, w), and label maps, (N, h, w)."""
    generator = torch.Generator().manual_seed(seed)
    batch, *size = shape
    return tuple(torch.randint(0, 11, of, dtype=torch.uint8, generator=generator)
                 for of in ((batch, 3, *size), shape))


def gradients(module, step, batch):
    """Return the loss of a batch and the gradients of all weights."""
    module.zero_grad()
    loss = step(*batch)[1]
    (loss * 1024).backward()  # as gradient scaling does for float16
    return loss.item(), [parameter.grad.clone() for parameter in module.parameters()]


@pytest.mark.skipif(not torch.cuda.is_available(), reason='needs a CUDA device')
@pytest.mark.parametrize('dtype, aux_weight', [
    (torch.bfloat16, 0.4), (torch.bfloat16, 0.0), (torch.float16, 0.4)])
def test_a_graph_of_a_step_is_the_step_on_cuda(data, dtype, aux_weight):
    info = ModelInfo(CAMVID, width=1 / 16)
    module = SegmentationModule(recipe(data, aux_weight=aux_weight), info, torch.ones(11)).cuda()
    before = [buffer.clone() for buffer in module.buffers()]
    shapes = ((4, 64, 96), (4, 32, 64))
    with torch.autocast('cuda', dtype, cache_enabled=False):
        graphs = {shape: training_graph(module, module.losses,
                                        tuple(t.cuda() for t in batch_of(0, shape)))
                  for shape in shapes}
        assert all(map(torch.equal, module.buffers(), before))
        for seed, shape in enumerate((*shapes, *shapes)):
            batch = [t.cuda() for t in batch_of(seed, shape)]
            loss, expected = gradients(module, module.losses, batch)
            graph_loss, grads = gradients(module, graphs[shape], batch)
            assert graph_loss == pytest.approx(loss, rel=1e-3)
            for grad, value in zip(grads, expected, strict=True):
                assert (grad - value).norm() < 0.1 * value.norm() + 1e-3
            for parameter in module.parameters():
                parameter.data.add_(parameter.grad, alpha=-1e-2 / 1024)


@pytest.fixture
def capturing(data, monkeypatch):
    """Return a module that treats its CPU as a GPU, and what it made torch capture."""
    phases = tuple(Phase(1, crop, (0.8, 1.2)) for crop in ((32, 64), (64, 96), (32, 64)))
    module = SegmentationModule(recipe(data, phases=phases), ModelInfo(CAMVID, width=1 / 16),
                                torch.ones(11))
    captured = []

    def capture(step, arguments):
        for _ in range(3):  # torch's warm-up
            outputs = step(*arguments)
        captured.append((arguments[1].shape, outputs[1].dtype, torch.is_autocast_enabled('cpu')))
        return lambda *batch: (captured.append(batch[1].shape), step(*batch))[1]

    monkeypatch.setattr(torch.cuda, 'make_graphed_callables', capture)
    monkeypatch.setattr(module, '_on_one_gpu', lambda: True)
    monkeypatch.setattr(module, 'log', lambda *args, **kwargs: None)
    module.trainer = SimpleNamespace(world_size=1, precision_plugin=SimpleNamespace(
        forward_context=lambda: torch.autocast('cpu', torch.bfloat16)))
    return module, captured


def test_a_step_is_captured_for_each_size_of_crop(capturing):
    module, captured = capturing
    before = [buffer.clone() for buffer in module.buffers()]
    module.on_fit_start()
    # Captured under training's autocast; the capture runs leave the buffers unchanged.
    assert captured == [((4, 32, 64), torch.float32, True), ((4, 64, 96), torch.float32, True)]
    assert all(map(torch.equal, module.buffers(), before))
    expected = module.losses(*batch_of(0))[1]
    assert module.training_step(batch_of(0), 0).item() == expected.item()
    assert captured[2:] == [(4, 64, 96)]
    module.training_step(batch_of(0, (3, 64, 96)), 0)  # a size that was not captured
    assert len(captured) == 3
    module.teardown('fit')
    module.training_step(batch_of(0), 0)
    assert len(captured) == 3


def test_a_gpu_without_memory_for_graphs_trains_without(capturing, monkeypatch, caplog):
    module, captured = capturing
    fake = torch.cuda.make_graphed_callables

    def capture(step, arguments):
        if captured:
            fake(step, arguments)
            raise torch.OutOfMemoryError('CUDA out of memory')
        return fake(step, arguments)

    monkeypatch.setattr(torch.cuda, 'make_graphed_callables', capture)
    before = [buffer.clone() for buffer in module.buffers()]
    module.on_fit_start()
    assert 'training without CUDA graphs, which is slower: CUDA out of memory' in caplog.text
    assert all(map(torch.equal, module.buffers(), before)) and gc.isenabled()
    module.training_step(batch_of(0, (4, 32, 64)), 0)
    assert len(captured) == 2


def test_only_a_single_gpu_captures(data):
    module = SegmentationModule(recipe(data), ModelInfo(CAMVID, width=1 / 16), torch.ones(11))
    module.trainer = SimpleNamespace(world_size=1)
    assert not module._on_one_gpu()  # a CPU
    for world_size, captures in ((1, True), (2, False)):
        stand_in = SimpleNamespace(device=torch.device('cuda', 0),
                                   trainer=SimpleNamespace(world_size=world_size))
        assert SegmentationModule._on_one_gpu(stand_in) is captures
