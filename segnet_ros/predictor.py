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
Segment pictures of any size: one network, and a Segmenter for each of the last few sizes.

For offline work; the node knows its cameras' sizes and keeps a Segmenter of its own for each.
Knows nothing of files, bags or ROS.
"""

from collections import OrderedDict
from pathlib import Path

import numpy as np

from segnet_ros.checkpoint import find_weights, load_checkpoint
from segnet_ros.resources import DEFAULT_WEIGHTS
from segnet_ros.runtime import choose_device, choose_precision, prepare
from segnet_ros.segmentation import Segmentation
from segnet_ros.segmenter import OUTPUTS, Segmenter

SIZES_KEPT = 4  # image sizes that may take turns; a Segmenter for each holds many buffers
PIXELS_KEPT = 2**25  # of these sizes together, unless the last has more; about 27 bytes each


class Predictor:
    """
    Runs a checkpoint on images as they come.

    :param weights: a .safetensors file or a name in resource/.
    :param device: 'auto', 'cpu', 'cuda' or 'cuda:N'.
    :param precision: 'auto', 'float32', 'bfloat16', 'float16' or 'int8'.
    :param sizes_kept: how many of the latest image sizes to keep a Segmenter for, as long as they
        have PIXELS_KEPT at most.
    :raises CheckpointError, ValueError: saying why these cannot be used.
    """

    def __init__(self, weights: str | Path = DEFAULT_WEIGHTS, device: str = 'auto',
                 precision: str = 'auto', sizes_kept: int = SIZES_KEPT):
        self.weights = find_weights(str(weights))
        self.device = choose_device(device)
        self.dtype = choose_precision(precision, self.device)
        network, self.info = load_checkpoint(self.weights)
        self._network = prepare(network, self.device, self.dtype)
        self._sizes_kept = sizes_kept
        self._segmenters: OrderedDict[tuple[int, int], Segmenter] = OrderedDict()

    def segment(self, image: np.ndarray, outputs: tuple[str, ...] = OUTPUTS) -> Segmentation:
        """
        Segment one image; the arrays returned are valid until the next call.

        A size that is not among the last few needs a new Segmenter, which takes the time of one
        more frame (on CUDA, of several).

        :param image: (H, W, 3) uint8 RGB.
        :param outputs: which of segmenter.ALL_OUTPUTS to compute.
        """
        return self.segmenter(image).segment(image, outputs)

    def segmenter(self, image: np.ndarray) -> Segmenter:
        """Return the Segmenter for images of this one's size."""
        height, width = image.shape[:2]
        if not image.size:
            raise ValueError(f'an image of {width}x{height} pixels is empty')
        segmenter = self._segmenters.pop((height, width), None)
        if segmenter is None:
            # Make room first, so that memory never holds one too many.
            while self._segmenters and (
                    len(self._segmenters) >= self._sizes_kept
                    or height * width + sum(h * w for h, w in self._segmenters) > PIXELS_KEPT):
                self._segmenters.popitem(last=False)
            segmenter = Segmenter(self._network, self.info, (height, width))
        self._segmenters[height, width] = segmenter
        return segmenter
