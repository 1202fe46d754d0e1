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

"""Check the scores against worked examples and against torchmetrics."""

import math

import numpy as np
import pytest
import torch
from torchmetrics.classification import (
    BinaryCalibrationError, MulticlassAccuracy, MulticlassConfusionMatrix, MulticlassJaccardIndex)

from segnet_ros.labels import VOID
from segnet_ros.metrics import (
    boundary_f1, calibration_error, confusion_matrix, scores, without_nan)

# Worked by hand. Class 0 has 7 labelled pixels, 5 of them found; class 1 has 6, 4 found; 3 void.
TRUTH = np.array([[0, 0, 1, 1],
                  [0, 0, 1, 1],
                  [0, 0, 1, VOID],
                  [0, VOID, 1, VOID]], np.uint8)
PREDICTION = np.array([[0, 0, 1, 1],
                       [0, 1, 1, 1],
                       [0, 0, 0, 0],
                       [1, 1, 0, 0]], np.uint8)


def confusion_of(truth, prediction, classes):
    metric = MulticlassConfusionMatrix(classes, ignore_index=VOID)
    return metric(torch.from_numpy(prediction), torch.from_numpy(truth)).numpy()


def test_hand_worked_example():
    confusion = confusion_of(TRUTH, PREDICTION, 2)
    assert confusion.tolist() == [[5, 2], [2, 4]]
    result = scores(confusion)
    assert result['per_class_iou'] == [pytest.approx(5 / 9), pytest.approx(4 / 8)]
    assert result['miou'] == pytest.approx((5 / 9 + 1 / 2) / 2)
    assert result['global_accuracy'] == pytest.approx(9 / 13)
    assert result['class_average_accuracy'] == pytest.approx((5 / 7 + 4 / 6) / 2)


def test_class_in_neither_is_left_out_of_the_means():
    result = scores(confusion_of(TRUTH, PREDICTION, 4))
    two = scores(confusion_of(TRUTH, PREDICTION, 2))
    assert result['miou'] == two['miou']
    assert result['class_average_accuracy'] == two['class_average_accuracy']
    assert math.isnan(result['per_class_iou'][2]) and math.isnan(result['per_class_iou'][3])


def test_class_that_is_only_predicted_has_iou_0_and_no_accuracy():
    prediction = PREDICTION.copy()
    prediction[0, 0] = 2
    result = scores(confusion_of(TRUTH, prediction, 3))
    assert result['per_class_iou'] == [pytest.approx(4 / 9), pytest.approx(1 / 2), 0.0]
    assert result['miou'] == pytest.approx((4 / 9 + 1 / 2) / 3)
    assert result['class_average_accuracy'] == pytest.approx((4 / 7 + 4 / 6) / 2)


def test_nothing_labelled_has_no_score():
    result = scores(np.zeros((3, 3)))
    assert math.isnan(result['miou']) and math.isnan(result['class_average_accuracy'])
    assert result['global_accuracy'] == 0.0


@pytest.mark.parametrize('seed', range(3))
def test_agrees_with_torchmetrics(seed):
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, 6, (3, 40, 50)).astype(np.uint8)
    prediction = np.where(rng.random(truth.shape) < 0.6, truth, rng.integers(0, 6, truth.shape))
    truth[rng.random(truth.shape) < 0.1] = VOID
    result = scores(confusion_of(truth, prediction, 6))
    pair = torch.from_numpy(prediction).long(), torch.from_numpy(truth).long()
    for key, metric in (
            ('miou', MulticlassJaccardIndex(6, ignore_index=VOID)),
            ('per_class_iou', MulticlassJaccardIndex(6, average=None, ignore_index=VOID)),
            ('global_accuracy', MulticlassAccuracy(6, average='micro', ignore_index=VOID)),
            ('class_average_accuracy', MulticlassAccuracy(6, ignore_index=VOID))):
        np.testing.assert_allclose(result[key], metric(*pair).numpy(), rtol=1e-5, err_msg=key)


def square(top, left, side=30, shape=(120, 160)):
    label_map = np.zeros(shape, np.uint8)
    label_map[top:top + side, left:left + side] = 1
    return label_map


def test_boundary_is_found_where_it_is():
    assert boundary_f1(square(40, 50), square(40, 50), 2) == 1.0


def test_boundary_shifted_within_the_tolerance():
    # The diagonal is 200 pixels: 1.5 pixels at the paper's 0.75%.
    assert boundary_f1(square(40, 50), square(40, 51), 2) == 1.0
    assert boundary_f1(square(40, 50), square(41, 51), 2) == 1.0  # corners are off by 1.41
    assert boundary_f1(square(40, 50), square(41, 51), 2, tolerance=1.4 / 200) < 1.0
    assert boundary_f1(square(40, 50), square(40, 52), 2, tolerance=2 / 200) == 1.0
    # Five times as large: 7.5 pixels.
    large = [square(200, 250 + right, 150, (600, 800)) for right in (0, 7, 8)]
    assert boundary_f1(large[0], large[1], 2) == 1.0 > boundary_f1(large[0], large[2], 2)


