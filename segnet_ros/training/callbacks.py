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

"""Callbacks and files of a training run: averaged weights, their export, metrics, curves."""

from contextlib import suppress
import csv
from dataclasses import replace
import io
import logging
import multiprocessing
import os
from pathlib import Path
import signal

import lightning
from lightning.pytorch.callbacks import TQDMProgressBar, WeightAveraging
from lightning.pytorch.loggers import Logger
from lightning.pytorch.plugins.io import TorchCheckpointIO
from lightning.pytorch.utilities import rank_zero_only
import torch

from segnet_ros.checkpoint import ModelInfo, save_checkpoint
from segnet_ros.labels import LabelSet
from segnet_ros.metrics import scores, without_nan
from segnet_ros.processes import ending_signals
from segnet_ros.training.curves import save_curves
from segnet_ros.whole_file import whole_file, write_whole


def average_weights(decay: float) -> WeightAveraging:
    """
    Return a callback that keeps an exponential moving average of weights and statistics.

    The decay grows with the steps up to the given one. Otherwise the average of a short run, such
    as one on a few of your own frames, would consist of weights that had learned nothing yet.
    """
    def average(averaged: list[torch.Tensor], current: list[torch.Tensor], count: torch.Tensor):
        if not averaged[0].is_floating_point():
            torch._foreach_copy_(averaged, current)
            return
        # Kept as a tensor: reading its value would wait for the GPU. All weights are updated at
        # once: one by one they would take hundreds of small kernels a step.
        weight = 1 - torch.clamp((1 + count) / (10 + count), max=decay)
        change = torch._foreach_sub(current, averaged)
        torch._foreach_mul_(change, weight)
        torch._foreach_add_(averaged, change)

    return WeightAveraging(multi_avg_fn=average)


class ProgressBar(TQDMProgressBar):
    """Progress that ends its line before an error shows."""

    def on_exception(self, trainer, module, error):
        """Close the bars that are open."""
        for bar in (self._val_progress_bar, self._train_progress_bar):
            if bar is not None:
                bar.close()


class ExportWeights(lightning.Callback):
    """
    Scores and writes the averaged weights after every validation.

    Must come before WeightAveraging in the list of callbacks: that one swaps the averaged weights
    in for validation, and out again in its own on_validation_epoch_end.
    """

    def __init__(self, info: ModelInfo, path: Path):
        self._info, self._path = info, path

    def on_train_epoch_start(self, trainer, module):
        """Make sure that the last epoch is scored and exported, whatever the interval."""
        if trainer.current_epoch + 1 == trainer.max_epochs:
            trainer.check_val_every_n_epoch = 1

    def on_train_epoch_end(self, trainer, module):
        """
        Log the loss; stop a run that has diverged before its state overwrites the last good one.

        lightning would log it only after the state is written: a run that is killed in between
        and goes on would never have a row for that epoch.
        """
        loss = trainer.callback_metrics['loss']
        if not loss.isfinite():
            raise _diverged(trainer, 'loss is')
        self._check_weights(trainer, module)
        trainer.logger.log_metrics({'epoch': trainer.current_epoch, 'loss': loss.item()},
                                   trainer.global_step - 1)

    def on_validation_epoch_end(self, trainer, module):
        """Log the scores and save the weights; ValueError if the weights are not finite."""
        self._check_weights(trainer, module)
        result = scores(module.confusion.compute().cpu().numpy())
        module.confusion.reset()
        per_class = dict(zip(self._info.label_set.class_names, result.pop('per_class_iou'),
                             strict=True))
        module.log_dict({f'val_{k}': v for k, v in result.items()}, prog_bar=True,
                        sync_dist=True)
        module.log_dict({f'val_iou_{k}': v for k, v in per_class.items()}, sync_dist=True)
        if trainer.is_global_zero:
            info = replace(self._info, scores=without_nan({
                'val': {**result, 'per_class_iou': per_class},
                'epoch': trainer.current_epoch + 1}))
            save_checkpoint(self._path, module.network, info)

    @staticmethod
    def _check_weights(trainer, module):
        if not all(parameter.isfinite().all() for parameter in module.network.parameters()):
            raise _diverged(trainer, 'weights are')


def _diverged(trainer, what: str) -> ValueError:
    return ValueError(f'epoch {trainer.current_epoch + 1}: the run has diverged, its {what} not '
                      'finite; start another with smaller lr and muon_lr')


