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

"""The lightning module: network, losses, optimiser; one training and one scoring step."""

from collections.abc import Callable
import gc
import logging
import math
import warnings

import lightning
import numpy as np
import torch
from torch import nn
from torch.nn import functional
from torchmetrics.classification import MulticlassConfusionMatrix

from segnet_ros.checkpoint import ModelInfo
from segnet_ros.cuda_graph import training_graph
from segnet_ros.labels import LabelSet, VOID
from segnet_ros.training.config import TrainConfig
from segnet_ros.training.muon import DeviceMuon


def class_weights(shares: np.ndarray, offset: float) -> torch.Tensor:
    """
    Return 1 / ln(offset + share), scaled to mean 1 (ENet, arXiv 1606.02147).

    :raises ValueError: if the logarithm for the rarest class would not be above 0.
    """
    if offset + shares.min() <= 1:
        raise ValueError(f'class_weight_offset {offset} is too small for a class with '
                         f'{shares.min():.2g} of the pixels; any value above 1 works')
    weights = 1 / np.log(offset + shares)
    return torch.tensor(weights / weights.mean(), dtype=torch.float32)


def _bias_of_classes(config: TrainConfig, label_set: LabelSet) -> torch.Tensor:
    """
    Return the recipe's class_bias as (num_classes, 1, 1) float32.

    :raises ValueError: if it names an unknown class.
    """
    unknown = config.class_bias.keys() - set(label_set.class_names)
    if unknown:
        raise ValueError(f"class_bias names '{min(unknown)}', which is not a class of "
                         f"'{label_set.name}' ({', '.join(label_set.class_names)}); set "
                         'class_bias to {} or to what `segnet balance` prints')
    return torch.tensor([config.class_bias.get(name, 0.0)
                         for name in label_set.class_names]).view(-1, 1, 1)


