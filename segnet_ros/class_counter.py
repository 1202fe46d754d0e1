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

"""ClassCounter: adds up per-class numbers on the device, in buffers allocated once."""

import numpy as np
import torch

from segnet_ros.segmentation import ClassStatistics


class ClassCounter:
    """
    Counts the classes of the output, or of a window of it, from the network's smaller label map.

    The output repeats (or skips) whole rows and columns of that map, so its statistics follow
    exactly. Each class, and void, has a bin for each row, one for each column, and one for its
    confidence. A scatter-add fills them, since bincount cannot be captured in a CUDA graph.

    :param num_classes: number of classes, void excluded.
    :param rows: (output height,) int64, the network row shown in each output row.
    :param columns: (output width,) int64 likewise.
    :param network_size: (height, width) of the network's label map.
    """

    def __init__(self, num_classes: int, rows: np.ndarray, columns: np.ndarray,
                 network_size: tuple[int, int], device: torch.device):
        height, width = network_size
        self._num_classes = num_classes
        self._rows, self._columns = rows, columns
        bins = num_classes + 1
        self._split = (bins * height, bins * width, bins)
        self._by_row, self._by_column, self._by_pixel = (
            torch.zeros(network_size, dtype=torch.int64, device=device) for _ in range(3))
        self._row_of = torch.arange(height, device=device)[:, None].expand(height, width)
        self._column_of = torch.arange(width, device=device).expand(height, width)
        self._bins, self._index, self._share = torch.zeros(
            (3, *network_size), dtype=torch.int64, device=device)
        self.counts = torch.zeros(sum(self._split), dtype=torch.int64, device=device)
        self.set_window(0, 0, len(rows), len(columns))

    def set_window(self, top: int, left: int, bottom: int, right: int):
        """Count only these rows and columns of the output; bottom and right are exclusive."""
        height, width = self._bins.shape
        self._place = left, top
        # How often each network row and column occurs in the window.
        self._row_weights = np.bincount(self._rows[top:bottom], minlength=height)
        self._column_weights = np.bincount(self._columns[left:right], minlength=width)
        # In place: a CUDA graph reads these buffers.
        self._by_row.copy_(torch.from_numpy(self._column_weights))
        self._by_column.copy_(torch.from_numpy(self._row_weights)[:, None])
        torch.mul(self._by_row, self._by_column, out=self._by_pixel)

    def count(self, label: torch.Tensor, confidence: torch.Tensor):
        """
        Fill `counts` with the profiles and confidences of the classes that statistics() reads.

        :param label: (h, w) uint8 class ids of the network, VOID for none.
        :param confidence: (h, w) uint8, 255 for certainty.
        """
        height, width = label.shape
        self.counts.zero_()
        rows, columns, sums = self.counts.split(self._split)
        self._bins.copy_(label).clamp_(max=self._num_classes)
        torch.mul(self._bins, height, out=self._index).add_(self._row_of)
        rows.scatter_add_(0, self._index.view(-1), self._by_row.view(-1))
        torch.mul(self._bins, width, out=self._index).add_(self._column_of)
        columns.scatter_add_(0, self._index.view(-1), self._by_column.view(-1))
        self._share.copy_(confidence).mul_(self._by_pixel)
        sums.scatter_add_(0, self._bins.view(-1), self._share.view(-1))

    def statistics(self, counts: np.ndarray) -> ClassStatistics:
        """Return the statistics from `counts`, or from a host copy of it."""
        rows, columns, sums = np.split(counts, np.cumsum(self._split)[:-1])
        # Output pixels of each class (void last) in each network row, if that row occurred once
        # in the output; columns likewise.
        rows, columns = (part.reshape(self._num_classes + 1, -1) for part in (rows, columns))
        pixels = rows @ self._row_weights
        present = np.maximum(pixels, 1)
        y, height, center_y = _extent(rows, self._row_weights, present)
        x, width, center_x = _extent(columns, self._column_weights, present)
        occupied = pixels[:, None] > 0
        boxes = np.stack([x, y, width, height], 1) + occupied * (*self._place, 0, 0)
        centroids = np.where(occupied, np.stack([center_x, center_y], 1) + self._place, np.nan)
        return ClassStatistics(
            pixel_counts=pixels[:-1], void_count=int(pixels[-1]),
            mean_confidence=(sums / (255.0 * present))[:-1],
            bounding_boxes=boxes[:-1], centroids=centroids[:-1])


def _extent(profile: np.ndarray, weights: np.ndarray, counts: np.ndarray):
    """Return start, length and mean position of each class along one axis, in output pixels."""
    ends = np.cumsum(weights)
    starts = ends - weights
    occupied = (profile > 0) & (weights > 0)
    any_occupied = occupied.any(1)
    first = starts[occupied.argmax(1)]
    last = ends[occupied.shape[1] - 1 - occupied[:, ::-1].argmax(1)]
    middles = (starts + ends - 1) / 2
    mean = (profile * weights) @ middles / counts
    return first * any_occupied, (last - first) * any_occupied, mean