def test_boundary_shifted_beyond_the_tolerance():
    # Shifted by 10 to the right. The square's own edge has 4 * 29 pixels. Of its top, 20 pixels
    # lie on the other's top and the one before them is 1 pixel away; likewise at the bottom. Of
    # its right side, the top and bottom pixels are next to the other's top and bottom.
    square_near = (2 * (20 + 1) + 2) / 116
    # Around it, the other class has 4 * 30 pixels of edge. Above, 20 lie on the other's and the
    # two before them within 1.5 pixels of its left side or top; likewise below; right as before.
    around_near = (2 * (20 + 2) + 2) / 120
    assert boundary_f1(square(40, 50), square(40, 60), 2) == pytest.approx(
        (square_near + around_near) / 2)


def test_boundary_far_away_counts_nothing():
    assert boundary_f1(square(10, 10), square(80, 110), 2) == 0.0


def test_boundary_precision_and_recall_differ():
    # The prediction has a second square that is not there: recall 1, precision 1/2 for both
    # classes.
    prediction = square(10, 10) | square(80, 110)
    assert boundary_f1(square(10, 10), prediction, 2) == pytest.approx(2 / 3)


def test_boundary_tolerance_is_a_share_of_the_diagonal():
    truth, prediction = square(40, 50), square(40, 56)
    assert boundary_f1(truth, prediction, 2) < 0.95
    assert boundary_f1(truth, prediction, 2, tolerance=6.1 / 200) == 1.0


def test_boundary_of_a_class_that_is_not_predicted_is_0():
    truth = square(10, 10)
    truth[80:110, 110:140] = 2
    prediction = np.where(truth == 2, 0, truth)
    # Class 1 is whole, class 2 missing; class 0 lacks half of its edge: recall 1/2, precision 1.
    assert boundary_f1(truth, prediction, 3) == pytest.approx((1 + 0 + 2 / 3) / 3)


def test_boundary_of_absent_classes_does_not_count():
    truth = square(40, 50)
    prediction = truth.copy()
    prediction[0, 0] = 2
    assert boundary_f1(truth, prediction, 5) > 0.95


def test_boundary_ignores_void():
    truth = square(40, 50)
    truth[:, 100:] = VOID
    prediction = square(40, 50)
    prediction[:, 100:] = 1
    assert boundary_f1(truth, prediction, 2) == 1.0
    assert math.isnan(boundary_f1(np.full((20, 20), VOID, np.uint8), square(0, 0, 5, (20, 20)), 2))


def test_boundary_with_void_is_none():
    # If the edges of void counted as boundaries, these would be found: both maps have them.
    truth = square(10, 10)
    truth[:, 60:70] = VOID
    assert boundary_f1(truth, square(80, 110), 2) == 0.0


def test_one_class_everywhere_has_no_boundary():
    assert math.isnan(boundary_f1(np.zeros((20, 20), np.uint8), np.zeros((20, 20), np.uint8), 2))


def test_calibration_hand_worked():
    counts, correct = np.zeros(256), np.zeros(256)
    counts[51], correct[51] = 10, 4  # confidence 0.2, accuracy 0.4
    counts[204], correct[204] = 30, 24  # confidence 0.8, accuracy 0.8
    assert calibration_error(counts, correct) == pytest.approx(10 / 40 * 0.2)


def test_certain_pixels_share_the_last_bin():
    counts, correct = np.zeros(256), np.zeros(256)
    counts[[250, 255]], correct[[250, 255]] = 255, (255, 250)
    # Overconfident at 255 by 5/255, underconfident at 250 by 5/255: in one bin they cancel.
    assert calibration_error(counts, correct) == pytest.approx(0, abs=1e-12)


def test_a_level_on_an_edge_is_in_the_bin_above():
    counts, correct = np.zeros(256), np.zeros(256)
    counts[[17, 18]], correct[[17, 18]] = 255, (22, 13)
    assert calibration_error(counts, correct) == pytest.approx(0, abs=1e-12)


def test_calibration_agrees_with_torchmetrics():
    rng = np.random.default_rng(0)
    # torchmetrics rounds at bin edges and has a separate bin for confidence 1: avoid both.
    levels = np.array([k for k in range(256) if k % 17])
    confidence = rng.choice(levels, 20000)
    right = rng.random(20000) < (confidence / 255) ** 2
    counts = np.bincount(confidence, minlength=256)
    correct = np.bincount(confidence[right], minlength=256)
    expected = BinaryCalibrationError(15)(torch.from_numpy(confidence / 255).float(),
                                          torch.from_numpy(right).int())
    assert calibration_error(counts, correct) == pytest.approx(float(expected), abs=1e-5)
    assert calibration_error(counts, correct) > 0.05


def test_without_nan():
    assert without_nan({'a': float('nan'), 'b': {'c': 0.5, 'd': float('nan')}, 'e': [1]}) == {
        'a': None, 'b': {'c': 0.5, 'd': None}, 'e': [1]}


@pytest.mark.parametrize('seed', range(3))
def test_confusion_agrees_with_torchmetrics(seed):
    rng = np.random.default_rng(seed)
    truth, prediction = rng.integers(0, 5, (2, 30, 40)).astype(np.uint8)
    truth[rng.random(truth.shape) < 0.1] = VOID
    found = confusion_matrix(truth, prediction, 5)
    assert found.dtype == np.int64
    assert (found == confusion_of(truth, prediction, 5)).all()
    # Pixels without a prediction are not counted.
    prediction[:10] = VOID
    assert (confusion_matrix(truth, prediction, 5)
            == confusion_of(truth[10:], prediction[10:], 5)).all()
