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
Segmenter: array in, Segmentation out; owns every buffer and, on CUDA, the graph.

The constructor allocates everything for one camera resolution. The stages are the same torch code
on every device and write only into buffers, so a CPU runs the code that a GPU captures. Knows
nothing of ROS.
"""

from typing import Any

import numpy as np
import torch

from segnet_ros.checkpoint import ModelInfo
from segnet_ros.class_counter import ClassCounter
from segnet_ros.cuda_graph import CudaGraph, host_buffer
from segnet_ros.labels import VOID
from segnet_ros.networks.build import Network
from segnet_ros.segmentation import ClassStatistics, region_window, Segmentation

OUTPUTS = ('label_map', 'confidence', 'color_mask', 'overlay', 'statistics')
ALL_OUTPUTS = (*OUTPUTS, 'region_statistics')  # the last is rarely wanted: no graph has it
_ALPHA_ONE = 128  # the overlay blends in 16-bit fixed point: 255 * 128 still fits


def fit_input_size(trained: tuple[int, int], camera: tuple[int, ...]) -> tuple[int, int]:
    """
    Return the network input (height, width): the camera's shape, the trained number of pixels.

    Keeping the shape keeps things in the proportions that the network learned; keeping the number
    of pixels keeps the run time. Sides are multiples of 8.
    """
    scale = (trained[0] * trained[1] / (camera[0] * camera[1])) ** 0.5
    height, width = (max(8, round(side * scale / 8) * 8) for side in camera)
    return height, width


def _nearest(source: int, target: int) -> np.ndarray:
    """Return, for each of `target` pixels, the one of `source` pixels under its centre."""
    return ((np.arange(target) * 2 + 1) * source // (2 * target)).astype(np.int64)


class Segmenter:
    """
    Runs one network on frames of one size.

    :param network: as runtime.prepare returns it; its device and dtype are used.
    :param info: the checkpoint's: normalisation, label set, trained size.
    :param camera_size: (height, width) of the frames.
    :param network_size: (height, width) that frames are scaled to; None for fit_input_size's.
    :param output_size: (height, width) of the outputs; None for the camera's.
    """

    def __init__(self, network: Network, info: ModelInfo, camera_size: tuple[int, int],
                 network_size: tuple[int, int] | None = None,
                 output_size: tuple[int, int] | None = None):
        self.network, self._info = network, info  # other Segmenters may share the network
        weight = next(network.parameters())
        self.device, self.dtype = weight.device, weight.dtype
        self.camera_size = camera_size
        self.network_size = network_size or fit_input_size(info.input_size, camera_size)
        self.output_size = output_size or camera_size
        self._num_classes = len(info.label_set)
        with torch.inference_mode():
            self._allocate_input()
            self._allocate_results()
            self._allocate_outputs()
            self.set_overlay_alpha(0.5)
            self.set_confidence_threshold(0.0)
            self.set_palette(info.label_set.palette())
            self._graph = CudaGraph(self._stages, self.device) if self._on_cuda else None
            if self._graph is None:
                self._stages()  # the first run is slow

    @property
    def _on_cuda(self) -> bool:
        return self.device.type == 'cuda'

    def _buffer(self, shape: tuple[int, ...], dtype: torch.dtype) -> torch.Tensor:
        return torch.zeros(shape, dtype=dtype, device=self.device)

    def _allocate_input(self):
        height, width = self.network_size
        self._host_image = host_buffer((*self.camera_size, 3), torch.uint8, self.device)
        self._host_image_array = self._host_image.numpy()
        self._image = self._host_image.to(self.device)  # itself on a CPU, as below
        # CUDA's antialiased resize does not take uint8; half precision holds 0 to 255 exactly.
        resize_dtype = torch.float16 if self._on_cuda else torch.uint8
        self._source = self._image.to(resize_dtype)
        self._small = self._buffer((height, width, 3), resize_dtype)
        self._normalised = self._buffer((height, width, 3), torch.float32)
        self._input = self._buffer((height, width, 3), self.dtype)
        mean, std = (torch.tensor(v, device=self.device) for v in (self._info.mean,
                                                                   self._info.std))
        # Repeated to whole rows: three channels at a time would be five times slower on a CPU.
        self._scale, self._shift = ((1 / (255 * std)).repeat(width), (mean / std).repeat(width))

    def _allocate_results(self):
        height, width = self.network_size
        self._logits = self._buffer((self._num_classes, height, width), torch.float32)
        self._best = self._buffer((height, width), torch.float32)
        self._is_best = self._buffer((self._num_classes, height, width), torch.uint8)
        self._codes = (VOID - torch.arange(self._num_classes, device=self.device)
                       ).to(torch.uint8)[:, None, None]
        self._label = self._buffer((height, width), torch.uint8)
        self._sum = self._buffer((height, width), torch.float32)
        self._unsure = self._buffer((height, width), torch.bool)
        self._void = self._buffer((height, width), torch.uint8)
        self._probability = self._buffer((height, width), torch.uint8)
        self._threshold = self._buffer((1,), torch.float32)
        rows, columns = (_nearest(n, o) for n, o in zip(self.network_size, self.output_size,
                                                        strict=True))
        self._rows = torch.from_numpy(rows).to(self.device)
        self._columns = torch.from_numpy(columns).to(self.device)
        self._counters = {
            name: ClassCounter(self._num_classes, rows, columns, self.network_size, self.device)
            for name in ('statistics', 'region_statistics')}

    def _allocate_outputs(self):
        height, width = self.network_size
        out_height, out_width = self.output_size
        self._outputs = {
            'label_map': self._buffer((out_height, out_width), torch.uint8),
            'confidence': self._buffer((out_height, out_width), torch.uint8),
            'color_mask': self._buffer((out_height, out_width, 3), torch.uint8),
            'overlay': self._buffer((out_height, out_width, 3), torch.uint8),
            **{name: counter.counts for name, counter in self._counters.items()}}
        self._hosts = {
            name: host_buffer(tuple(t.shape), t.dtype, self.device) if self._on_cuda else t
            for name, t in self._outputs.items()}
        self._arrays = {name: t.numpy() for name, t in self._hosts.items()}
        self._wide_label = self._buffer((height, out_width), torch.uint8)
        self._wide_index = self._buffer((height, out_width), torch.int32)
        self._wide_color = self._buffer((height * out_width, 3), torch.uint8)
        self._column_indices = self._columns.expand(height, out_width)
        self._palette = self._buffer((256, 3), torch.uint8)
        self._alphas = self._buffer((2,), torch.int16)
        self._blend = self._buffer((out_height, out_width, 3), torch.int16)
        self._blend_mask = self._buffer((out_height, out_width, 3), torch.int16)
        same = {self.camera_size: self._source, self.network_size: self._small}
        self._under = same.get(self.output_size)
        self._under_own = self._under is None
        if self._under_own:
            self._under = self._buffer((out_height, out_width, 3), self._source.dtype)

    @torch.inference_mode()
    def set_overlay_alpha(self, alpha: float):
        """Set the share of the colour mask in the overlay, 0 (image) to 1 (mask)."""
        mask = round(min(1.0, max(0.0, alpha)) * _ALPHA_ONE)
        self._alphas.copy_(torch.tensor([_ALPHA_ONE - mask, mask], dtype=torch.int16))

    @torch.inference_mode()
    def set_confidence_threshold(self, threshold: float):
        """Set the confidence below which pixels become void, 0 (none) to 1."""
        self._threshold.fill_(threshold)

    @torch.inference_mode()
    def set_palette(self, palette: np.ndarray):
        """Set the colours by class id, (256, 3) uint8 RGB."""
        self._palette.copy_(torch.from_numpy(palette))

    @torch.inference_mode()
    def set_region(self, region: tuple[float, float, float, float] | None):
        """Set the part of the output that region_statistics cover; None for the whole."""
        window = region_window(region or (0, 0, 1, 1), self.output_size)
        self._counters['region_statistics'].set_window(*window)

    @torch.inference_mode()
    def segment(self, image: np.ndarray, outputs: tuple[str, ...] = OUTPUTS) -> Segmentation:
        """
        Segment one frame; the arrays returned are valid until the next call.

        :param image: camera_size + (3,) uint8 RGB; any strides.
        :param outputs: which of ALL_OUTPUTS to compute (on CUDA: to copy back).
        :raises ValueError: if the image is not of that shape and dtype.
        """
        self.load(image)
        if self._graph is None:
            self._stages(outputs)
        else:
            self._graph.run(self.copy_in, lambda: self.copy_back(outputs))
        return self.results(outputs)

    # The parts of segment(), for SegmenterBatch, which runs the network once for several frames.

    def load(self, image: np.ndarray):
        """
        Copy a frame to the host's input buffer.

        :raises ValueError: as segment().
        """
        if image.shape != (*self.camera_size, 3) or image.dtype != np.uint8:
            raise ValueError(f'image is {image.shape} {image.dtype}, this segmenter takes '
                             f'{(*self.camera_size, 3)} uint8')
        np.copyto(self._host_image_array, image)

    def copy_in(self):
        """Enqueue the copy of the frame to the CUDA device."""
        self._image.copy_(self._host_image, non_blocking=True)

    def preprocess(self) -> torch.Tensor:
        """Return the network's input: (h, w, 3) of network_size, scaled and normalised."""
        if self._source is not self._image:
            self._source.copy_(self._image)
        self._resize(self._source, self._small)
        rows = self._normalised.view(self.network_size[0], -1)
        # Only copies convert dtypes: arithmetic that converts them would allocate.
        rows.copy_(self._small.view(rows.shape)).mul_(self._scale).sub_(self._shift)
        return self._input.copy_(self._normalised)

    def postprocess(self, logits: torch.Tensor, outputs: tuple[str, ...]):
        """Turn logits (num_classes, h, w) into the outputs, on the device."""
        self._classify(logits)
        for name in self._counters:
            if name in outputs:
                self._count(name)
        if 'label_map' in outputs:
            self._spread(self._label, self._outputs['label_map'])
        if 'confidence' in outputs:
            self._spread(self._probability, self._outputs['confidence'])
        if 'color_mask' in outputs or 'overlay' in outputs:
            self._paint()
        if 'overlay' in outputs:
            self._overlay()

    def copy_back(self, outputs: tuple[str, ...]):
        """Compute the outputs that no graph has, and enqueue all copies from the CUDA device."""
        for name in outputs:
            if name not in OUTPUTS:
                self._count(name)
            self._hosts[name].copy_(self._outputs[name], non_blocking=True)

    def results(self, outputs: tuple[str, ...]) -> Segmentation:
        """Return views of the outputs on the host."""
        found: dict[str, Any] = {
            name: self._statistics(name) if name in self._counters else self._arrays[name]
            for name in outputs}
        return Segmentation(**found)

    def _stages(self, outputs: tuple[str, ...] = OUTPUTS) -> torch.Tensor:
        logits = self.network(self.preprocess().permute(2, 0, 1)[None])
        self.postprocess(logits[0], outputs)
        return logits

    def _resize(self, source: torch.Tensor, target: torch.Tensor):
        if source.shape == target.shape:
            target.copy_(source)
        else:
            torch.ops.aten._upsample_bilinear2d_aa.out(
                source.permute(2, 0, 1)[None], target.shape[:2], False, None, None,
                out=target.permute(2, 0, 1)[None])

    def _classify(self, logits: torch.Tensor):
        """Compute the label (the arg max of the logits) and its confidence (the softmax there)."""
        self._logits.copy_(logits)
        torch.amax(self._logits, 0, out=self._best)
        self._logits.sub_(self._best).exp_()
        torch.sum(self._logits, 0, out=self._sum)
        # The maximum is now 1; truncated to integers, all else is 0. Of the codes 255 - id at
        # those places, the greatest belongs to the first of equal maxima. torch.max gives it too,
        # in three times the time on a CPU.
        self._is_best.copy_(self._logits)
        torch.amax(self._is_best.mul_(self._codes), 0, out=self._label)
        self._label.bitwise_not_()
        torch.lt(self._sum.reciprocal_(), self._threshold, out=self._unsure)
        # VOID has all bits set: an OR sets it, many times faster than masked_fill_ on a CPU.
        torch.mul(self._unsure.view(torch.uint8), VOID, out=self._void)
        self._label.bitwise_or_(self._void)
        self._probability.copy_(self._sum.mul_(255).round_())

    def _count(self, name: str):
        self._counters[name].count(self._label, self._probability)

    def _widen(self, source: torch.Tensor):
        """Repeat (or skip) columns of an (h, w) uint8 map to the output's width."""
        # On a CPU ten times as fast as index_select, which copies column by column.
        torch.gather(source, 1, self._column_indices, out=self._wide_label)

    def _spread(self, source: torch.Tensor, target: torch.Tensor):
        """Repeat (or skip) columns, then rows, of an (h, w) uint8 map to the output size."""
        self._widen(source)
        torch.index_select(self._wide_label, 0, self._rows, out=target)

    def _paint(self):
        self._widen(self._label)
        self._wide_index.copy_(self._wide_label)
        torch.index_select(self._palette, 0, self._wide_index.view(-1), out=self._wide_color)
        rows = self._wide_color.view(self.network_size[0], -1)
        target = self._outputs['color_mask'].view(self.output_size[0], -1)
        torch.index_select(rows, 0, self._rows, out=target)

    def _overlay(self):
        if self._under_own:
            self._resize(self._source, self._under)
        if self._under.is_floating_point():  # conversion to int16 truncates
            self._under.round_()  # even if it is the network's input, which is no longer needed
        self._blend.copy_(self._under).mul_(self._alphas[0])
        self._blend_mask.copy_(self._outputs['color_mask']).mul_(self._alphas[1])
        self._blend.add_(self._blend_mask).bitwise_right_shift_(7)
        self._outputs['overlay'].copy_(self._blend)

    def _statistics(self, name: str) -> ClassStatistics:
        return self._counters[name].statistics(self._arrays[name])
