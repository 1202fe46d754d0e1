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

"""Check that the synthetic drive is repeatable, complete and labelled by its own geometry."""

import cv2
import numpy as np
import pytest

from segnet_ros.sample_drive.drive import SampleDrive
from segnet_ros.sample_drive.paint import (
    BUILDING, Canvas, CAR, PAVEMENT, POLE, ROAD, SIGN, SKY, Sprite)
from segnet_ros.sample_drive.scene import Scene
from segnet_ros.sample_drive.things import Post
from segnet_ros.sample_drive.view import View

CLASSES = 11


@pytest.fixture(scope='module')
def drive():
    return SampleDrive(seed=3)


def test_frame_is_an_rgb_image_with_its_labels(drive):
    image, labels = drive.frame(0)
    assert image.shape == (360, 480, 3) and image.dtype == np.uint8
    assert labels.shape == (360, 480) and labels.dtype == np.uint8
    assert image.flags.c_contiguous and labels.flags.c_contiguous
    assert set(np.unique(labels)) <= {*range(CLASSES), 255}


def test_frame_depends_on_nothing_but_its_index(drive):
    later, earlier = drive.frame(40), drive.frame(7)
    fresh = SampleDrive(seed=3)
    for index, (image, labels) in ((7, earlier), (40, later)):
        again_image, again_labels = fresh.frame(index)
        assert again_image.tobytes() == image.tobytes()
        assert again_labels.tobytes() == labels.tobytes()


def test_caller_may_scribble_on_a_frame(drive):
    image, labels = drive.frame(5)
    kept = image.copy()
    image[:], labels[:] = 0, 0
    assert np.array_equal(drive.frame(5)[0], kept)


def test_seeds_differ(drive):
    other = SampleDrive(seed=4).frame(0)[0]
    assert np.abs(other.astype(int) - drive.frame(0)[0]).mean() > 5


@pytest.mark.parametrize('seed', range(5))
def test_every_class_appears_and_the_street_is_plausible(seed):
    small = SampleDrive(seed, (180, 240))
    count = sum(np.bincount(small.frame(index)[1].ravel(), minlength=256)
                for index in range(0, 60, 6))
    share = count / count.sum()
    assert (count[:CLASSES] > 0).all(), f'missing: {np.flatnonzero(count[:CLASSES] == 0)}'
    assert share[ROAD] > 0.15 and share[BUILDING] > 0.10 and share[SKY] > 0.03


def test_sky_lies_above_the_road(drive):
    for index in (0, 30, 100000):
        rows = np.indices((360, 480))[0]
        labels = drive.frame(index)[1]
        assert rows[labels == SKY].max() < rows[labels == ROAD].min() + 5


def test_image_shows_what_the_labels_say(drive):
    """Sky is much brighter than road, and differs little from row to row."""
    image, labels = drive.frame(12)
    grey = image.mean(2)
    assert grey[labels == SKY].mean() > grey[labels == ROAD].mean() + 30
    inside = cv2.erode((labels == SKY).astype(np.uint8), np.ones((5, 5))) > 0
    assert np.abs(np.diff(grey, axis=0))[inside[1:]].mean() < 8


def test_frames_make_a_video(drive):
    images, labels = zip(*(drive.frame(index) for index in (20, 21, 50)), strict=True)
    step = (labels[0] != labels[1]).mean()
    assert 0.002 < step < 0.15
    assert step < (labels[0] != labels[2]).mean()
    assert not np.array_equal(images[0], images[1])


@pytest.mark.parametrize('size', [(90, 120), (97, 131), (720, 1280), (100, 1000)])
def test_other_sizes_show_the_same_street(drive, size):
    image, labels = SampleDrive(3, size).frame(9)
    assert image.shape == (*size, 3) and labels.shape == size
    if size[1] * 3 == size[0] * 4:
        shrunk = cv2.resize(drive.frame(9)[1], size[::-1], interpolation=cv2.INTER_NEAREST)
        assert (shrunk == labels).mean() > 0.85


@pytest.mark.parametrize('stroke', [
    lambda canvas: canvas.polygon([(3.3, 2.1), (30.7, 8.2), (12.5, 33.9)], (250, 9, 9), CAR, 1),
    lambda canvas: canvas.line((4, 4), (36, 20), 3, (250, 9, 9), CAR, 1),
    lambda canvas: canvas.disc((20, 20), 7.4, (250, 9, 9), CAR, 1),
    lambda canvas: canvas.texture([(5, 3), (33, 9), (30, 38), (-9, 30)],
                                  Sprite(np.full((64, 64, 4), 255, np.uint8)), CAR, 0.9, 1),
])
def test_a_stroke_changes_the_same_pixels_of_image_and_labels(stroke):
    canvas = Canvas(np.zeros((40, 40, 3), np.uint8), np.zeros((40, 40), np.uint8),
                    (99, 99, 99), 100.0)
    stroke(canvas)
    painted = canvas.image.any(2)
    assert 20 < painted.sum() < 1500
    assert np.array_equal(painted, canvas.labels == CAR)


def test_ground_is_labelled_where_it_is_painted():
    drive = SampleDrive(seed=3)
    scene = drive._scene
    pavement = scene.ground_labels == PAVEMENT
    scene.ground = drive._soft_ground = np.repeat(np.uint8(255 * pavement)[..., None], 3, 2)
    canvas = Canvas(np.zeros((360, 480, 3), np.uint8), np.zeros((360, 480), np.uint8), (0, 0, 0),
                    1e9)
    drive._draw_ground(canvas, View((360, 480), 16.0, scene.bend, scene.horizon))
    assert ((canvas.image[..., 0] > 127) == (canvas.labels == PAVEMENT)).mean() > 0.9999


def test_what_is_near_is_drawn_over_what_is_far():
    far = [thing.far for thing in Scene(seed=3).things(time=2.0, z=16.0)]
    assert len(far) > 50 and far == sorted(far, reverse=True)


@pytest.mark.parametrize('kind', ['round', 'warning', 'board', 'light'])
def test_a_sign_stands_on_a_pole(kind):
    canvas = Canvas(np.zeros((90, 120, 3), np.uint8), np.zeros((90, 120), np.uint8), (9, 9, 9),
                    1e9)
    Post(kind, -1.5, 8.0, 3.0, (190, 35, 35)).draw(canvas, View((90, 120), 0.0, 0.0, 0.5), None)
    assert {*np.unique(canvas.labels)} == {0, SIGN, POLE}
    signs, poles = (np.nonzero(canvas.labels == label)[0] for label in (SIGN, POLE))
    assert signs.mean() < poles.mean() and len(signs) > 40


def test_haze_swallows_what_is_far():
    colour, haze, clear_range = np.array((250, 9, 90)), np.array((120, 140, 160)), 100.0
    for depth, share in ((0.0, 1.0), (clear_range, np.exp(-1)), (1e6, 0.0)):
        canvas = Canvas(np.zeros((9, 9, 3), np.uint8), np.zeros((9, 9), np.uint8), tuple(haze),
                        clear_range)
        canvas.disc((4, 4), 3, tuple(colour), CAR, depth)
        expected = colour * share + haze * (1 - share)
        assert np.abs(canvas.image[4, 4] - expected).max() <= 0.5


def test_a_car_beside_the_camera_goes_out_of_the_picture_step_by_step():
    drive = SampleDrive(seed=2, size=(90, 120))
    seen = [(drive.frame(index)[1] == CAR).sum() for index in range(120, 130)]
    assert all(after > 0.7 * before for before, after in zip(seen[:-1], seen[1:], strict=True))
