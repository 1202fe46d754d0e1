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

"""Train a tiny SegNet on the sample drive: data, errors, resuming, start weights, processes."""

from dataclasses import replace
import errno
import fcntl
import logging
import math
import os
from pathlib import Path
import re
import shutil
import signal
import subprocess
import sys
from types import SimpleNamespace

import cv2
import lightning
import numpy as np
import pytest
import torch
from training_fixtures import Killed, losses, recipe, rows, SIZE, write_labels

from segnet_ros.checkpoint import load_checkpoint
from segnet_ros.labels import load_label_set, VOID
from segnet_ros.tools.cli import main
from segnet_ros.training import train as train_module
from segnet_ros.training.config import Phase
from segnet_ros.training.curves import save_curves
from segnet_ros.training.dataset import class_shares, EpochOrder, TrainingFrames
from segnet_ros.training.evaluate import evaluate
from segnet_ros.training.module import class_weights, SegmentationModule
from segnet_ros.training.train import train, TrainingData

torch.set_num_threads(1)
ROOT = str(Path(__file__).resolve().parents[1])
CAMVID = load_label_set('camvid11')


# Reading

def test_missing_val_tells_of_hold_out(scratch):
    for path in (scratch / 'val').iterdir():
        path.unlink()
    with pytest.raises(FileNotFoundError, match='/val; .*--hold-out NAME'):
        TrainingData(recipe(scratch))


@pytest.mark.parametrize('void', [VOID, 9])
def test_masks_of_0_and_255_are_no_masks_of_ids(scratch, void):
    """Most tools export such masks for two classes: the whole second class would become void."""
    labels = scratch / 'two.yaml'
    labels.write_text('name: two\nclasses:\n  - {name: road, color: [1, 2, 3]}\n'
                      f'  - {{name: other, color: [4, 5, 6]}}\nvoid: {{file_id: {void}}}\n')
    for path in scratch.glob('*annot/*.png'):
        mask = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
        cv2.imwrite(str(path), np.where(mask == 3, 0, 255).astype(np.uint8))
    words = ('no pixel of other in any .* 0 to 1, and void 255: with fewer' if void == VOID
             else r'holds ids \[255\]')
    with pytest.raises(ValueError, match=words):
        TrainingData(recipe(scratch, label_set=str(labels)))


def test_class_that_no_mask_shows_is_told(scratch, caplog):
    for path in scratch.glob('trainannot/*.png'):
        mask = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
        cv2.imwrite(str(path), np.where(mask > 3, 3, mask).astype(np.uint8))
    TrainingData(recipe(scratch))
    assert re.search('no pixel of pavement, tree, .*, bicyclist in any', caplog.text)


def test_class_that_no_mask_to_score_on_shows_is_told(scratch, caplog):
    for path in (scratch / 'valannot').iterdir():
        mask = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
        cv2.imwrite(str(path), np.where(mask == 3, 11, mask))
    TrainingData(recipe(scratch))
    assert re.search('no pixel of .*road.* in any validation mask', caplog.text)
    assert not re.search('road.* in any training mask', caplog.text)


def test_frames_that_are_scored_and_trained_on_are_told(data, caplog):
    TrainingData(recipe(data, val_split='val'))
    assert not caplog.text
    TrainingData(recipe(data, val_split='val+train:0002'))
    assert '4 of the 8 frames to score on are trained on too' in caplog.text


def test_a_split_that_is_a_link_to_another_is_the_same(scratch, caplog):
    for name in ('val', 'valannot'):
        shutil.rmtree(scratch / name)
        (scratch / name).symlink_to(name.replace('val', 'train'))
    TrainingData(recipe(scratch, val_split='val'))
    assert '8 of the 8 frames to score on are trained on too' in caplog.text


def test_hold_out_takes_a_drive_by_its_name(data):
    kept = TrainingData(recipe(data, hold_out='0001'))
    whole = TrainingData(recipe(data))
    assert len(kept.train_frames) == len(kept.val_frames) == 4
    assert len(whole.train_frames) == 8
    for frame, expected in zip(kept.val_frames + kept.train_frames, whole.train_frames,
                               strict=True):
        assert np.array_equal(frame[0], expected[0])


