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
The networks that visitors choose from, safe to call from many threads at once.

Knows nothing of the page.
"""

from collections.abc import Sequence
from dataclasses import dataclass
import threading
import time

import numpy as np

from segnet_ros.checkpoint import CheckpointError, ModelInfo
from segnet_ros.labels import LabelSet
from segnet_ros.predictor import Predictor
from segnet_ros.resources import DEFAULT_WEIGHTS, share_directory

SIZES_KEPT = 2  # picture sizes kept ready per network; visitors bring many


@dataclass(frozen=True, eq=False)
class Result:
    """
    A network's result for one picture; it owns its arrays, so they stay valid.

    :param image: (H, W, 3) uint8 RGB as given.
    :param label_map: (H, W) uint8 class ids, 255 for void.
    :param confidence: (H, W) uint8, 255 for certainty.
    :param color_mask: (H, W, 3) uint8 RGB.
    :param fractions: (C,) float64, each class's share of the pixels.
    :param seconds: from the image in memory to all of the results.
    :param made_by: model and device, in words.
    """

    image: np.ndarray
    label_map: np.ndarray
    confidence: np.ndarray
    color_mask: np.ndarray
    fractions: np.ndarray
    seconds: float
    made_by: str
    label_set: LabelSet


class Models:
    """
    Loads networks and runs them.

    :param weights: names in resource/ or paths of .safetensors files, at least one.
    :param device: as runtime.choose_device takes it.
    :raises ValueError: if no weights are given, or the device is missing.
    :raises CheckpointError: for weights that cannot be used.
    """

    def __init__(self, weights: Sequence[str], device: str = 'auto'):
        if not weights:
            raise ValueError('there are no weights to show; name some with --weights')
        self._predictors: dict[str, Predictor] = {}
        for one in weights:
            predictor = Predictor(one, device, sizes_kept=SIZES_KEPT)
            path = predictor.weights
            name = path.stem
            if name in self._predictors:  # training always writes this name
                name = f'{path.parent.name}/{name}'
            if name in self._predictors:
                name = str(path)
            self._predictors[name] = predictor
        # One lock for all: they share the device, and nothing may disturb a CUDA graph's capture.
        self._lock = threading.Lock()

    @property
    def names(self) -> list[str]:
        """Return the models' names in the order given."""
        return list(self._predictors)

    def info(self, name: str) -> ModelInfo:
        """Return the metadata in the model's checkpoint."""
        return self._predictors[name].info

    def segment(self, name: str, image: np.ndarray) -> Result:
        """Segment an image, (H, W, 3) uint8 RGB of any size."""
        with self._lock:
            predictor = self._predictors[name]
            segmenter = predictor.segmenter(image)  # built if the size is new, which takes time
            start = time.perf_counter()
            seen = segmenter.segment(
                image, ('label_map', 'confidence', 'color_mask', 'statistics'))
            seconds = time.perf_counter() - start
            assert seen.statistics is not None
            return Result(
                image, np.array(seen.label_map), np.array(seen.confidence),
                np.array(seen.color_mask), seen.statistics.fractions, seconds,
                f'{name} on {predictor.device}', predictor.info.label_set)

    def overlay(self, name: str, image: np.ndarray) -> np.ndarray:
        """Return only the colour mask blended over the image, (H, W, 3) uint8 RGB."""
        with self._lock:
            return np.array(self._predictors[name].segment(image, ('overlay',)).overlay)


def shipped_weights() -> list[str]:
    """
    Return the names of the weights in resource/, the default ones first.

    :raises CheckpointError: if there are none.
    """
    found = (share_directory() / 'resource').glob('*.safetensors')
    names = sorted((p.stem for p in found), key=lambda name: (name != DEFAULT_WEIGHTS, name))
    if not names:
        raise CheckpointError('this package came without weights; make some with `segnet train` '
                              'and name them with --weights')
    return names
