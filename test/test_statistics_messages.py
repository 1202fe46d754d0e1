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

"""Check the class statistics as planners read them, against values worked out by hand."""

import class_numbers
from class_numbers import values_of
from diagnostic_msgs.msg import DiagnosticStatus
import numpy as np
import pytest

from segnet_ros.labels import LabelSet, VOID
from segnet_ros.ros.statistics import class_statuses, fractions_message
from segnet_ros.segmentation import region_window

LABELS = LabelSet('toy', ('road', 'car', 'sky'), ((1, 1, 1), (2, 2, 2), (3, 3, 3)))
MASK = np.array([[0, 0, 1, 1, 1, VOID],
                 [0, 0, 1, 1, 1, VOID],
                 [0, 0, 0, 0, 0, 0],
                 [0, 0, 0, 0, 0, VOID]], np.uint8)
# A wider mask, for a region: its right half without the first row.
LARGE = np.array([[0, 0, 0, 0, 0, 0, 0, 0],
                  [0, 0, 0, 0, 0, 0, 0, 0],
                  [0, 1, 1, 1, 1, 1, 1, 0],
                  [0, 0, 0, 0, 1, 1, 1, 0]], np.uint8)
REGION = (0.5, 0.25, 0.5, 0.75)


def statistics_of(mask, *args, **kwargs):
    return class_numbers.statistics_of(mask, len(LABELS), *args, **kwargs)


def test_every_number_of_a_class():
    confidence = np.where(MASK == 1, 204, 255).astype(np.uint8)
    confidence[0, 2] = 51  # in the car, whose mean is (5 * 204 + 51) / 6 = 178.5; / 255 = 0.7
    statuses = class_statuses(statistics_of(MASK, confidence=confidence), LABELS, {}, 'segnet')
    road, car, sky = map(values_of, statuses)
    assert car == {'class_id': '1', 'pixel_count': '6', 'fraction': '0.250000',
                   'mean_confidence': '0.7000', 'bounding_box': '2 0 3 2', 'centroid': '3.0 0.5'}
    # x: (2 * (0 + 1) + 15 + 10) / 15; y: (0 + 2 * 1 + 6 * 2 + 5 * 3) / 15.
    assert road == {'class_id': '0', 'pixel_count': '15', 'fraction': '0.625000',
                    'mean_confidence': '1.0000', 'bounding_box': '0 0 6 4', 'centroid': '1.8 1.9'}
    assert sky == {'class_id': '2', 'pixel_count': '0', 'fraction': '0.000000',
                   'mean_confidence': '0.0000', 'bounding_box': '', 'centroid': ''}


def test_places_in_a_region_are_the_whole_picture_s():
    statuses = class_statuses(statistics_of(LARGE, REGION), LABELS, {}, 'segnet/roi')
    road, car, sky = map(values_of, statuses)
    assert car == {'class_id': '1', 'pixel_count': '6', 'fraction': '0.500000',
                   'mean_confidence': '1.0000', 'bounding_box': '4 2 3 2', 'centroid': '5.0 2.5'}
    # The row above the car, and the column to its right.
    assert (road['pixel_count'], road['bounding_box']) == ('6', '4 1 4 3')
    assert sky['pixel_count'] == '0' and sky['bounding_box'] == sky['centroid'] == ''


@pytest.mark.parametrize('width', [100, 640, 645, 1280])
def test_regions_that_meet_share_no_pixel_and_lose_none(width):
    mask = np.zeros((1, width), np.uint8)
    for share in np.arange(1, 100) / 100:
        # In floats 0.02 + 0.68 is above 0.7, and 0.7 * 645 is half-way between two pixels.
        first, second = ((0, share), (share, 1 - share)) if share < 0.1 else (
            (0.02, share - 0.02), (share, 1 - share))
        left, right = (int(statistics_of(mask, (x, 0, w, 1)).pixel_counts[0])
                       for x, w in (first, second))
        assert left + right == width - round(first[0] * width - 1e-6), share


@pytest.mark.parametrize('width', [50, 250, 350, 480])
def test_regions_side_by_side_share_no_pixel_and_leave_none_out(width):
    for edge in range(10, 100):
        for left in range(edge - 5):
            *_, end = region_window((left / 100, 0, (edge - left) / 100, 1), (10, width))
            assert end == region_window((edge / 100, 0, (100 - edge) / 100, 1), (10, width))[1]


def test_a_region_is_never_empty():
    assert statistics_of(LARGE, (0.999, 0.999, 0.001, 0.001)).pixel_counts.sum() == 1
    car = statistics_of(LARGE, (0.8, 0.8, 0.001, 0.001)).values(1)  # the pixel (6, 3)
    assert (car['pixel_count'], car['bounding_box']) == ('1', '6 3 1 1')
    assert car['centroid'] == '6.0 3.0'


@pytest.mark.parametrize(('alert', 'level', 'message'), [
    (0.2, DiagnosticStatus.WARN, '25.00 % is above 20 %'),
    (0.00001, DiagnosticStatus.WARN, '25.00 % is above 0.001 %'),
    (0.25, DiagnosticStatus.OK, '25.00 %'), (1.0, DiagnosticStatus.OK, '25.00 %')],
    ids=['above', 'a single pixel', 'just that', 'never'])
def test_a_class_above_its_alert_is_warned_of(alert, level, message):
    statuses = class_statuses(statistics_of(MASK), LABELS, {'car': alert}, 'segnet/front')
    road, car, _ = statuses
    assert (car.level, car.message) == (level, message)
    assert (car.name, car.hardware_id) == ('segnet/front: car', 'segnet/front')
    assert (road.level, road.message) == (DiagnosticStatus.OK, '62.50 %')


def test_messages_hold_all_classes_in_order():
    statistics = statistics_of(MASK)
    statuses = class_statuses(statistics, LABELS, {}, 'segnet')
    assert [s.name for s in statuses] == ['segnet: road', 'segnet: car', 'segnet: sky']
    fractions = fractions_message(statistics, LABELS)
    assert list(fractions.data) == [0.625, 0.25, 0.0]  # void is no class: they sum to less than 1
    [size] = fractions.layout.dim
    assert (size.label, size.size, size.stride) == ('road,car,sky', 3, 3)