class DrawCurves(lightning.Callback):
    """Draws curves.png next to the metrics file after every validation, and at the end."""

    def __init__(self, metrics: Path, label_set: LabelSet):
        self._metrics, self._label_set = metrics, label_set

    def on_validation_end(self, trainer, module):
        """Draw the run so far; the loss of this epoch is not known yet."""
        self._draw()

    def on_train_end(self, trainer, module):
        """Draw the whole run."""
        self._draw()

    @rank_zero_only
    def _draw(self):
        try:
            save_curves(self._metrics, self._label_set)
        except Exception as error:  # noqa: BLE001 a failed picture must not end a run
            logging.warning('could not draw the curves: %s', error)


class EndOnSignal(lightning.Callback):
    """
    Ends all processes of a run at once on SIGTERM, Ctrl-C or SIGHUP.

    If a process waits for one that has stopped responding, it ends when that wait does.

    Nothing is lost: a run always resumes from its last complete epoch. lightning's handler of
    SIGTERM starts a collective operation, which never ends if the signal interrupted another one.
    It also goes on to the end of the step, where it fails if data workers got the signal too.
    """

    def on_train_start(self, trainer, module):
        """Replace lightning's handlers, which are there by now."""
        def end(number, _):
            # torch's handler raises if data workers got the signal too, even in here.
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            for worker in multiprocessing.active_children():
                worker.kill()  # or it could print a traceback once this process is gone
            if trainer.strategy.launcher is not None:
                trainer.strategy.launcher.kill(number)  # processes that lightning started
            if trainer.is_global_zero:
                with suppress(OSError):  # of `2>&1 | tee`, which Ctrl-C ends too
                    # print() may be what the signal interrupted.
                    os.write(2, f'\nstopped by {signal.Signals(number).name}; run the same '
                                'command to resume from the last complete epoch\n'.encode())
            os._exit(128 + number)

        for number in ending_signals():
            signal.signal(number, end)


class FirstEpoch(lightning.Callback):
    """
    Tells the data which epoch a resumed run begins with.

    lightning lets workers make the first crops before it calls set_epoch.
    """

    def on_load_checkpoint(self, trainer, module, checkpoint):
        """Start after the epoch at whose end the state was written."""
        epoch = trainer.datamodule.first_epoch = checkpoint['epoch'] + 1
        if epoch >= trainer.max_epochs:
            logging.warning('all %d epochs of this run are done, so nothing is trained; use '
                            'another --output for a new run', trainer.max_epochs)


class WholeFiles(TorchCheckpointIO):
    """
    Writes the state of a run to a file next to the last one, then replaces the last one.

    lightning moves it there from the system's temporary folder. If that is another file system,
    as /tmp often is, the move is a copy, which leaves only half a file if it is interrupted.
    """

    def save_checkpoint(self, checkpoint, path, storage_options=None):
        """Write a file; if killed meanwhile, the previous one stays intact."""
        with whole_file(path) as part:
            try:
                with open(part, 'wb') as file:
                    torch.save(checkpoint, file)
            except RuntimeError as error:  # of torch's own file writer, for one
                if not isinstance(error.__context__, OSError):
                    raise
                raise error.__context__ from error

    def load_checkpoint(self, path, *args, **kwargs):
        """Read a file; if it cannot be read, raise a ValueError that says what to do."""
        try:
            return super().load_checkpoint(path, *args, **kwargs)
        except Exception as error:  # a damaged file may raise anything
            raise ValueError(f'{path}, the state of a run, cannot be read '
                             f'({type(error).__name__}); if it is damaged, delete it to start '
                             'over') from error


class MetricsFile(Logger):
    """
    Appends to a CSV file: a row for every epoch's loss and one for every validation.

    A resumed run appends to the existing rows; lightning's CSVLogger deletes them.
    """

    def __init__(self, path: Path, class_names: tuple[str, ...]):
        super().__init__()
        self._path = path
        self._columns = ['epoch', 'step', 'loss', 'val_miou', 'val_global_accuracy',
                         'val_class_average_accuracy', *(f'val_iou_{n}' for n in class_names)]

    @property
    def name(self) -> str:
        """Return an empty name: the file's path says what it is."""
        return ''

    @property
    def version(self) -> str:
        """Return an empty version: a folder holds one run."""
        return ''

    def log_hyperparams(self, *args, **kwargs):
        """Do nothing: the recipe is kept in the weights."""

    @rank_zero_only
    def log_metrics(self, metrics: dict, step: int | None = None):
        """Append one row."""
        before = self._path.read_bytes() if self._path.is_file() else b''
        added = io.StringIO()
        writer = csv.DictWriter(added, self._columns, extrasaction='ignore')
        if not before:
            writer.writeheader()
        writer.writerow({**metrics, 'step': step})
        # Whole, or the next row would end up in what a full disk took of this one.
        write_whole(self._path, before + added.getvalue().encode())