@pytest.mark.parametrize('prefix', ['0009', '000', '_0'])
def test_hold_out_must_match_some_and_leave_some(data, prefix):
    with pytest.raises(ValueError, match=f"'{prefix}' matches . of 8"):
        TrainingData(recipe(data, hold_out=prefix))


# Runs

@pytest.mark.parametrize('arguments, words', [
    (['--set', 'lr'], 'NAME=VALUE'),
    (['--set', 'input_size=[240'], "--set 'input_size=[240' is not valid YAML"),
    ([], '--data is needed'),
    (['--epochs', '0'], "'epochs' must be at least 1, not 0"),
    (['--data', '/no/where'], '/no/where/train'),
    (['--config', '/no/where.yaml'], '/no/where.yaml'),
])
def test_command_tells_what_is_wrong(capsys, tmp_path, arguments, words):
    assert main(['train', '--output', str(tmp_path), *arguments]) == 1
    message = capsys.readouterr().err
    assert words in message and message.startswith('segnet train: ')


def weights_of(path):
    return load_checkpoint(path)[0].state_dict()


@pytest.mark.parametrize('architecture', ['segnet', 'pspnet'])
def test_run_learns_and_its_weights_load(data, tmp_path, capfd, recwarn, architecture):
    config = recipe(data, phases=(Phase(2, (32, 64), (0.8, 1.2)), Phase(7, SIZE, (1.0, 1.0))),
                    val_every=4, lr=1e-2, batch_size=3, sample_drive_frames=1,
                    architecture=architecture)
    weights = train(config, tmp_path / 'run', 'cpu')
    found = losses(tmp_path / 'run')
    assert list(found) == list(range(9))
    assert found[8] < 0.85 * found[0]
    network, info = load_checkpoint(weights)
    assert info.label_set == CAMVID and info.input_size == SIZE and info.width == 1 / 16
    assert info.architecture == architecture
    assert info.made_by['lr'] == 1e-2 and info.made_by['data'] == data.name
    # The last epoch is scored although it is not a multiple of four.
    validated = [int(r['epoch']) for r in rows(tmp_path / 'run') if r['val_miou']]
    assert validated == [3, 7, 8] and info.scores['epoch'] == 9
    assert info.scores['val']['miou'] == pytest.approx(
        float(rows(tmp_path / 'run')[-2]['val_miou']), abs=1e-6)
    with torch.no_grad():
        assert network(torch.zeros(1, 3, *SIZE)).shape == (1, 11, *SIZE)
    drawn = (tmp_path / 'run' / 'curves.png').read_bytes()
    assert save_curves(tmp_path / 'run' / 'metrics.csv', CAMVID).read_bytes() == drawn, 'not all'
    assert 'arning' not in capfd.readouterr().err
    assert [str(w.message) for w in recwarn if 'lightning' in w.filename] == []


class KilledInEpoch2(EpochOrder):
    """Is killed when the third epoch begins."""

    def __iter__(self):
        if self.epoch == 2:
            raise Killed
        return super().__iter__()


def test_killed_run_goes_on_as_if_nothing_had_been(data, tmp_path, monkeypatch, recwarn):
    config = recipe(data, phases=(Phase(4, (32, 64), (0.8, 1.2)),))
    train(config, tmp_path / 'whole', 'cpu')

    with monkeypatch.context() as patch:
        patch.setattr(train_module, 'EpochOrder', KilledInEpoch2)
        with pytest.raises(Killed):
            train(config, tmp_path / 'cut', 'cpu')
    assert list(losses(tmp_path / 'cut')) == [0, 1]
    assert (tmp_path / 'cut' / 'curves.png').exists(), 'drawn while it trains'
    (tmp_path / 'cut').rename(tmp_path / 'moved')
    (tmp_path / 'cut').symlink_to('moved')
    weights = train(config, tmp_path / 'moved', 'cpu')
    assert not [w for w in recwarn if 'dirpath' in str(w.message)]  # lightning's advice
    assert [r['epoch'] for r in rows(tmp_path / 'cut')] == list('00112233')
    whole, cut = losses(tmp_path / 'whole'), losses(tmp_path / 'cut')
    assert cut == pytest.approx(whole, rel=1e-3)
    expected = weights_of(tmp_path / 'whole' / 'weights.safetensors')
    for name, tensor in weights_of(weights).items():
        torch.testing.assert_close(tensor, expected[name], rtol=0.02, atol=2e-3)