class SegmentationModule(lightning.LightningModule):
    """
    Trains a network on batches of uint8 RGB images and uint8 label maps.

    :param weights: (num_classes,) float32 weights of the cross entropy.
    """

    class_weights: torch.Tensor
    class_bias: torch.Tensor
    mean: torch.Tensor
    std: torch.Tensor

    def __init__(self, config: TrainConfig, info: ModelInfo, weights: torch.Tensor):
        super().__init__()
        self.config = config
        self._label_set = info.label_set.to_dict()
        self.network = info.build()
        self.network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        heads = self.network.stage_channels()[:-1] if config.aux_weight else []
        self.aux_heads = nn.ModuleList(nn.Conv2d(c, len(info.label_set), 1) for c in heads)
        self.register_buffer('class_weights', weights)
        self.register_buffer('class_bias', _bias_of_classes(config, info.label_set),
                             persistent=False)
        for name in ('mean', 'std'):
            values = torch.tensor(getattr(info, name)).view(1, 3, 1, 1) * 255
            self.register_buffer(name, values)
        self.confusion = MulticlassConfusionMatrix(len(info.label_set), ignore_index=VOID)
        self._graphs: dict[tuple[int, ...], Callable] = {}

    def _normalised(self, images: torch.Tensor) -> torch.Tensor:
        return ((images - self.mean) / self.std).contiguous(memory_format=torch.channels_last)

    def _cross_entropy(self, logits: torch.Tensor, label_maps: torch.Tensor) -> torch.Tensor:
        loss = functional.cross_entropy(logits.float(), label_maps, self.class_weights,
                                        ignore_index=VOID, reduction='sum')
        # Void weighs nothing. A lookup, since selecting valid pixels would wait for the GPU.
        weight_of_id = functional.pad(self.class_weights, (0, 256 - len(self.class_weights)))
        # A batch may be all void: no pixel, no loss.
        return loss / weight_of_id[label_maps].sum().clamp(min=self.class_weights.min())

    def on_train_start(self):
        """Start the schedule at the current epoch; a resumed run's epochs may differ in steps."""
        scheduler = self.lr_schedulers()
        scheduler.last_epoch = (  # lightning counts it in steps
            self.trainer.current_epoch * self.trainer.num_training_batches)

    def losses(self, images: torch.Tensor, label_maps: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """
        Return a batch's cross entropy, detached, and the loss to minimise, with auxiliary heads.

        :param images: (N, 3, h, w) uint8 RGB.
        :param label_maps: (N, h, w) uint8.
        """
        label_maps = label_maps.long()
        *features, logits = self.network.forward_stages(self._normalised(images))
        # Subtracted for the loss, so the network learns to add it (arXiv 2007.07314).
        loss = self._cross_entropy(logits - self.class_bias, label_maps)
        auxiliary = []
        for head, feature in zip(self.aux_heads, features, strict=False):
            # The pixel in each cell's corner. Its centre's, by 'nearest-exact', is more often that
            # of most of the cell, but the network scored no better with it (docs/training.md).
            small = functional.interpolate(label_maps[:, None].float(), feature.shape[-2:])
            auxiliary.append(self._cross_entropy(head(feature), small[:, 0].long()))
        if not auxiliary:
            return loss.detach(), loss
        return loss.detach(), loss + self.config.aux_weight * torch.stack(auxiliary).mean()

    def on_fit_start(self):
        """Capture the steps of all phases if on a single GPU, before threads feed it crops."""
        if not self._on_one_gpu():
            return
        # The graphs hold on to the stream that they were captured on.
        warnings.filterwarnings('ignore', 'The AccumulateGrad node.s stream does not match')
        try:
            with self.trainer.precision_plugin.forward_context():
                for phase in self.config.phases:
                    self._capture((self.config.batch_size, *phase.crop))
        except RuntimeError as error:  # too little memory for them, for example
            logging.warning('training without CUDA graphs, which is slower: %s', error)
        else:
            return
        self._release_graphs()  # here, since the error's traceback no longer keeps them alive

    def teardown(self, stage: str):
        """Release the graphs' memory."""
        self._release_graphs()

    def _release_graphs(self):
        if self._graphs:
            self._graphs.clear()
            gc.collect()  # torch's captured forward refers to itself
            torch.cuda.empty_cache()

    def _on_one_gpu(self) -> bool:
        return self.device.type == 'cuda' and self.trainer.world_size == 1

    def _capture(self, shape: tuple[int, ...]):
        if shape not in self._graphs:
            batch, *crop = shape
            images, label_maps = (self.mean.new_zeros(s, dtype=torch.uint8)
                                  for s in ((batch, 3, *crop), shape))
            self._graphs[shape] = training_graph(self, self.losses, (images, label_maps))

    def training_step(self, batch, _) -> torch.Tensor:
        """Return the loss of a batch."""
        images, label_maps = batch
        step = self._graphs.get(label_maps.shape, self.losses)
        cross_entropy, loss = step(images, label_maps)
        self.log('loss', cross_entropy, prog_bar=True, logger=False, on_step=False, on_epoch=True,
                 sync_dist=True)
        return loss

    def validation_step(self, batch, _):
        """Add a batch to the confusion matrix over all frames."""
        images, label_maps = batch
        logits = self.network(self._normalised(images))
        self.confusion.update(logits.argmax(1), label_maps.long())

    def on_save_checkpoint(self, checkpoint: dict):
        """Save the recipe and the classes with the state."""
        checkpoint['recipe'] = self.config.to_dict()
        checkpoint['label_set'] = self._label_set

    def on_load_checkpoint(self, checkpoint: dict):
        """Refuse to resume with a recipe other than the one that the run was started with."""
        ours = self.config.to_dict()
        theirs = checkpoint['recipe']
        if checkpoint['label_set'] != self._label_set:
            raise ValueError(
                'the output folder holds a run for other classes: '
                f'{checkpoint["label_set"]}, now they are {self._label_set}; use the same '
                'label set or another --output')
        may_move = {'data', 'label_set'}  # folders and files
        for name in sorted((ours.keys() | theirs.keys()) - may_move):
            if ours.get(name) != theirs.get(name):
                raise ValueError(
                    f'the output folder holds a run with {name} = {theirs.get(name)}, now it is '
                    f'{ours.get(name)}; use the same settings or another --output')

    def configure_optimizers(self):
        """
        Return Muon for the convolutions and AdamW for the rest, with warm-up and cosine decay.

        Muon orthogonalises each update, so that the rare directions of a filter bank learn as
        fast as the common ones (Jordan et al. 2024, kellerjordan.github.io/posts/muon): at equal
        time on two cores it takes a SegNet from random weights much further than AdamW does.
        """
        config = self.config
        convolutions = [p for n, p in self.network.named_parameters()
                        if p.ndim == 4 and not n.startswith('classifier.')]
        heads = [*self.network.classifier.parameters(), *self.aux_heads.parameters()]
        norms = [p for n, p in self.network.named_parameters() if '.bn.' in n]
        optimizer = DeviceMuon([
            {'params': convolutions, 'use_muon': True, 'lr': config.muon_lr,
             'weight_decay': config.weight_decay},
            {'params': heads, 'use_muon': False, 'lr': config.lr,
             'weight_decay': config.weight_decay},
            {'params': norms, 'use_muon': False, 'lr': config.lr}])
        total = self.trainer.estimated_stepping_batches
        warmup = min(config.warmup_steps, total // 4)

        def factor(step: int) -> float:
            if step < warmup:
                return (step + 1) / warmup
            cosine = 0.5 + 0.5 * math.cos(math.pi * (step - warmup) / max(1, total - warmup))
            return config.final_lr + (1 - config.final_lr) * cosine

        scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, factor)
        return {'optimizer': optimizer, 'lr_scheduler': {'scheduler': scheduler,
                                                         'interval': 'step'}}
