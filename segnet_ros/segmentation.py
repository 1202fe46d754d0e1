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

"""The segmenter's output: the arrays of one frame and the statistics of its classes."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

# Name under which it is published and written -> (array, its encoding in ROS).
PICTURES = {'mask': ('label_map', 'mono8'), 'confidence': ('confidence', 'mono8'),
            'color_mask': ('color_mask', 'rgb8'), 'overlay': ('overlay', 'rgb8')}


@dataclass(frozen=True)
class ClassStatistics:
    """
    Per-class numbers of one label map, indexed by class id; sizes and positions in output pixels.

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

    @cached_property
    def fractions(self) -> np.ndarray:
        """Return each class's share of all pixels, void included, (C,) float64."""
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

    def statuses(self, class_names: Sequence[str], title: str, alerts: Mapping[str, float]
                 ) -> Iterator[tuple[bool, str, str, dict[str, str]]]:
        """
        Yield the contents of a diagnostic_msgs/DiagnosticStatus for each class, in id order.

        :param title: precedes the class in the status's name, e.g. 'segnet/front'.
        :param alerts: by class name, the fraction above which a status is a warning.
        :return: whether it is a warning, its name, message and `values`.
        """
        for class_id, name in enumerate(class_names):
            fraction = float(self.fractions[class_id])
            alert = fraction > alerts.get(name, 1.0)
            message = f'{100 * fraction:.2f} %'
            if alert:
                message += f' is above {100 * alerts[name]:g} %'
            yield alert, f'{title}: {name}', message, self.values(class_id)


@dataclass(frozen=True)
class Segmentation:
    """
    One frame's results: views of the segmenter's buffers, valid until its next frame.

    Outputs that were not requested are None.

    :param label_map: (H, W) uint8 class ids, 255 for void.
    :param confidence: (H, W) uint8, round(255 * the largest softmax probability).
    :param color_mask: (H, W, 3) uint8 RGB, each class in its palette colour.
    :param overlay: (H, W, 3) uint8 RGB, the colour mask blended over the image.
    :param region_statistics: for the segmenter's region; positions are in the whole picture.
    """

    label_map: np.ndarray | None = None
    confidence: np.ndarray | None = None
    color_mask: np.ndarray | None = None
    overlay: np.ndarray | None = None
    statistics: ClassStatistics | None = None
    region_statistics: ClassStatistics | None = None


def region_window(region: tuple[float, float, float, float],
                  size: tuple[int, int]) -> tuple[int, int, int, int]:
    """
    Return the rows and columns of a region as top, left, bottom, right, the last two exclusive.

    :param region: x, y, width, height as shares of the picture; at least one pixel is taken.
    :param size: (height, width) in pixels.
    """
    height, width = size
    left = min(_edge(region[0], width), width - 1)
    top = min(_edge(region[1], height), height - 1)
    return (top, left, max(top + 1, _edge(region[1] + region[3], height)),
            max(left + 1, _edge(region[0] + region[2], width)))


def _edge(share: float, size: int) -> int:
    """Return the pixel where one region ends and the next begins, despite rounding in sums."""
    return round(share * size - 1e-6)
