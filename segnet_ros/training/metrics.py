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

"""Segmentation scores from a confusion matrix, as the SegNet paper defines them."""

import numpy as np


def scores(confusion: np.ndarray) -> dict:
    """
    Return global_accuracy, class_average_accuracy, miou and per_class_iou.

    :param confusion: (C, C) counts, rows the true class, columns the predicted one; void pixels
        not counted. A class that is neither in the truth nor predicted has no score (nan) and is
        left out of the means; one that the truth lacks has no accuracy.
    """
    confusion = np.asarray(confusion, np.float64)
    hits = np.diag(confusion)
    truth, predicted = confusion.sum(1), confusion.sum(0)
    with np.errstate(divide='ignore', invalid='ignore'):
        iou = hits / (truth + predicted - hits)
        accuracy = hits / truth
    return {
        'miou': float(np.nanmean(iou)),
        'global_accuracy': float(hits.sum() / max(1, truth.sum())),
        'class_average_accuracy': float(np.nanmean(accuracy)),
        'per_class_iou': iou.tolist(),
    }
