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

"""Check the report of a drive: without frames, with changing sizes, and when cut short."""

import json

import cv2
import numpy as np
import pytest

from segnet_ros.drive_report import CELL_WIDTH, DriveReport, FILES, SHEET_COLUMNS, SHEET_FRAMES
from segnet_ros.labels import load_label_set
from segnet_ros.video import UntrustedVideo

LABELS = load_label_set('camvid11')


def add(report, height=32, width=48, truth=None, seconds=0.0):
    image = np.full((height, width, 3), 90, np.uint8)
    report.add(image, np.zeros((height, width), np.uint8), image, 0.1, truth, round(seconds * 1e9))


def video_frames(path):
    return int(cv2.VideoCapture(str(path)).get(cv2.CAP_PROP_FRAME_COUNT))


def test_a_frame_of_another_size_is_left_out_of_the_video_alone(tmp_path):
    with DriveReport(tmp_path, 5, LABELS) as report:
        for height in (32, 32, 40, 32):
            add(report, height)
        summary = report.finish({})
    assert video_frames(tmp_path / 'video.mp4') == 3
    assert (report.frames, summary['frames_not_in_video']) == (4, 1)
    assert summary['class_fractions'][LABELS.class_names[0]] == 1


@pytest.mark.parametrize('speed', [1.0, 0.5, 2.0])
def test_dropped_frames_make_the_video_no_faster(tmp_path, speed):
    # Whatever the clock does: it goes back from 103.0 to 102.8, then jumps to 5000.0.
    taken = (100.0, 100.2, 101.07, 103.0, 102.8, 5000.0, 5000.4)
    with DriveReport(tmp_path, 5, LABELS, speed) as report:
        for seconds in taken:
            add(report, seconds=seconds)
        report.finish({})
    shown = [time * 1e-9 * speed for time, _ in UntrustedVideo(tmp_path / 'video.mp4').read()]
    assert shown == pytest.approx([0, 0.2, 1.07, 3.0, 3.2, 13.2, 13.6], abs=3e-3)


@pytest.mark.parametrize('rate', [15.0, 26.7, 30.0])
def test_the_video_is_as_long_as_the_drive_whatever_rate_was_guessed(tmp_path, rate):
    rng = np.random.default_rng(0)
    taken = np.arange(100) / 30 + rng.uniform(0, 0.02, 100)
    with DriveReport(tmp_path, rate, LABELS) as report:
        for seconds in taken:
            add(report, seconds=seconds)
        report.finish({})
    shown = [time * 1e-9 for time, _ in UntrustedVideo(tmp_path / 'video.mp4').read()]
    assert shown == pytest.approx(taken - taken[0], abs=2e-3)


@pytest.mark.parametrize('count', [1, 5, 12, 13, 25, 100])
def test_the_contact_sheet_s_frames_are_spread_over_the_drive(tmp_path, count):
    with DriveReport(tmp_path, 15, LABELS) as report:
        for index in range(count):
            image = np.full((32, 48, 3), index, np.uint8)
            report.add(image, image[..., 0] * 0, image, 0.1, None, index * 10**8)
        report.finish({})
    sheet = cv2.imread(str(tmp_path / 'contact_sheet.png'))
    height = 2 * round(32 * CELL_WIDTH / 48) + 6
    places = [divmod(k, SHEET_COLUMNS) for k in range(min(count, SHEET_FRAMES))]
    shown = [int(sheet[height * row + 5, CELL_WIDTH * column + 5, 0]) for row, column in places]
    assert shown[0] == 0 and shown[-1] >= 0.9 * (count - 1)
    gaps = np.diff(shown, append=count)
    assert gaps.min() >= 1 and gaps.max() <= 2 * count / len(shown)


def test_numbers_and_pictures_of_a_frame_worked_by_hand(tmp_path):
    image = np.full((32, 48, 3), (200, 0, 0), np.uint8)
    color = np.full((32, 48, 3), (0, 0, 200), np.uint8)
    mask = np.zeros((32, 48), np.uint8)
    truth = mask.copy()
    mask[:8], mask[8:16] = 255, 1
    truth[:12], truth[16:18] = 255, 1
    with DriveReport(tmp_path, 5, LABELS) as report:
        report.add(image, mask, color, 0.1, truth, 0)
        summary = report.finish({})
    first, other = LABELS.class_names[0], LABELS.class_names[5]
    assert summary['latency_ms'] == {'p50': 100.0, 'p95': 100.0}
    assert summary['class_fractions'][first] == 0.5  # of all pixels, unknown ones too
    assert summary['per_class_iou'][first] == 14 / 20  # rows
    assert summary['per_class_iou'][other] is None
    [(_, shown)] = UntrustedVideo(tmp_path / 'video.mp4').read()
    assert shown[10, 24, 0] > 150 and shown[54, 24, 2] > 150  # the camera above the mask
    sheet = cv2.imread(str(tmp_path / 'contact_sheet.png'))[..., ::-1]
    below = round(32 * CELL_WIDTH / 48) + 5
    assert [tuple(sheet[y, 5]) for y in (5, below)] == [(200, 0, 0), (0, 0, 200)]


def test_true_masks_of_another_size_are_told(tmp_path):
    with DriveReport(tmp_path, 5, LABELS) as report:
        add(report, truth=np.zeros((32, 48), np.uint8))
        with pytest.raises(ValueError, match='true masks are 24x16, the images 48x32.*annot'):
            add(report, truth=np.zeros((16, 24), np.uint8))


def test_without_a_frame_the_summary_is_json_and_nothing_else_is_there(tmp_path):
    with DriveReport(tmp_path, 5, LABELS) as report:
        report.finish({})
    text = (tmp_path / 'summary.json').read_text()
    assert 'NaN' not in text
    assert json.loads(text)['latency_ms'] == {'p50': None, 'p95': None}
    assert [path.name for path in tmp_path.iterdir()] == ['summary.json']


def test_a_drive_that_is_cut_leaves_a_whole_video_and_nothing_old(tmp_path):
    for name in FILES:
        (tmp_path / name).write_text('old')
    with pytest.raises(KeyboardInterrupt), DriveReport(tmp_path, 5, LABELS) as report:
        for _ in range(3):
            add(report)
        raise KeyboardInterrupt
    assert [path.name for path in tmp_path.iterdir()] == ['video.mp4']
    assert video_frames(tmp_path / 'video.mp4') == 3
