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
A whole training run: recipe in, metrics.csv, resumable state and weights.safetensors out.

Everything lands in one output folder. Starting again with the same folder goes on where the last
run was cut off.
"""

from dataclasses import replace
import logging
from pathlib import Path

import lightning
from lightning.pytorch.callbacks import EMAWeightAveraging, ModelCheckpoint, TQDMProgressBar
from lightning.pytorch.loggers import CSVLogger
import torch
from torch.utils.data import DataLoader

from segnet_ros.checkpoint import (
    find_weights, load_checkpoint, ModelInfo, save_checkpoint)
from segnet_ros.labels import load_label_set
from segnet_ros.training.config import TrainConfig
from segnet_ros.training.dataset import (
    class_shares, frame_paths, read_frames, ScoringFrames, TrainingFrames)
from segnet_ros.training.metrics import scores
from segnet_ros.training.module import class_weights, SegmentationModule


class TrainingData(lightning.LightningDataModule):
    """Reads all frames once; gives each epoch its phase's crops."""

    def __init__(self, config: TrainConfig):
        super().__init__()
        self.config = config
        self.label_set = load_label_set(config.label_set)
        paths = frame_paths(config.data, config.split)
        if config.hold_out:
            held = [p for p in paths if p[0].name.startswith(config.hold_out)]
            if not held or len(held) == len(paths):
                raise ValueError(f"--hold-out '{config.hold_out}' matches {len(held)} of "
                                 f'{len(paths)} frames; it must match some and leave some')
            paths = [p for p in paths if p not in held]
        else:
            held = frame_paths(config.data, config.val_split)
        self.train_frames = read_frames(paths, self.label_set, 'reading training frames')
        self.val_frames = read_frames(held, self.label_set, 'reading validation frames')

    def train_dataloader(self) -> DataLoader:
        """Return this epoch's crops; lightning asks anew every epoch."""
        epoch = self.trainer.current_epoch
        frames = TrainingFrames(self.train_frames, self.config.sample_drive_frames,
                                self.config.phase(epoch), self.config.jitter, self.config.seed,
                                epoch)
        generator = torch.Generator().manual_seed(self.config.seed + epoch)
        return DataLoader(frames, self.config.batch_size, shuffle=True, drop_last=True,
                          num_workers=2, generator=generator)

    def val_dataloader(self) -> DataLoader:
        """Return whole frames, one at a time, since their sizes may differ."""
        return DataLoader(ScoringFrames(self.val_frames), batch_size=1)


class ExportWeights(lightning.Callback):
    """
    Scores and writes the averaged weights after every validation.

    Stands before EMAWeightAveraging among the callbacks: that one puts the averaged weights in place
    for validation and takes them out again in its own on_validation_epoch_end.
    """

    def __init__(self, info: ModelInfo, path: Path):
        self._info, self._path = info, path

    def on_validation_epoch_end(self, trainer, module):
        """Log the scores and save the weights."""
        result = scores(module.confusion.compute().cpu().numpy())
        module.confusion.reset()
        per_class = dict(zip(self._info.label_set.class_names, result.pop('per_class_iou'),
                             strict=True))
        module.log_dict({f'val_{k}': v for k, v in result.items()}, prog_bar=True)
        module.log_dict({f'val_iou_{k}': v for k, v in per_class.items()})
        if trainer.is_global_zero and not trainer.sanity_checking:
            info = replace(self._info, scores={
                'val': {**result, 'per_class_iou': per_class}, 'epoch': trainer.current_epoch + 1})
            save_checkpoint(self._path, module.network, info)


def train(config: TrainConfig, output: Path, accelerator: str = 'auto') -> Path:
    """
    Train by the recipe and return the path of the weights.

    :param output: folder for metrics.csv, last.ckpt (lightning's, to resume) and
        weights.safetensors (the averaged weights, as of the last validation).
    :raises FileNotFoundError, ValueError: where data or settings cannot be used.
    """
    lightning.seed_everything(config.seed, workers=True, verbose=False)
    data = TrainingData(config)
    info = ModelInfo(label_set=data.label_set, architecture=config.architecture,
                     width=config.width, input_size=config.input_size, made_by=config.to_dict())
    shares = class_shares(data.train_frames, len(data.label_set))
    module = SegmentationModule(config, info, class_weights(shares, config.class_weight_offset))
    if config.init:
        network, _ = load_checkpoint(find_weights(config.init))
        module.network.load_state_dict(network.state_dict())
    output.mkdir(parents=True, exist_ok=True)
    weights = output / 'weights.safetensors'
    trainer = _trainer(config, output, accelerator, ExportWeights(info, weights))
    last = output / 'last.ckpt'
    if last.is_file():
        logging.info('going on from %s', last)
    trainer.fit(module, data, ckpt_path=last if last.is_file() else None)
    return weights


def _trainer(config: TrainConfig, output: Path, accelerator: str, export: ExportWeights):
    return lightning.Trainer(
        accelerator=accelerator, max_epochs=config.epochs, precision='bf16-mixed',
        gradient_clip_val=config.gradient_clip, reload_dataloaders_every_n_epochs=1,
        check_val_every_n_epoch=min(config.val_every, config.epochs), num_sanity_val_steps=0,
        log_every_n_steps=10, default_root_dir=output,
        logger=CSVLogger(output.parent, name=output.name, version=''),
        callbacks=[
            export, EMAWeightAveraging(decay=config.ema_decay),
            ModelCheckpoint(output, filename='last', every_n_epochs=1, save_top_k=1,
                            enable_version_counter=False, save_on_train_epoch_end=True),
            TQDMProgressBar()])
