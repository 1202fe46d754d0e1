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
A whole training run: recipe in; metrics, curves, resumable state and weights.safetensors out.

Everything goes into one output folder. Starting again with the same folder resumes the run where
it was interrupted. Runs on a CPU, on GPUs, and on many machines through torchrun.
"""

from collections.abc import Iterator
from contextlib import contextmanager
import errno
import fcntl
import logging
import os
from pathlib import Path
import signal
from typing import Literal
import warnings

import lightning
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.utilities import rank_zero_only
from lightning.pytorch.utilities.exceptions import MisconfigurationException, SIGTERMException
import numpy as np
import torch
from torch.utils.data import DataLoader

from segnet_ros.checkpoint import find_weights, load_checkpoint, ModelInfo
from segnet_ros.labels import LabelSet, load_label_set
from segnet_ros.memory import keep_freed_memory
from segnet_ros.networks.build import Network
from segnet_ros.runtime import choose_device, computes_in_bfloat16
from segnet_ros.training.callbacks import (
    average_weights, DrawCurves, EndOnSignal, ExportWeights, FirstEpoch, MetricsFile, ProgressBar,
    WholeFiles)
from segnet_ros.training.config import TrainConfig
from segnet_ros.training.dataset import (
    class_shares, EpochOrder, frame_paths, read_frames, ScoringFrames, TrainingFrames)
from segnet_ros.training.evaluate import warn_of_seen
from segnet_ros.training.module import class_weights, SegmentationModule


class TrainingData(lightning.LightningDataModule):
    """
    Reads all frames once; gives each epoch its phase's crops.

    Several devices share the frames.
    """

    def __init__(self, config: TrainConfig):
        super().__init__()
        self.config = config
        self.first_epoch = 0
        self.label_set = load_label_set(config.label_set)
        if config.sample_drive_frames and (
                self.label_set.class_names != load_label_set('camvid11').class_names):
            raise ValueError('the rendered sample drive has the classes of camvid11, not those of '
                             f"'{self.label_set.name}'; set sample_drive_frames to 0")
        paths = frame_paths(config.data, config.split)
        if config.hold_out:
            held = [p for p in paths if p[0].name.startswith(config.hold_out)]
            if not held or len(held) == len(paths):
                raise ValueError(f"--hold-out '{config.hold_out}' matches {len(held)} of "
                                 f'{len(paths)} frames; it must match some and leave some')
            paths = [p for p in paths if not p[0].name.startswith(config.hold_out)]
        else:
            held = _validation_paths(config)
        size = config.input_size
        frames = read_frames(paths, self.label_set, size, 'reading training frames')
        self.train_frames = frames * config.passes
        self.shares = class_shares(frames, len(self.label_set))
        _check_classes(self.shares, self.label_set, 'training')
        if both := {p.resolve() for p, _ in held} & {p.resolve() for p, _ in paths}:
            logging.warning('%d of the %d frames to score on are trained on too: the scores say '
                            'little about unseen frames', len(both), len(held))
        self.val_frames = read_frames(held, self.label_set, size, 'reading validation frames')
        _check_classes(class_shares(self.val_frames, len(self.label_set)), self.label_set,
                       'validation')

    def train_dataloader(self) -> DataLoader:
        """Return a loader of the crops, epoch by epoch."""
        config, trainer = self.config, self.trainer
        assert trainer is not None
        frames = TrainingFrames(self.train_frames, self.shares, config)
        if len(frames) < config.batch_size * trainer.world_size:
            raise ValueError(
                f'an epoch of {len(frames)} crops does not fill one step: batch_size is '
                f'{config.batch_size} on {trainer.world_size} device(s); set a smaller batch_size')
        order = EpochOrder(len(frames), config.seed, self.first_epoch, trainer.world_size,
                           trainer.global_rank)
        # One process makes crops as fast as two cores train. A GPU needs more, and workers four
        # steps ahead, since a rendered frame takes as long as a hundred crops.
        workers = len(os.sched_getaffinity(0)) // trainer.num_devices
        on_gpu = torch.cuda.is_available()
        return DataLoader(frames, config.batch_size, sampler=order, drop_last=True,
                          num_workers=min(max(2, workers), 16), persistent_workers=True,
                          prefetch_factor=4 if on_gpu else 2, pin_memory=on_gpu)

    def val_dataloader(self) -> DataLoader:
        """Return a loader of whole frames."""
        assert self.trainer is not None
        return DataLoader(ScoringFrames(self.val_frames, self.trainer.world_size), batch_size=1)


def _validation_paths(config: TrainConfig) -> list[tuple[Path, Path]]:
    try:
        return frame_paths(config.data, config.val_split)
    except FileNotFoundError as error:
        raise FileNotFoundError(f'{error}; or use --hold-out NAME to leave out training frames '
                                'whose names start with NAME and score on them') from error


def _check_classes(shares: np.ndarray, label_set: LabelSet, what: str):
    """Warn of classes that no frame shows; refuse to train on fewer than two."""
    unseen = [name for name, share in zip(label_set.class_names, shares, strict=True) if not share]
    if not unseen:
        return
    told = (f'no pixel of {", ".join(unseen)} in any {what} mask; masks hold class ids, 0 to '
            f'{len(label_set) - 1}, and void {label_set.void_file_id}')
    if what == 'training' and len(label_set) - len(unseen) < 2:
        raise ValueError(f'{told}: with fewer than two classes there is nothing to learn')
    logging.warning('%s', told)


def train(config: TrainConfig, output: Path, accelerator: str = 'auto',
          devices: int | None = None, nodes: int | None = None) -> Path:
    """
    Train by the recipe and return the path of the weights.

    While it trains, SIGTERM, SIGINT and SIGHUP end the process at once; a new call with the same
    folder resumes.

    :param output: folder for metrics.csv, curves.png, last.ckpt (lightning's, to resume) and
        weights.safetensors (the averaged weights, as of the last validation).
    :param accelerator: 'cpu', 'gpu' or 'auto'.
    :param devices: processes or GPUs on each machine; None for torchrun's number, or all GPUs.
    :param nodes: machines; None for torchrun's number, or one.
    :raises FileNotFoundError, ValueError: if data or settings cannot be used.
    """
    _hush_lightning()
    keep_freed_memory()
    lightning.seed_everything(config.seed, workers=True, verbose=False)
    info = ModelInfo(label_set=load_label_set(config.label_set), architecture=config.architecture,
                     width=config.width, input_size=config.input_size,
                     made_by=config.to_dict() | {'data': Path(os.path.abspath(config.data)).name})
    weights = output / 'weights.safetensors'
    # Before the frames are read, which takes a while: this fails if a device is missing.
    trainer = _trainer(config, info, weights, accelerator, _machines(devices, nodes))
    data = TrainingData(config)
    weights_of_classes = class_weights(data.shares, config.class_weight_offset)
    module = SegmentationModule(config, info, weights_of_classes)
    output.mkdir(parents=True, exist_ok=True)
    last = output / 'last.ckpt'
    with _hold(output):
        if last.is_file():
            logging.info('resuming from %s', last)
        else:
            _set_aside(output / 'metrics.csv')
            if config.init:
                _start_from(config, module.network, info)
        try:
            trainer.fit(module, data, ckpt_path=last if last.is_file() else None,
                        weights_only=True)
        except SystemExit as stop:  # lightning's, if Ctrl-C came before the first step
            if isinstance(stop.__context__, KeyboardInterrupt):
                raise KeyboardInterrupt from None
            if isinstance(stop, SIGTERMException):
                raise SystemExit(128 + signal.SIGTERM) from None
            raise
    return weights


@contextmanager
def _hold(output: Path) -> Iterator[None]:
    """
    Keep other runs out of the folder.

    Uses a POSIX lock, which ends with its process. A flock would live on in the data workers and
    keep a killed run from being resumed.
    """
    if getattr(rank_zero_only, 'rank', 0):
        yield
        return
    with (output / '.lock').open('w') as file:
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno in (errno.EACCES, errno.EAGAIN):
                raise ValueError(f'{output}: another run is writing there; wait for it to end, or '
                                 'use another --output') from error
            # Otherwise the file system has no locks.
        yield


@rank_zero_only
def _set_aside(metrics: Path):
    """Keep an earlier run's metrics out of a new run's curves."""
    if metrics.is_file():
        metrics.replace(metrics.with_name('metrics_before.csv'))


def _trainer(config: TrainConfig, info: ModelInfo, weights: Path, accelerator: str,
             machines: dict) -> lightning.Trainer:
    output, metrics = weights.parent, weights.with_name('metrics.csv')
    try:
        return lightning.Trainer(
            accelerator=accelerator, precision=_precision(accelerator), **machines,
            max_epochs=config.epochs, gradient_clip_val=config.gradient_clip,
            check_val_every_n_epoch=min(config.val_every, config.epochs), num_sanity_val_steps=0,
            enable_model_summary=False, log_every_n_steps=1,
            default_root_dir=output, plugins=[WholeFiles()],
            logger=MetricsFile(metrics, info.label_set.class_names),
            callbacks=[
                EndOnSignal(), FirstEpoch(), ExportWeights(info, weights),
                average_weights(config.ema_decay),
                # -1: or it deletes the file that a copied state remembers, in another folder.
                ModelCheckpoint(output, filename='last', every_n_epochs=1, save_top_k=-1,
                                enable_version_counter=False, save_on_train_epoch_end=True),
                DrawCurves(metrics, info.label_set), ProgressBar()])
    except MisconfigurationException as error:
        raise ValueError(f'--accelerator {accelerator}, devices {machines["devices"]}: '
                         f'{error}') from error


def _start_from(config: TrainConfig, network: Network, info: ModelInfo):
    """Load init's weights; if the classes differ, all but the classifier, which stays random."""
    given, given_info = load_checkpoint(find_weights(config.init))
    parts = [part.partition(':')[0] for part in config.split.split('+')]
    warn_of_seen(given_info, config.data, '+'.join(
        f'{part}:{config.hold_out}' for part in parts) if config.hold_out else config.val_split,
        'the weights to start from were')
    if (given_info.architecture, given_info.width) != (info.architecture, info.width):
        raise ValueError(f'init: {config.init} is {given_info.architecture} of width '
                         f'{given_info.width}, the recipe wants {info.architecture} of width '
                         f'{info.width}; they must be the same')
    same_classes = given_info.label_set.class_names == info.label_set.class_names
    network.load_state_dict({name: tensor for name, tensor in given.state_dict().items()
                             if same_classes or not name.startswith('classifier.')}, strict=False)


def _machines(devices: int | None, nodes: int | None) -> dict:
    """Return lightning's devices, num_nodes and strategy; by default what torchrun started."""
    if devices is not None and devices < 1:
        raise ValueError(f'--devices {devices}: give at least 1')
    local = int(os.environ.get('LOCAL_WORLD_SIZE', 0))
    devices = devices or local
    nodes = nodes or (int(os.environ['WORLD_SIZE']) // local if local else 1)
    return {'devices': devices or 'auto', 'num_nodes': nodes,
            'strategy': 'ddp' if nodes > 1 or devices > 1 else 'auto'}


def _precision(accelerator: str) -> Literal['bf16-mixed', '16-mixed', '32-true']:
    """Return the mixed precision that the device supports; float32 if it has none."""
    device = choose_device('cpu' if accelerator == 'cpu' else 'auto')
    if computes_in_bfloat16(device):
        return 'bf16-mixed'
    return '16-mixed' if device.type == 'cuda' else '32-true'


def _hush_lightning():
    """Keep lightning's advertisements and advice off the console; its errors stay."""
    for name in ('lightning.pytorch', 'lightning.fabric'):
        logging.getLogger(name).setLevel(logging.WARNING)
    # What it says where the system has killed one of its processes, for want of memory, say.
    logging.getLogger('lightning.fabric.strategies.launchers').setLevel(logging.INFO)
    for message in ('.*does not have many workers', '.*exists and is not empty', '.*LeafSpec',
                    'Grad strides do not match', 'The dirpath has changed'):
        warnings.filterwarnings('ignore', message)
