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

"""Check signals, divergence, averaging, and the state and metrics that a run writes."""

from contextlib import contextmanager, suppress
import errno
import math
import os
from pathlib import Path
import signal
import subprocess
import sys
import time

import pytest
import torch
from training_fixtures import Killed, losses, recipe, rows, SIZE

from segnet_ros.tools.cli import main
from segnet_ros.training import callbacks
from segnet_ros.training.callbacks import average_weights
from segnet_ros.training.config import Phase
from segnet_ros.training.module import SegmentationModule
from segnet_ros.training.train import train

torch.set_num_threads(1)
ROOT = str(Path(__file__).resolve().parents[1])


def command(data, output):
    """Return the arguments of a run of nine short epochs."""
    return ['train', '--data', str(data), '--output', str(output), '--accelerator', 'cpu',
            '--epochs', '9', '--set', 'width=0.0625', '--set', f'input_size={list(SIZE)}',
            '--set', 'batch_size=2']


@contextmanager
def running_apart(arguments, devices):
    """Start the command in a process group of its own; kill what is left of it at the end."""
    run = subprocess.Popen(
        [sys.executable, '-m', 'segnet_ros.tools.cli', *arguments, '--devices', str(devices)],
        stderr=subprocess.PIPE, text=True, start_new_session=True,
        cwd=ROOT, env={**os.environ, 'OMP_NUM_THREADS': '1', 'PYTHONPATH': ROOT})
    try:
        yield run
    finally:
        with suppress(ProcessLookupError):
            os.killpg(run.pid, signal.SIGKILL)


@pytest.mark.parametrize('number, devices, to_all', [
    (signal.SIGINT, 1, False), (signal.SIGTERM, 1, True), (signal.SIGTERM, 2, False)])
def test_a_signal_ends_a_run_at_once_and_it_goes_on(data, tmp_path, number, devices, to_all):
    arguments = command(data, tmp_path)
    with running_apart(arguments, devices) as run:
        while not (tmp_path / 'last.ckpt').is_file() and run.poll() is None:
            time.sleep(0.01)
        (os.killpg if to_all else os.kill)(run.pid, number)
        _, told = run.communicate(timeout=20)  # until no process is left that writes to it
    assert run.returncode == 128 + number, told
    assert told.count(f'stopped by {number.name}; run the same command to resume') == 1
    assert 'Traceback' not in told
    if devices == 1:
        assert main(arguments) == 0
        assert list(losses(tmp_path)) == list(range(9))


def test_sigterm_before_the_processes_have_met_leaves_none(data, tmp_path):
    with running_apart(command(data, tmp_path), 2) as run:
        children = Path(f'/proc/{run.pid}/task/{run.pid}/children')
        while not children.read_text() and run.poll() is None:
            time.sleep(0.05)
        run.terminate()
        _, told = run.communicate(timeout=60)  # until no process is left that writes to it
    assert run.returncode in (128 + signal.SIGINT, 128 + signal.SIGTERM), told


def test_a_run_that_diverges_says_so_and_keeps_the_weights_before(data, tmp_path):
    config = recipe(data, phases=(Phase(1, (32, 64), (0.8, 1.2)),), muon_lr=1e38)
    with pytest.raises(ValueError, match='epoch 1: the run has diverged.*smaller lr'):
        train(config, tmp_path, 'cpu')
    assert not (tmp_path / 'weights.safetensors').exists()


def test_an_error_stands_on_a_line_of_its_own(data, tmp_path, capfd, monkeypatch):
    step = SegmentationModule.training_step

    def failing(module, batch, index):
        if module.current_epoch == 1:
            raise ValueError('the loss is lost')
        return step(module, batch, index)
    monkeypatch.setattr(SegmentationModule, 'training_step', failing)
    assert main(['train', '--data', str(data), '--output', str(tmp_path), '--accelerator', 'cpu',
                 '--set', 'width=0.0625', '--epochs', '2', '--set', 'input_size=[32, 64]']) == 1
    out, err = capfd.readouterr()
    assert err.endswith('\rsegnet train: the loss is lost\n')
    assert out.endswith('\n'), 'the bar of the training goes to standard output'


def test_a_run_that_diverges_ends_before_its_last_good_state_is_written_over(data, tmp_path,
                                                                             monkeypatch):
    config = recipe(data, phases=(Phase(5, (32, 64), (0.8, 1.2)),), val_every=5)
    with monkeypatch.context() as patch:
        step = SegmentationModule.training_step
        patch.setattr(SegmentationModule, 'training_step', lambda module, batch, index: step(
            module, (batch[0] * (math.nan if module.current_epoch == 2 else 1), batch[1]), index))
        with pytest.raises(ValueError, match='epoch 3: the run has diverged, its loss is not'):
            train(config, tmp_path, 'cpu')
    train(config, tmp_path, 'cpu')
    assert all(map(math.isfinite, losses(tmp_path).values()))


def test_a_last_step_that_diverges_is_not_kept_either(data, tmp_path, monkeypatch):
    """Its loss is still finite, but the resulting weights are not."""
    config = recipe(data, phases=(Phase(5, (32, 64), (0.8, 1.2)),), val_every=5)

    def spoil(module, outputs, batch, index):
        if (module.current_epoch, index) == (2, 1):
            module.network.classifier.bias.data.fill_(math.nan)
    with monkeypatch.context() as patch:
        patch.setattr(SegmentationModule, 'on_train_batch_end', spoil, raising=False)
        with pytest.raises(ValueError, match='epoch 3: the run has diverged, its weights are not'):
            train(config, tmp_path, 'cpu')
    train(config, tmp_path, 'cpu')
    assert all(map(math.isfinite, losses(tmp_path).values()))


