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

"""What comes out of the segmenter: the arrays of one frame and the statistics of its classes."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class ClassStatistics:
    """
    Per-class numbers of one label map; index is the class id, sizes and places in output pixels.

    :param pixel_counts: (C,) int64.
    :param void_count: pixels of no class (confidence below the threshold).
    :param mean_confidence: (C,) float64 in [0, 1]; 0 for a class without pixels.
    :param bounding_boxes: (C, 4) int64 x, y, width, height; zeros for a class without pixels.
    :param centroids: (C, 2) float64 x, y of pixel centres; nan for a class without pixels.
    """

    pixel_counts: np.ndarray
    void_count: int
    mean_confidence: np.ndarray
    bounding_boxes: np.ndarray
    centroids: np.ndarray

    @property
    def fractions(self) -> np.ndarray:
        """Return each class's share of all pixels, void ones among them, (C,) float64."""
        return self.pixel_counts / (self.pixel_counts.sum() + self.void_count)

    def values(self, class_id: int) -> dict[str, str]:
        """
        Return one class's numbers as the `statistics` topic spells them.

        Keys: class_id, pixel_count, fraction (of all pixels), mean_confidence (0 to 1),
        bounding_box 'x y width height' and centroid 'x y' in pixels, both empty for a class
        without pixels.
        """
        count = int(self.pixel_counts[class_id])
        return {
            'class_id': str(class_id), 'pixel_count': str(count),
            'fraction': f'{self.fractions[class_id]:.6f}',
            'mean_confidence': f'{self.mean_confidence[class_id]:.4f}',
            'bounding_box': ' '.join(map(str, self.bounding_boxes[class_id])) if count else '',
            'centroid': '{:.1f} {:.1f}'.format(*self.centroids[class_id]) if count else '',
        }


@dataclass(frozen=True)
class Segmentation:
    """
    One frame's results: views of the segmenter's buffers, valid until its next frame.

    What was not asked for is None.

    :param label_map: (H, W) uint8 class ids, 255 for void.
    :param confidence: (H, W) uint8, round(255 * the largest softmax probability).
    :param color_mask: (H, W, 3) uint8 RGB, each class in its palette colour.
    :param overlay: (H, W, 3) uint8 RGB, the colour mask blended over the image.
    :param region_statistics: those of the segmenter's region; places are the whole picture's.
    """

    label_map: np.ndarray | None = None
    confidence: np.ndarray | None = None
    color_mask: np.ndarray | None = None
    overlay: np.ndarray | None = None
    statistics: ClassStatistics | None = None
    region_statistics: ClassStatistics | None = None


def class_statistics(rows: np.ndarray, columns: np.ndarray, confidence_sums: np.ndarray,
                     row_weights: np.ndarray, column_weights: np.ndarray,
                     place: tuple[int, int]) -> ClassStatistics:
    """
    Return the statistics of the output label map from the profiles of the network's label map.

    The output repeats (or skips) whole rows and columns of the network's label map, so its
    statistics follow exactly from how often each row and column stands in it.

    :param rows: (C + 1, h) output pixels of each class (last: void) in each network row, had the
        row stood once in the output.
    :param columns: (C + 1, w) likewise for columns.
    :param confidence_sums: (C + 1,) sum of the confidence (0 to 255) over output pixels.
    :param row_weights: (h,) how often each network row stands in the output.
    :param column_weights: (w,) likewise for columns.
    :param place: x, y in the output of the first row and column that the weights are of.
    """
    counts = rows @ row_weights
    present = np.maximum(counts, 1)
    y, height, center_y = _extent(rows, row_weights, present)
    x, width, center_x = _extent(columns, column_weights, present)
    occupied = counts[:, None] > 0
    boxes = np.stack([x, y, width, height], 1) + occupied * (*place, 0, 0)
    centroids = np.where(occupied, np.stack([center_x, center_y], 1) + place, np.nan)
    return ClassStatistics(
        pixel_counts=counts[:-1], void_count=int(counts[-1]),
        mean_confidence=(confidence_sums / (255.0 * present))[:-1],
        bounding_boxes=boxes[:-1], centroids=centroids[:-1])


def _extent(profile: np.ndarray, weights: np.ndarray, counts: np.ndarray):
    """Return start, length and mean place of each class along one axis, in output pixels."""
    ends = np.cumsum(weights)
    starts = ends - weights
    occupied = (profile > 0) & (weights > 0)
    any_occupied = occupied.any(1)
    first = starts[occupied.argmax(1)]
    last = ends[occupied.shape[1] - 1 - occupied[:, ::-1].argmax(1)]
    middles = (starts + ends - 1) / 2
    mean = (profile * weights) @ middles / counts
    return first * any_occupied, (last - first) * any_occupied, mean


def region_window(region: tuple[float, float, float, float],
                  size: tuple[int, int]) -> tuple[int, int, int, int]:
    """
    Return the rows and columns of a region as top, left, bottom, right; the last two are outside.

    :param region: x, y, width, height as shares of the picture; at least one pixel is taken.
    :param size: (height, width) in pixels.
    """
    height, width = size
    left = min(_edge(region[0], width), width - 1)
    top = min(_edge(region[1], height), height - 1)
    return (top, left, max(top + 1, _edge(region[1] + region[3], height)),
            max(left + 1, _edge(region[0] + region[2], width)))


def _edge(share: float, size: int) -> int:
    """Return the pixel at which one region ends and the next begins, sums or not."""
    return round(share * size - 1e-6)