def test_a_copy_that_goes_on_leaves_the_original_its_state(data, tmp_path, monkeypatch):
    config = recipe(data, phases=(Phase(3, (32, 64), (1, 1)),))
    with monkeypatch.context() as patch:
        patch.setattr(train_module, 'EpochOrder', KilledInEpoch2)
        with pytest.raises(Killed):
            train(config, tmp_path / 'run' / 'original', 'cpu')
    shutil.copytree(tmp_path / 'run' / 'original', tmp_path / 'run', dirs_exist_ok=True)
    train(config, tmp_path / 'run', 'cpu')
    assert list(losses(tmp_path / 'run')) == [0, 1, 2]
    assert (tmp_path / 'run' / 'original' / 'last.ckpt').exists()


def test_rate_goes_on_with_the_epochs_where_one_has_other_steps(scratch, tmp_path, monkeypatch):
    config = recipe(scratch, phases=(Phase(4, (32, 64), (0.8, 1.2)),), warmup_steps=1)
    rates = []
    monkeypatch.setattr(SegmentationModule, 'on_train_epoch_end', lambda module: rates.append(
        module.lr_schedulers().get_last_lr()[0] / config.muon_lr), raising=False)
    with monkeypatch.context() as patch:
        patch.setattr(train_module, 'EpochOrder', KilledInEpoch2)
        with pytest.raises(Killed):
            train(config, tmp_path / 'run', 'cpu')
    for path in (scratch / 'train').glob('0002*'):  # one step per epoch, as with two devices
        path.unlink()
    train(config, tmp_path / 'run', 'cpu')
    # The share of the schedule done: first of eight steps, one of them warm-up, then of four.
    done = (1 / 7, 3 / 7, 2 / 3, 1)
    assert rates == pytest.approx([0.5 + 0.5 * math.cos(math.pi * d) for d in done])


def test_ctrl_c_before_the_first_step_is_one(data, tmp_path, monkeypatch):
    def interrupt(_):
        raise KeyboardInterrupt
    monkeypatch.setattr(TrainingData, 'train_dataloader', interrupt)
    with pytest.raises(KeyboardInterrupt):
        train(recipe(data), tmp_path, 'cpu')


def test_sigterm_before_the_first_step_is_no_success(data, tmp_path, monkeypatch):
    load = TrainingData.val_dataloader
    monkeypatch.setattr(TrainingData, 'val_dataloader', lambda frames: (
        os.kill(os.getpid(), signal.SIGTERM), load(frames))[1])
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    with pytest.raises(SystemExit) as stop:
        train(recipe(data), tmp_path, 'cpu')
    assert stop.value.code == 128 + signal.SIGTERM


def test_another_exit_is_let_through(data, tmp_path, monkeypatch):
    monkeypatch.setattr(SegmentationModule, 'on_fit_start', lambda _: sys.exit(7), raising=False)
    with pytest.raises(SystemExit) as stop:
        train(recipe(data), tmp_path, 'cpu')
    assert stop.value.code == 7


