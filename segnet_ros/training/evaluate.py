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
Score weights on a labelled split: one confusion matrix over all frames, at the labels' resolution.

The network runs as the node runs it: folded, in the device's own precision, on frames scaled as
the node scales them. The two differ only in scaling the result back to the frame: here the logits
are interpolated bilinearly, as papers do; the node scales the labels by nearest neighbour, which
is faster. Frames are read one at a time, so a split may be of any length.
"""

from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
import logging
import os
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional
from tqdm import tqdm

from segnet_ros.checkpoint import (
    CheckpointError, find_weights, load_checkpoint, ModelInfo, read_info)
from segnet_ros.labels import LabelSet, load_label_set, VOID
from segnet_ros.metrics import (
    boundary_f1, calibration_error, confusion_matrix, mean_of_known, scores, without_nan)
from segnet_ros.networks.build import Network
from segnet_ros.runtime import choose_device, choose_precision, prepare
from segnet_ros.segmenter import fit_input_size
from segnet_ros.training.augmentation import LabelledFrame
from segnet_ros.training.corruptions import CORRUPTIONS
from segnet_ros.training.dataset import frame_paths, read_frame

# Image (H, W, 3) uint8 RGB in; label map and confidence out, both (H, W) uint8.
Predict = Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]


@dataclass(frozen=True)
class Evaluation:
    """
    Scores of one set of weights on one split, and what the plots need.

    :param result: what goes to JSON: plain types, None for what has no score. 'size' is the
        (height, width) of the network's input, None if it varied with the frames' shapes.
    :param frame_mious: (F,) mIoU of each frame by itself; nan if all of it is void.
    :param frames: (image, annotation) files, in the order of frame_mious.
    """

    result: dict
    frame_mious: np.ndarray
    frames: list[tuple[Path, Path]]
    label_set: LabelSet
    predict: Predict


def evaluate(weights: str | Path, data: str | Path, split: str = 'val',
             size: tuple[int, int] | None = None, label_set: str | Path | None = None,
             robustness: bool = False, device: str = 'auto',
             precision: str = 'auto') -> Evaluation:
    """
    Score weights on DATA/SPLIT, with progress bars.

    :param weights: path or shipped name.
    :param size: (height, width) that frames are scaled to for the network; None for as many
        pixels as it was trained at, in each frame's own aspect ratio.
    :param label_set: name or path of the label set of the annotations; None for the weights' own.
    :param robustness: also score on darkened, blurred, rainy, JPEG'd and tilted frames.
    :raises CheckpointError, FileNotFoundError, ValueError: if weights or data cannot be used.
    """
    network, info = load_checkpoint(find_weights(str(weights)))
    warn_of_seen(info, data, split)
    labels = _annotation_labels(info, label_set)
    frames = frame_paths(data, split)
    chosen = choose_device(device)
    dtype = choose_precision(precision, chosen)
    network = prepare(network, chosen, dtype)
    predict = predict_function(network, info, size)
    sizes: set[tuple[int, int]] = set()

    def read(name: str = '') -> Iterable[LabelledFrame]:
        for index, paths in enumerate(tqdm(frames, name or split, unit='frame', leave=False)):
            frame = read_frame(*paths, labels)
            sizes.add(size or fit_input_size(info.input_size, frame[1].shape))
            rng = np.random.default_rng(index)
            yield CORRUPTIONS[name](*frame, rng) if name else frame

    result, mious = score_frames(predict, read(), labels.class_names)
    result |= {'frames': len(frames), 'size': list(sizes.pop()) if len(sizes) == 1 else None,
               'precision': str(dtype).removeprefix('torch.'), 'weights': str(weights),
               'data': str(data), 'split': split}
    if robustness:
        result['robustness'] = {'none': _main_scores(result)} | {
            name: _main_scores(score_frames(predict, read(name), labels.class_names)[0])
            for name in CORRUPTIONS}
    return Evaluation(result, mious, frames, labels, predict)


def warn_of_seen(info: ModelInfo, data: str | Path, split: str,
                 who: str = 'these weights were'):
    """
    Warn if the weights, or those that they started from, seem to have seen these frames.

    :param who: the weights, in the warning.
    """
    infos, found = [info], set[str]()
    while (init := infos[-1].made_by.get('init')) and init not in found:
        found.add(init)
        with suppress(CheckpointError):
            infos.append(read_info(find_weights(init)))
    name = Path(os.path.abspath(data)).name.casefold()  # of .. too
    if any(Path(made.made_by.get('data', '')).name.casefold() == name and made.has_seen(split)
           for made in infos):
        logging.warning("frames of '%s' may be among those that %s trained on: the scores say "
                        'little about unseen frames', split, who)


def _annotation_labels(info: ModelInfo, label_set: str | Path | None) -> LabelSet:
    if label_set is None:
        return info.label_set
    labels = load_label_set(label_set)
    if labels.class_names != info.label_set.class_names:
        raise ValueError(
            f"label set '{labels.name}' has the classes {', '.join(labels.class_names)}, but the "
            f"weights know {', '.join(info.label_set.class_names)}: they must be the same, in the "
            'same order')
    return labels


def _main_scores(result: dict) -> dict:
    return {key: result[key] for key in ('miou', 'global_accuracy', 'boundary_f1')}


def logits_function(network: Network, info: ModelInfo,
                    size: tuple[int, int] | None = None) -> Callable[[np.ndarray], torch.Tensor]:
    """
    Return a function from images, (H, W, 3) uint8 RGB, to logits, (1, C, H, W) float32.

    Images are scaled for the network; its logits are scaled back, bilinearly.

    :param network: as runtime.prepare returns it.
    :param size: (height, width) that images are scaled to; None for fit_input_size of each.
    """
    weight = next(network.parameters())
    mean, std = (torch.tensor(v, device=weight.device).view(1, 3, 1, 1) * 255
                 for v in (info.mean, info.std))

    @torch.inference_mode()
    def logits_of(image: np.ndarray) -> torch.Tensor:
        x = torch.from_numpy(image).to(weight.device).permute(2, 0, 1)[None].float()
        input_size = size or fit_input_size(info.input_size, image.shape[:2])
        if x.shape[-2:] != input_size:
            x = functional.interpolate(x, input_size, mode='bilinear', antialias=True)
        x = ((x - mean) / std).to(weight.dtype, memory_format=torch.channels_last)
        logits = network(x).float()
        if logits.shape[-2:] != image.shape[:2]:
            logits = functional.interpolate(logits, image.shape[:2], mode='bilinear')
        return logits

    return logits_of


def predict_function(network: Network, info: ModelInfo,
                     size: tuple[int, int] | None = None) -> Predict:
    """
    Return a function from images to label maps and confidences of the images' own size.

    The confidence is round(255 * largest probability), of the logits at the images' size.

    :param network, size: as logits_function takes them.
    """
    logits_of = logits_function(network, info, size)

    def predict(image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        probability, label_map = logits_of(image).softmax(1).max(1)
        confidence = (probability * 255).round()
        return bytes_of(label_map), bytes_of(confidence)

    def bytes_of(images: torch.Tensor) -> np.ndarray:
        return images[0].to(torch.uint8).cpu().numpy()

    return predict


def score_frames(predict: Predict, frames: Iterable[LabelledFrame],
                 class_names: tuple[str, ...]) -> tuple[dict, np.ndarray]:
    """
    Return the scores over all frames together, and each frame's mIoU, (F,).

    :param frames: (image, label map) pairs; void pixels count nowhere.
    """
    count = len(class_names)
    matrix = np.zeros((count, count), np.int64)
    levels = np.zeros((2, 256))  # pixels of each confidence, and the correct ones among them
    mious, boundaries = [], []
    for image, truth in frames:
        label_map, confidence = predict(image)
        of_frame = confusion_matrix(truth, label_map, count)
        matrix += of_frame
        mious.append(scores(of_frame)['miou'])
        boundaries.append(boundary_f1(truth, label_map, count))
        for row, mask in zip(levels, (truth != VOID, truth == label_map), strict=True):
            row += np.bincount(confidence[mask], minlength=256)
    if not matrix.any():
        raise ValueError('no labelled pixels: all annotations are entirely void')
    result = scores(matrix)
    result['per_class_iou'] = dict(zip(class_names, result['per_class_iou'], strict=True))
    result['boundary_f1'] = mean_of_known(np.array(boundaries))
    result['calibration_error'] = calibration_error(*levels)
    result['confusion_matrix'] = matrix.tolist()
    result['class_names'] = list(class_names)
    return without_nan(result), np.array(mious)
