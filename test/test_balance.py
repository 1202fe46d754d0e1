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

"""Check that `segnet balance` finds the class biases, and that a recipe applies them."""

from dataclasses import replace
from types import SimpleNamespace

from labelled_folder import write_split
import numpy as np
import pytest
import torch
import yaml

from segnet_ros.checkpoint import load_checkpoint, ModelInfo, save_checkpoint
from segnet_ros.labels import load_label_set, VOID
from segnet_ros.sample_drive.drive import SampleDrive
from segnet_ros.tools.cli import main
from segnet_ros.training import balance as balance_module
from segnet_ros.training.balance import Balance, fit_bias
from segnet_ros.training.config import load_config, TrainConfig
from segnet_ros.training.evaluate import evaluate
from segnet_ros.training.module import SegmentationModule

torch.set_num_threads(1)
SIZE = (96, 128)
CAMVID = load_label_set('camvid11')


@pytest.fixture(scope='module')
def data(tmp_path_factory):
    """Write four frames as split `val`, two of drive a and two of drive b."""
    folder = tmp_path_factory.mktemp('data')
    write_split(folder, 'val', {f'{"ab"[seed // 2]}{seed}.png': SampleDrive(seed, SIZE).frame(0)
                                for seed in range(4)})
    return folder


@pytest.fixture(scope='module')
def weights(tmp_path_factory):
    """Save the shipped quarter-width weights, biased to see poles everywhere."""
    network, info = load_checkpoint('resource/segnet_quarter_camvid11.safetensors')
    with torch.no_grad():
        network.classifier.bias[CAMVID.class_names.index('pole')] += 6
    path = tmp_path_factory.mktemp('weights') / 'poles.safetensors'
    save_checkpoint(path, network, replace(info, input_size=SIZE))
    return path


def noisy(truth, offsets, seed=0):
    """Return the logits of a mostly correct classifier, plus offsets."""
    noise = torch.randn(len(truth), len(offsets), generator=torch.Generator().manual_seed(seed))
    return noise + 3 * torch.nn.functional.one_hot(truth, len(offsets)) + torch.tensor(offsets)


def alike(logits, truth):
    """Return the pixels with equal weights."""
    return logits, truth, torch.ones(len(truth), dtype=torch.float64)


def test_offsets_are_taken_back():
    truth = torch.arange(3).repeat_interleave(torch.tensor([20_000, 6_000, 2_000]))
    bias = fit_bias([alike(noisy(truth, [0.0, 0.0, 0.0]), truth)])
    shifted = fit_bias([alike(noisy(truth, [-1.0, 2.0, 0.0]), truth)])
    assert bias.mean() == pytest.approx(0, abs=1e-6)
    offsets = torch.tensor([-1.0, 2.0, 0.0])
    assert (shifted - (bias - (offsets - offsets.mean()))).abs().max() < 0.1


def test_every_part_counts_alike():
    """A class that one part lacks is balanced by the part that has it."""
    offsets = [0.0, 0.0, 2.5]
    without, with_it = torch.arange(2).repeat(20_000), torch.arange(3).repeat(1_000)
    together = fit_bias([alike(noisy(truth, offsets, seed), truth)
                         for seed, truth in enumerate((without, with_it))])
    assert together[2] - together[:2].mean() < -1


def test_class_that_no_frame_shows_is_left_alone():
    truth = torch.arange(2).repeat_interleave(torch.tensor([20_000, 4_000]))
    bias = fit_bias([alike(noisy(truth, [0.0, 1.5, 1.0]), truth)])
    assert bias[2] == 0
    assert bias[1] - bias[0] < -0.5


def test_what_gains_almost_nothing_is_not_changed():
    truth = torch.arange(2).repeat(10_000)
    logits = 9.0 * torch.nn.functional.one_hot(truth, 2)
    logits[1] = torch.tensor([0.3, 0.0])  # one pixel of the second class, narrowly missed
    assert not fit_bias([alike(logits, truth)]).any()
    logits[1::2][:1000] = torch.tensor([0.3, 0.0])
    assert fit_bias([alike(logits, truth)])[1] > 0.1


def test_balanced_weights_are_better_and_known_from_the_split(data, weights, tmp_path, capsys):
    output = tmp_path / 'new' / 'balanced.safetensors'
    assert main(['balance', '--weights', str(weights), '--data', str(data), '--split', 'val:a',
                 '--split', 'val:b', '--output', str(output), '--device', 'cpu']) == 0
    printed = capsys.readouterr().out
    line = next(line for line in printed.splitlines() if line.startswith('class_bias'))
    recipe = load_config(None, yaml.safe_load(line))
    assert list(recipe.class_bias) == list(CAMVID.class_names)
    assert min(recipe.class_bias, key=recipe.class_bias.get) == 'pole'
    before, after = (evaluate(w, data, 'val', device='cpu').result for w in (weights, output))
    assert after['miou'] > before['miou'] + 0.05
    for split in ('val:a', 'val:b'):
        line = next(line for line in printed.splitlines() if line.startswith(split))
        exact = [100 * evaluate(w, data, split, device='cpu').result['miou']
                 for w in (weights, output)]
        assert [float(word) for word in line.split()[-3::2]] == pytest.approx(exact, abs=0.1)
    (old, made_of), (new, info) = map(load_checkpoint, (weights, output))
    # The bias for the next recipe is that of this recipe plus the one found.
    assert info.made_by['class_bias'] == pytest.approx(recipe.class_bias, abs=0.006)
    assert made_of.scores and not info.scores
    added = (new.classifier.bias - old.classifier.bias).tolist()
    assert added == pytest.approx(
        [value - made_of.made_by['class_bias'][name] for name, value in recipe.class_bias.items()],
        abs=0.006)
    assert all(torch.equal(a, b) for (n, a), b in zip(
        old.state_dict().items(), new.state_dict().values(), strict=True)
        if n != 'classifier.bias')