def test_two_runs_do_not_meet(data, tmp_path):
    holder = subprocess.Popen(
        [sys.executable, '-c', 'import fcntl, sys\nfile = open(sys.argv[1], "w")\n'
         'fcntl.lockf(file, fcntl.LOCK_EX)\nprint("held", flush=True)\nsys.stdin.read()',
         str(tmp_path / '.lock')], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        assert holder.stdout.readline() == 'held\n'
        with pytest.raises(ValueError, match='another run is writing there.*--output'):
            train(recipe(data), tmp_path, 'cpu')
        assert not (tmp_path / 'metrics.csv').exists()
    finally:
        holder.communicate(timeout=20)


def test_a_file_system_without_locks_is_trained_on(tmp_path, monkeypatch):
    def refuse(*_):
        raise OSError(errno.ENOLCK, 'No locks available')
    monkeypatch.setattr(fcntl, 'lockf', refuse)
    with train_module._hold(tmp_path):
        assert tmp_path.is_dir()


def test_a_run_that_is_done_says_so_and_one_begun_anew_has_its_own_metrics(data, tmp_path, caplog):
    config = recipe(data, phases=(Phase(2, (32, 64), (0.8, 1.2)),))
    train(config, tmp_path, 'cpu')
    before = (tmp_path / 'metrics.csv').read_text()
    train(config, tmp_path, 'cpu')
    assert 'all 2 epochs of this run are done' in caplog.text
    assert (tmp_path / 'metrics.csv').read_text() == before
    (tmp_path / 'last.ckpt').unlink()
    train(replace(config, lr=1e-3), tmp_path, 'cpu')
    assert list(losses(tmp_path)) == [0, 1] and len(rows(tmp_path)) == 4
    assert (tmp_path / 'metrics_before.csv').read_text() == before


def test_going_on_with_another_recipe_is_refused(data, tmp_path):
    config = recipe(data, phases=(Phase(1, (32, 64), (0.8, 1.2)),))
    train(config, tmp_path, 'cpu')
    with pytest.raises(ValueError, match='lr = 0.003, now it is 0.5.*--output'):
        train(replace(config, lr=0.5), tmp_path, 'cpu')


def test_what_ends_one_of_several_processes_is_told():
    train_module._hush_lightning()
    launcher = logging.getLogger('lightning.fabric.strategies.launchers.subprocess_script')
    assert launcher.isEnabledFor(logging.INFO)


def test_an_accelerator_that_is_none_is_told(capsys):
    with pytest.raises(SystemExit):
        main(['train', '--accelerator', 'tpu'])
    assert "invalid choice: 'tpu'" in capsys.readouterr().err


@pytest.mark.skipif(torch.cuda.is_available(), reason='there is a GPU')
def test_device_that_is_not_there_is_told(capsys, tmp_path, data):
    assert main(['train', '--data', str(data), '--output', str(tmp_path / 'run'),
                 '--accelerator', 'gpu']) == 1
    assert capsys.readouterr().err.startswith('segnet train: --accelerator gpu')
    assert not (tmp_path / 'run').exists()


def test_state_is_loaded_without_running_code(data, tmp_path):
    class Trap:

        def __reduce__(self):
            return (open, (str(tmp_path / 'sprung'), 'w'))

    torch.save({'trap': Trap()}, tmp_path / 'last.ckpt')
    with pytest.raises(Exception, match='cannot be read .UnpicklingError'):
        train(recipe(data), tmp_path, 'cpu')
    assert not (tmp_path / 'sprung').exists()


def test_run_may_start_from_weights(data, tmp_path):
    first = train(recipe(data, phases=(Phase(1, (32, 64), (1, 1)),)), tmp_path / 'a', 'cpu')
    config = recipe(data, phases=(Phase(1, (32, 64), (1, 1)),), init=str(first), lr=0.0,
                    muon_lr=0.0)
    second = train(config, tmp_path / 'b', 'cpu')
    torch.testing.assert_close(weights_of(second)['classifier.weight'],
                               weights_of(first)['classifier.weight'], rtol=1e-3, atol=1e-4)
    first.unlink()  # resuming does not need it
    train(config, tmp_path / 'b', 'cpu')


def test_run_for_other_classes_keeps_all_but_the_classifier(data, tmp_path):
    short = (Phase(1, (32, 64), (1, 1)),)
    first = train(recipe(data, phases=short), tmp_path / 'a', 'cpu')
    second = train(recipe(data, phases=short, init=str(first), lr=0.0, muon_lr=0.0,
                          label_set=write_labels(tmp_path / 'more.yaml')), tmp_path / 'b', 'cpu')
    before, after = weights_of(first), weights_of(second)
    assert after['classifier.weight'].shape[0] == 12
    torch.testing.assert_close(after['decoder.4.0.conv.weight'], before['decoder.4.0.conv.weight'],
                               rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize('hold_out, told', [('', False), ('0001', True)])
def test_start_weights_that_have_seen_what_is_scored_are_told(data, tmp_path, caplog, hold_out,
                                                              told):
    first = train(recipe(data, phases=(Phase(1, (32, 64), (1, 1)),)), tmp_path / 'a', 'cpu')
    train(recipe(data, phases=(Phase(1, (32, 64), (1, 1)),), init=str(first), hold_out=hold_out,
                 batch_size=4), tmp_path / 'b', 'cpu')
    assert ("frames of 'train:0001' may be among those that the weights to start from were"
            in caplog.text) == told


def test_start_weights_must_be_of_the_same_network(data, tmp_path):
    first = train(recipe(data, phases=(Phase(1, (32, 64), (1, 1)),)), tmp_path / 'a', 'cpu')
    with pytest.raises(ValueError, match=r'segnet of width 0.0625, the recipe wants .*0.125'):
        train(recipe(data, init=str(first), width=0.125), tmp_path / 'b', 'cpu')


@pytest.mark.parametrize('local, nodes', [(1, 2), (4, 2), (4, 1)])
def test_all_that_torchrun_started_train_together(monkeypatch, local, nodes):
    monkeypatch.setenv('LOCAL_WORLD_SIZE', str(local))
    monkeypatch.setenv('WORLD_SIZE', str(local * nodes))
    assert train_module._machines(None, None) == {
        'devices': local, 'num_nodes': nodes, 'strategy': 'ddp'}


def test_no_devices_are_none(data, tmp_path):
    for devices in (-1, 0):
        with pytest.raises(ValueError, match=f'--devices {devices}: give at least 1'):
            train(recipe(data), tmp_path, 'cpu', devices=devices)


def test_every_step_takes_a_whole_batch(data):
    loaded = TrainingData(recipe(data, batch_size=3))
    loaded.trainer = SimpleNamespace(world_size=1, global_rank=0, num_devices=1)
    assert len(loaded.train_frames) == 8 and len(loaded.train_dataloader()) == 2


def test_too_few_frames_for_a_step(data, tmp_path):
    with pytest.raises(ValueError, match='an epoch of 8 crops does not fill one step: batch_size'):
        train(recipe(data, batch_size=9), tmp_path, 'cpu')


def test_sample_drive_is_refused_for_other_classes(data, tmp_path):
    labels = write_labels(tmp_path / 'own.yaml')
    with pytest.raises(ValueError, match="not those of 'own'; set sample_drive_frames to 0"):
        TrainingData(recipe(data, label_set=labels, sample_drive_frames=3))


def test_two_processes_train_together(data, tmp_path):
    script = tmp_path / 'segnet.py'
    script.write_text('\n'.join([
        'import os, sys, torch',
        'from segnet_ros.tools.cli import main',
        'from segnet_ros.training import callbacks, module, train',
        'torch.set_num_threads(1)',
        'train.computes_in_bfloat16 = lambda device: False  # scores are compared below',
        'module.SegmentationModule.on_train_epoch_end = lambda module: torch.save(',
        f'    module.network.classifier.weight.detach(), "{tmp_path}/" + os.environ["RANK"])',
        'scores = callbacks.scores',
        'def counted(matrix):',
        f'    open("{tmp_path}/pixels", "w").write(str(int(matrix.sum())))',
        '    return scores(matrix)',
        'callbacks.scores = counted',
        'sys.exit(main())']))
    done = subprocess.run(
        [sys.executable, '-m', 'torch.distributed.run', '--standalone', '--nproc-per-node', '2',
         str(script), 'train', '--data', str(data), '--output', str(tmp_path / 'run'),
         '--accelerator', 'cpu', '--epochs', '2', '--set', 'width=0.0625',
         '--set', 'batch_size=2', '--set', f'input_size={list(SIZE)}',
         '--set', 'val_split=val:0003_0+val:0003_1+val:0003_2'],
        cwd=ROOT, env={**os.environ, 'OMP_NUM_THREADS': '1', 'PYTHONPATH': ROOT},
        capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    assert 'arning' not in done.stderr and 'recommended' not in done.stderr
    assert done.stdout.count('weights: ') == 1
    # Four frames a process, two at a time: two steps an epoch. One process would take four.
    assert [(r['epoch'], r['step']) for r in rows(tmp_path / 'run') if r['loss']] == [
        ('0', '1'), ('1', '3')]
    first, second = (torch.load(tmp_path / rank, weights_only=True) for rank in '01')
    assert torch.equal(first, second), 'each process has learned for itself'
    weights = tmp_path / 'run' / 'weights.safetensors'
    scores = load_checkpoint(weights)[1].scores
    assert scores['epoch'] == 2
    # Three frames for two processes: neither scores one that the other has scored.
    labelled = 3 * (SIZE[0] - 2) * SIZE[1]
    assert int((tmp_path / 'pixels').read_text()) == labelled
    alone = evaluate(weights, data, 'val:0003_0+val:0003_1+val:0003_2', precision='float32').result
    assert scores['val']['miou'] == pytest.approx(alone['miou'], abs=1e-3)


def test_the_recipe_s_numbers_reach_the_run(data, tmp_path, monkeypatch):
    config = recipe(data, gradient_clip=0.7, ema_decay=0.4, weight_decay=0.03,
                    class_weight_offset=1.2, val_every=2)
    fitted = []
    monkeypatch.setattr(lightning.Trainer, 'fit', lambda trainer, module, *_, **__: fitted.append(
        (trainer, module)))
    train(config, tmp_path, 'cpu')
    [(trainer, module)] = fitted
    assert trainer.gradient_clip_val == 0.7 and trainer.check_val_every_n_epoch == 2
    [averaging] = [c for c in trainer.callbacks if hasattr(c, '_average_model')]
    old = [torch.zeros(1)]
    averaging._kwargs['multi_avg_fn'](old, [torch.ones(1)], torch.tensor(10_000))
    assert old[0].item() == pytest.approx(1 - 0.4)
    shares = TrainingData(config).shares
    torch.testing.assert_close(module.class_weights, class_weights(shares, 1.2))
    assert len({round(w, 4) for w in module.class_weights.tolist()}) > 5
    module.trainer = SimpleNamespace(estimated_stepping_batches=10)
    groups = module.configure_optimizers()['optimizer'].param_groups
    assert [group['weight_decay'] for group in groups] == [0.03, 0.03, 0]


@pytest.mark.skipif(not torch.cuda.is_available(), reason='needs a CUDA device')
@pytest.mark.parametrize('architecture', ['segnet', 'pspnet'])
def test_a_gpu_learns_and_goes_on(data, tmp_path, architecture):
    config = recipe(data, architecture=architecture, phases=(Phase(4, (32, 64), (0.8, 1.2)),))
    train(config, tmp_path / 'whole', 'gpu', devices=1)
    with pytest.MonkeyPatch.context() as patch, pytest.raises(Killed):
        patch.setattr(train_module, 'EpochOrder', KilledInEpoch2)
        train(config, tmp_path / 'cut', 'gpu', devices=1)
    weights = train(config, tmp_path / 'cut', 'gpu', devices=1)
    assert losses(tmp_path / 'cut') == pytest.approx(losses(tmp_path / 'whole'), rel=0.1)
    assert all(t.isfinite().all() for t in weights_of(weights).values())
    assert losses(tmp_path / 'whole')[3] < losses(tmp_path / 'whole')[0]


def test_passes_make_an_epoch_longer(data):
    once, thrice = (TrainingData(recipe(data, passes=n, sample_drive_frames=2)) for n in (1, 3))
    for training_data in (once, thrice):
        np.testing.assert_array_equal(training_data.shares, class_shares(once.train_frames, 11))
    lengths = []
    for training_data in (once, thrice):
        training_data.trainer = SimpleNamespace(world_size=1, global_rank=0, num_devices=1)
        lengths.append(len(training_data.train_dataloader().dataset))
    assert lengths == [8 + 2, 24 + 2]
    frames = TrainingFrames(thrice.train_frames, thrice.shares, thrice.config)
    (one, _), (other, _) = frames[0, 1], frames[0, 9]  # the same frame in two passes
    assert not torch.equal(one, other)
