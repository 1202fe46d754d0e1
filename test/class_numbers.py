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

"""Statistics for tests: of a label map or a region of it, and those in a DiagnosticStatus."""

import numpy as np
import torch

from segnet_ros.class_counter import ClassCounter
from segnet_ros.segmentation import region_window


def statistics_of(label_map, num_classes, region=(0.0, 0.0, 1.0, 1.0), confidence=None):
    """Return the statistics of a map at the output's size; confidence is 255 by default."""
    if confidence is None:
        confidence = np.full(label_map.shape, 255, np.uint8)
    rows, columns = map(np.arange, label_map.shape)
    counter = ClassCounter(num_classes, rows, columns, label_map.shape, torch.device('cpu'))
    counter.set_window(*region_window(region, label_map.shape))
    counter.count(torch.from_numpy(label_map), torch.from_numpy(confidence))
    return counter.statistics(counter.counts.numpy())


def values_of(status) -> dict[str, str]:
    """Return what a DiagnosticStatus holds."""
    return {value.key: value.value for value in status.values}