def test_every_frame_is_thinned_out_by_its_own_size(tmp_path, weights, monkeypatch):
    write_split(tmp_path, 'val', {f'{name}.png': SampleDrive(0, size).frame(0) for name, size in
                                  (('a', (24, 32)), ('b', (480, 640)), ('c', (480, 640)))})
    monkeypatch.setattr(balance_module, '_PIXELS', 3000)
    logits, truth, weight = balance_module._read_pixels(*load_checkpoint(weights), tmp_path, 'val')
    assert len(logits) == len(truth) == len(weight) < 3000
    # A pixel of a large frame stands for those around it, or small frames would count more.
    assert sorted(weight.unique().tolist()) == [1, 18**2]
    assert weight.sum() == pytest.approx(24 * 32 + 2 * 480 * 640, rel=0.05)
    part = torch.tensor([[1.0, 0.0], [1.0, 0.0]]), torch.tensor([0, 1]), torch.tensor([3.0, 1.0])
    assert balance_module._miou(part, torch.zeros(2)) == pytest.approx((3 / 4 + 0) / 2)


def test_drive_that_is_not_there_is_told(data, weights, capsys):
    assert main(['balance', '--weights', str(weights), '--data', str(data),
                 '--split', 'val:c']) == 1
    assert "split 'val:c': no image in" in capsys.readouterr().err


def test_split_of_void_is_told(weights, tmp_path, capsys):
    write_split(tmp_path, 'void', {
        '0.png': (np.zeros((*SIZE, 3), np.uint8), np.full(SIZE, VOID, np.uint8))})
    assert main(['balance', '--weights', str(weights), '--data', str(tmp_path),
                 '--split', 'void']) == 1
    assert "no labelled pixels in split 'void'" in capsys.readouterr().err


def test_recipe_bias_is_what_the_network_learns_to_add():
    config = TrainConfig(class_bias={'pole': 1.5, 'road': -0.5}, width=1 / 16, aux_weight=0.0)
    info = ModelInfo(CAMVID, width=config.width)
    plain = SegmentationModule(replace(config, class_bias={}), info, torch.ones(11))
    biased = SegmentationModule(config, info, torch.ones(11))
    biased.load_state_dict(plain.state_dict())
    with torch.no_grad():
        for name, value in config.class_bias.items():
            biased.network.classifier.bias[CAMVID.class_names.index(name)] += value
    batch = (torch.randint(256, (2, 3, 32, 32)).float(), torch.randint(11, (2, 32, 32)))
    losses = []
    for module in (plain, biased):
        module.log = lambda *args, **kwargs: None
        module.trainer = SimpleNamespace()
        losses.append(module.training_step(batch, 0).item())
    # A network that adds the bias of its recipe has the same loss as one without either.
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)


def test_bias_of_no_class_is_told():
    config = TrainConfig(class_bias={'lamp': 1.0}, width=1 / 16)
    with pytest.raises(ValueError, match="class_bias names 'lamp', which is not a class of "
                                         r"'camvid11' \(sky, .*set class_bias to {} or"):
        SegmentationModule(config, ModelInfo(CAMVID, width=config.width), torch.ones(11))


def test_what_is_printed_is_yaml_whatever_the_classes_are_called(monkeypatch, capsys):
    bias = {'car: parked': 0.123, 'no': -1.0, '{': 0.5, **{f'class {i}': 0.25 for i in range(50)}}
    monkeypatch.setattr('segnet_ros.training.balance.balance',
                        lambda *_: Balance(bias, {'val': (0.5, 0.6)}))
    assert main(['balance', '--weights', 'w', '--data', 'd']) == 0
    [line] = [part for part in capsys.readouterr().out.splitlines() if 'class_bias' in part]
    assert yaml.safe_load(line) == {'class_bias': {**bias, 'car: parked': 0.12}}


def test_frames_that_were_trained_on_are_told(data, weights, tmp_path, caplog):
    network, info = load_checkpoint(weights)
    for split, told in (('train', False), ('train+val', True)):
        save_checkpoint(tmp_path / 'w.safetensors', network, replace(
            info, made_by={'split': split, 'data': str(data)}))
        assert main(['balance', '--weights', str(tmp_path / 'w.safetensors'), '--data', str(data),
                     '--device', 'cpu']) == 0
        assert ("frames of 'val' may be among those" in caplog.text) == told


def test_a_folder_is_no_file_for_weights(data, weights, tmp_path, capsys):
    assert main(['balance', '--weights', str(weights), '--data', str(data), '--output',
                 str(tmp_path)]) == 1
    assert f'{tmp_path} is a folder; name a file' in capsys.readouterr().err
