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
Find the class biases for the best mIoU, on frames that the network never saw.

Training gives rare classes more weight, or they would not be learned at all; the trained network
then predicts them too often. A constant for each class, added to the logits, corrects that (logit
adjustment, arXiv 2007.07314). It goes into the classifier's bias, so the network is no slower.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
import math
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from segnet_ros.checkpoint import find_weights, load_checkpoint, ModelInfo, save_checkpoint
from segnet_ros.labels import VOID
from segnet_ros.metrics import mean_of_known, scores
from segnet_ros.networks.build import Network
from segnet_ros.runtime import choose_device, choose_precision, prepare
from segnet_ros.training.dataset import frame_paths, read_frame
from segnet_ros.training.evaluate import logits_function, warn_of_seen

# About this many pixels of each split are used, evenly spread.
_PIXELS = 1_000_000
# Steps of the search, up and down, the coarsest first.
_STEPS = (0.4, 0.2, 0.1)
# mIoU that a mean squared bias of 1 must gain. Without this penalty, a class that the frames
# hardly show gets an extreme bias for almost no gain.
_PRICE = 0.005
# Logits (P, C) float32, class ids (P,) int64, how many pixels each stands for (P,) float64.
Pixels = tuple[torch.Tensor, torch.Tensor, torch.Tensor]


@dataclass(frozen=True)
class Balance:
    """
    The class_bias to put in a recipe, and each split's mIoU before and after.

    :param class_bias: by class name: the bias in the weights' own recipe plus the one found here,
        which has mean 0.
    """

    class_bias: dict[str, float]
    miou: dict[str, tuple[float, float]]


def balance(weights: str | Path, data: str | Path, splits: list[str], device: str = 'auto',
            output: Path | None = None) -> Balance:
    """
    Find the biases with the best mIoU, averaged over the splits, with progress bars.

    :param weights: path or shipped name; must not have been trained on these frames.
    :param splits: as frame_paths takes them, e.g. ['train:0006R0', 'val'].
    :param output: file for the weights with the biases added; without scores, since those belong
        to the original weights.
    :raises CheckpointError, FileNotFoundError, ValueError: if weights or data cannot be used.
    """
    if output and output.is_dir():
        raise ValueError(f'{output} is a folder; name a file for the weights')
    path = find_weights(str(weights))
    network, info = load_checkpoint(path)
    for split in splits:
        warn_of_seen(info, data, split)
    chosen = choose_device(device)
    prepared = prepare(network, chosen, choose_precision('auto', chosen))
    pixels = {split: _read_pixels(prepared, info, data, split) for split in splits}
    bias = fit_bias(list(pixels.values()))
    recipe = info.made_by.get('class_bias', {})
    class_bias = {name: recipe.get(name, 0.0) + found for name, found in zip(
        info.label_set.class_names, bias.tolist(), strict=True)}
    result = Balance(class_bias, {
        split: (_miou(part, torch.zeros_like(bias)), _miou(part, bias))
        for split, part in pixels.items()})
    if output:
        network, info = load_checkpoint(path)
        with torch.no_grad():
            network.classifier.bias += bias  # type: ignore[operator]
        save_checkpoint(output, network, replace(
            info, scores={}, made_by={**info.made_by, 'class_bias': class_bias}))
    return result


def _read_pixels(network: Network, info: ModelInfo, data: str | Path, split: str) -> Pixels:
    """Return a split's pixels, evenly subsampled and without void."""
    frames = frame_paths(data, split)
    logits_of = logits_function(network, info)
    logits, truths, weights = [], [], []
    for paths in tqdm(frames, split, unit='frame', leave=False):
        image, truth = read_frame(*paths, info.label_set)
        stride = math.ceil(math.sqrt(truth.size * len(frames) / _PIXELS))
        known = torch.from_numpy(truth[::stride, ::stride] != VOID)
        logits.append(logits_of(image)[0, :, ::stride, ::stride].permute(1, 2, 0).cpu()[known])
        truths.append(torch.from_numpy(truth[::stride, ::stride])[known].long())
        weights.append(torch.full(truths[-1].shape, stride**2, dtype=torch.float64))
    if not sum(map(len, truths)):
        raise ValueError(f"no labelled pixels in split '{split}': all of it is void")
    return torch.cat(logits), torch.cat(truths), torch.cat(weights)


def fit_bias(parts: list[Pixels]) -> torch.Tensor:
    """
    Return the (C,) float32 biases, mean 0, with the best mean of the parts' mIoU.

    Climbs class by class, since mIoU has no gradient. Changes that gain almost nothing are not
    made. A class that the frames do not show keeps 0: they could only say to predict it less.
    """
    bias = torch.zeros(parts[0][0].shape[1])
    shown = torch.cat([truth for _, truth, _ in parts]).unique().tolist()

    def centred(tried: torch.Tensor) -> torch.Tensor:
        tried = tried.clone()
        tried[shown] -= tried[shown].mean()
        return tried

    def value(tried: torch.Tensor) -> float:
        tried = centred(tried)
        return mean_of_known(np.array([_miou(part, tried) for part in parts])) - (
            _PRICE * float(tried.square().mean()))

    for step in tqdm(_STEPS, 'fitting the biases', leave=False):
        while (better := _climb(bias, shown, step, value)) is not None:
            bias = better
    return centred(bias)


def _climb(bias: torch.Tensor, class_ids: list[int], step: float,
           value: Callable[[torch.Tensor], float]) -> torch.Tensor | None:
    """Try one step up and down for each class; return the better bias, None if none is better."""
    start = best = value(bias)
    for class_id in class_ids:
        for change in (step, -step):
            tried = bias.clone()
            tried[class_id] += change
            if (found := value(tried)) > best:
                bias, best = tried, found
    return bias if best > start else None


def _miou(part: Pixels, bias: torch.Tensor) -> float:
    logits, truth, weights = part
    count = len(bias)
    pairs = truth * count + (logits + bias).argmax(1)
    confusion = torch.bincount(pairs, weights, minlength=count**2).view(count, count)
    return scores(confusion.numpy())['miou']