def test_kill_while_the_state_is_written_leaves_the_one_before(data, tmp_path, monkeypatch):
    config = recipe(data, phases=(Phase(3, (32, 64), (0.8, 1.2)),))
    save, written = torch.save, []

    def killed_at_the_second(checkpoint, file):
        if written:
            file.write(b'half a fi')
            raise Killed
        written.append(file)
        save(checkpoint, file)

    with monkeypatch.context() as patch:
        patch.setattr(torch, 'save', killed_at_the_second)
        with pytest.raises(Killed):
            train(config, tmp_path, 'cpu')
    train(config, tmp_path, 'cpu')
    # Epoch 1, whose state was not written yet, is repeated.
    assert [r['epoch'] for r in rows(tmp_path) if r['loss']] == list('0112')


def test_kill_after_the_state_is_written_leaves_the_loss_too(data, tmp_path, monkeypatch):
    config = recipe(data, phases=(Phase(2, (32, 64), (0.8, 1.2)),))
    save = callbacks.WholeFiles.save_checkpoint

    def killed_after_the_first(*args, **kwargs):
        save(*args, **kwargs)
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(callbacks.WholeFiles, 'save_checkpoint', killed_after_the_first)
        with pytest.raises(Killed):
            train(config, tmp_path, 'cpu')
    train(config, tmp_path, 'cpu')
    assert [r['epoch'] for r in rows(tmp_path) if r['loss']] == list('01')


def test_state_of_a_gpu_run_is_read_where_there_is_none(data, tmp_path, monkeypatch):
    config = recipe(data, phases=(Phase(1, (32, 64), (0.8, 1.2)),))
    train(config, tmp_path, 'cpu')
    load, places = torch.load, []
    monkeypatch.setattr(torch, 'load', lambda *args, **kwargs: (
        places.append(kwargs['map_location']), load(*args, **kwargs))[1])
    train(config, tmp_path, 'cpu')
    # Without map_location, torch.load puts every tensor on the device that it was saved from.
    assert places and None not in places


def test_a_disk_that_is_full_of_state_is_told_with_the_file(tmp_path, full_disk):
    path = tmp_path / 'last.ckpt'
    callbacks.WholeFiles().save_checkpoint({'step': 1}, path)
    with full_disk(), pytest.raises(OSError) as failed:
        callbacks.WholeFiles().save_checkpoint({'step': 2, 'state': torch.zeros(99999)}, path)
    assert failed.value.filename == str(path)
    assert failed.value.strerror == os.strerror(errno.EFBIG)
    assert callbacks.WholeFiles().load_checkpoint(path) == {'step': 1}


def test_a_row_that_a_full_disk_took_is_none(tmp_path, full_disk):
    path = tmp_path / 'metrics.csv'
    metrics = callbacks.MetricsFile(path, ('road',))
    metrics.log_metrics({'epoch': 0, 'loss': '1' * 8000}, 1)
    with full_disk(), pytest.raises(OSError) as failed:
        metrics.log_metrics({'epoch': 1, 'loss': '2' * 200}, 2)
    assert failed.value.filename == str(path)
    metrics.log_metrics({'epoch': 1, 'loss': '3'}, 2)
    assert [row['loss'][-1] for row in rows(tmp_path)] == ['1', '3']


def test_a_gpu_s_error_while_state_is_written_is_no_file_s(tmp_path, monkeypatch):
    def fail(*_):
        raise RuntimeError('CUDA error: unspecified launch failure')
    monkeypatch.setattr(torch, 'save', fail)
    with pytest.raises(RuntimeError, match='launch failure'):
        callbacks.WholeFiles().save_checkpoint({}, tmp_path / 'last.ckpt')


def test_damaged_state_is_told(data, tmp_path):
    torch.save({'state': torch.zeros(1000)}, tmp_path / 'last.ckpt')
    with (tmp_path / 'last.ckpt').open('r+b') as file:
        file.truncate(2000)
    with pytest.raises(ValueError, match='last.ckpt, .* cannot be read .* damaged, delete it'):
        train(recipe(data), tmp_path, 'cpu')


def test_what_was_never_a_state_is_told_without_advice_to_run_it(data, tmp_path):
    (tmp_path / 'last.ckpt').write_bytes(b'?' * 1000)
    with pytest.raises(ValueError, match=r'last.ckpt, .* read \(UnpicklingError\); .* delete it'):
        train(recipe(data), tmp_path, 'cpu')


def test_average_follows_at_once_and_slows_down():
    average = average_weights(0.9)._kwargs['multi_avg_fn']
    for count, expected in ((0, 0.9), (8, 0.5), (10_000, 0.1)):
        old, new = [torch.zeros(2), torch.zeros(3, 1)], [torch.ones(2), torch.ones(3, 1)]
        average(old, new, torch.tensor(count))
        for tensor in old:
            assert tensor.flatten().tolist() == pytest.approx([expected] * len(tensor))
    batches = [torch.tensor(3)]
    average(batches, [torch.tensor(7)], torch.tensor(5))
    assert batches == [7], 'what counts is counted, not averaged'


def test_every_validation_counts_its_own_predictions_alone(data, tmp_path, monkeypatch):
    scores, counted = callbacks.scores, []
    monkeypatch.setattr(callbacks, 'scores', lambda confusion: (
        counted.append(confusion.sum()), scores(confusion))[1])
    train(recipe(data), tmp_path, 'cpu')
    assert counted == [4 * (SIZE[0] - 2) * SIZE[1]] * 2


def test_a_picture_that_fails_does_not_end_the_run(data, tmp_path, monkeypatch, caplog):
    def fail(*_):
        raise OSError('No space left on device')
    monkeypatch.setattr(callbacks, 'save_curves', fail)
    train(recipe(data), tmp_path, 'cpu')
    assert 'could not draw the curves: No space left' in caplog.text
