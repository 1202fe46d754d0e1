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

"""SegmenterBatch: runs one frame of each of several segmenters through the network at once."""

from collections.abc import Sequence

import numpy as np
import torch

from segnet_ros.cuda_graph import CudaGraph
from segnet_ros.segmentation import Segmentation
from segnet_ros.segmenter import OUTPUTS, Segmenter


class SegmenterBatch:
    """
    Segments one frame of each segmenter, in one batch and, on CUDA, in one graph.

    A batch keeps a GPU busier than its frames one after the other. Each segmenter still uses its
    own buffers, so frames and outputs may differ in size; the network's input may not.

    :param segmenters: those of several cameras, which share one network.
    :raises ValueError: if their networks or their network sizes differ.
    """

    def __init__(self, *segmenters: Segmenter):
        first = segmenters[0]
        if not can_batch(segmenters):
            raise ValueError('a batch takes segmenters of one network and one network size, not '
                             + ', '.join(str(s.network_size) for s in segmenters))
        self._segmenters = segmenters
        with torch.inference_mode():
            self._input = torch.zeros((len(segmenters), *first.network_size, 3),
                                      dtype=first.dtype, device=first.device)
            everything = [OUTPUTS] * len(segmenters)
            self._graph = (CudaGraph(lambda: self._stages(everything), first.device)
                           if first.device.type == 'cuda' else None)
            if self._graph is None:
                self._stages(everything)

    @torch.inference_mode()
    def segment(self, images: Sequence[np.ndarray],
                outputs: Sequence[tuple[str, ...]]) -> list[Segmentation]:
        """
        Segment one frame of each segmenter, as Segmenter.segment does.

        :param images: (H, W, 3) uint8 RGB, each of its segmenter's camera_size.
        :param outputs: what to compute for each.
        """
        for segmenter, image in zip(self._segmenters, images, strict=True):
            segmenter.load(image)
        if self._graph is None:
            self._stages(outputs)
        else:
            self._graph.run(self._copy_in, lambda: self._copy_back(outputs))
        return [s.results(o) for s, o in zip(self._segmenters, outputs, strict=True)]

    def _stages(self, outputs: Sequence[tuple[str, ...]]) -> torch.Tensor:
        for image, segmenter in zip(self._input, self._segmenters, strict=True):
            image.copy_(segmenter.preprocess())
        network = self._segmenters[0].network
        logits = network(self._input.permute(0, 3, 1, 2))
        for segmenter, its_logits, its_outputs in zip(self._segmenters, logits, outputs,
                                                      strict=True):
            segmenter.postprocess(its_logits, its_outputs)
        return logits

    def _copy_in(self):
        for segmenter in self._segmenters:
            segmenter.copy_in()

    def _copy_back(self, outputs: Sequence[tuple[str, ...]]):
        for segmenter, its_outputs in zip(self._segmenters, outputs, strict=True):
            segmenter.copy_back(its_outputs)


def can_batch(segmenters: Sequence[Segmenter]) -> bool:
    """Tell whether the segmenters share one network and one network size."""
    return len({(s.network, s.network_size) for s in segmenters}) == 1
