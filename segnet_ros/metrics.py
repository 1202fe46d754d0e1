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
Segmentation scores, as the SegNet paper defines them, from counts and label maps.

Works on NumPy arrays only; knows nothing of networks, files or how frames are read.
"""

import math

import cv2
import numpy as np

from segnet_ros.labels import VOID

# Share of the image diagonal that a boundary may be off (Csurka et al. 2013; SegNet paper, 4.1).
BOUNDARY_TOLERANCE = 0.0075


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
        'miou': mean_of_known(iou),
        'global_accuracy': float(hits.sum() / max(1, truth.sum())),
        'class_average_accuracy': mean_of_known(accuracy),
        'per_class_iou': iou.tolist(),
    }


def confusion_matrix(truth: np.ndarray, prediction: np.ndarray, num_classes: int) -> np.ndarray:
    """
    Return the counts of one label map, (C, C) int64: rows the true class, columns the predicted.

    :param truth: uint8 class ids; its void pixels are not counted.
    :param prediction: uint8 class ids of the same shape; void where nothing was predicted, which
        counts neither as right nor as wrong.
    """
    known = (truth < num_classes) & (prediction < num_classes)
    pairs = truth[known].astype(np.intp) * num_classes + prediction[known]
    return np.bincount(pairs, minlength=num_classes ** 2).reshape(num_classes, num_classes)


def mean_of_known(values: np.ndarray) -> float:
    """Return the mean of the values that are not nan; nan if all are."""
    known = values[~np.isnan(values)]
    return float(known.mean()) if known.size else float('nan')


def boundary_f1(truth: np.ndarray, prediction: np.ndarray, num_classes: int,
                tolerance: float = BOUNDARY_TOLERANCE) -> float:
    """
    Return one image's boundary F1 (BF): the mean over the classes with a boundary in its truth.

    For each class, precision is the share of its predicted boundary that lies within the tolerance
    of its true boundary, recall the share of the true one within the tolerance of the predicted;
    F1 is their harmonic mean, 0 for a class that is not predicted (Csurka, Larlus, Perronnin,
    BMVC 2013). A boundary is where two classes meet; edges of the image or of void do not count.

    :param truth, prediction: (H, W) uint8 label maps; where truth is VOID, prediction is ignored.
    :param tolerance: share of the image diagonal.
    :return: nan if no class of the truth has a boundary.
    """
    prediction = np.where(truth == VOID, VOID, prediction)
    true_edge, predicted_edge = _edges(truth), _edges(prediction)
    reach = tolerance * math.hypot(*truth.shape)
    found = []
    for class_id in range(num_classes):
        wanted = true_edge & (truth == class_id)
        if wanted.any():
            got = predicted_edge & (prediction == class_id)
            found.append(_f1(_share_near(got, wanted, reach), _share_near(wanted, got, reach)))
    return float(np.mean(found)) if found else float('nan')


def _edges(label_map: np.ndarray) -> np.ndarray:
    """Return a mask of the pixels with a side neighbour of another class; void is not a class."""
    edges = np.zeros(label_map.shape, bool)
    for edge, labels in ((edges, label_map), (edges.T, label_map.T)):
        below, above = labels[1:], labels[:-1]
        differ = (below != above) & (below != VOID) & (above != VOID)
        edge[1:] |= differ
        edge[:-1] |= differ
    return edges


def _share_near(boundary: np.ndarray, other: np.ndarray, reach: float) -> float:
    """Return the share of the boundary's pixels that lie within `reach` pixels of the other."""
    if not boundary.any() or not other.any():
        return 0.0
    distance = cv2.distanceTransform((~other).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    return float((distance[boundary] <= reach).mean())


def _f1(precision: float, recall: float) -> float:
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


def calibration_error(counts: np.ndarray, correct: np.ndarray, bins: int = 15) -> float:
    """
    Return the expected calibration error of a confidence image (Guo et al., arXiv 1706.04599).

    The mean over all pixels of |accuracy - mean confidence| of the pixel's bin.

    :param counts: (256,) pixels of each confidence level; level k stands for k / 255.
    :param correct: (256,) those of them whose class is right.
    """
    levels = np.arange(256)
    # In integers, since every 17th level lies on the edge of one of 15 bins.
    place = np.minimum(levels * bins // 255, bins - 1)
    hits = np.bincount(place, correct, bins)
    confidence = np.bincount(place, counts * levels / 255, bins)
    return float(np.abs(hits - confidence).sum() / max(1, counts.sum()))


def without_nan(value):
    """Return the scores with None for nan, which JSON does not have."""
    if isinstance(value, dict):
        return {key: without_nan(item) for key, item in value.items()}
    return None if isinstance(value, float) and np.isnan(value) else value
