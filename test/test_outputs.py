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

"""Check what one camera's results become on each topic, without a node: codecs, statistics."""

from unittest.mock import MagicMock

from class_numbers import statistics_of, values_of
import cv2
import numpy as np
import pytest
import ros_fixtures  # noqa: F401 provides vision_msgs, before outputs.py imports them
from sensor_msgs.msg import CameraInfo
from std_msgs.msg import Header

from segnet_ros.labels import LabelSet, VOID
from segnet_ros.ros.outputs import calibration_trouble, Outputs
from segnet_ros.ros.settings import Settings
from segnet_ros.segmentation import Segmentation

LABELS = LabelSet('toy', ('road', 'car'), ((10, 20, 230), (255, 64, 32)))
HEADER = Header(frame_id='front')


class FakePublisher:
    """A topic with one subscriber or none, and what was sent to it."""

    def __init__(self):
        self.subscribers, self.sent = 1, []

    def get_subscription_count(self):
        return self.subscribers

    def publish(self, msg):
        self.sent.append(msg)


@pytest.fixture
def topics():
    """Return the outputs of a camera 'front' and their publishers by topic."""
    publishers = {}

    def create_publisher(_, topic, *args, **kwargs):
        return publishers.setdefault(topic.removeprefix('front/'), FakePublisher())

    node = MagicMock(create_publisher=create_publisher, get_name=lambda: 'segnet')
    return Outputs(node, 'front/', LABELS), publishers


def settings(jpeg_quality=90, roi=None):
    return Settings(max_frame_age=0.0, max_rate=0.0, confidence_threshold=0.0, overlay_alpha=0.5,
                    jpeg_quality=jpeg_quality, no_image_warning_period=0.0,
                    output_rate_warning=0.0, latency_warning=0.0, roi=roi, alerts={},
                    palette=LABELS.palette())


def segmentation(region=(0.0, 0.0, 1.0, 1.0)):
    """Return a frame's results: a car in the lower right quarter, void in a corner."""
    label_map = np.zeros((40, 60), np.uint8)
    label_map[20:, 30:], label_map[0, 0] = 1, VOID
    confidence = np.full(label_map.shape, 255, np.uint8)
    colors = LABELS.palette()[label_map]
    blocks = np.random.default_rng(0).integers(0, 256, (10, 15, 3), np.uint8)
    image = blocks.repeat(4, 0).repeat(4, 1)
    return Segmentation(label_map, confidence, colors, colors // 2 + image // 2,
                        statistics_of(label_map, 2), statistics_of(label_map, 2, region))


def decoded(msg):
    pixels = cv2.imdecode(np.frombuffer(msg.data, np.uint8), cv2.IMREAD_UNCHANGED)
    return pixels if pixels.ndim == 2 else pixels[..., ::-1]


def test_masks_are_compressed_without_loss_and_the_overlay_small(topics):
    outputs, publishers = topics
    results = segmentation()
    outputs.publish(HEADER, results, settings(), None)
    mask, colors, overlay = (publishers[f'{name}/compressed'].sent[0]
                             for name in ('mask', 'color_mask', 'overlay'))
    assert mask.format == 'mono8; png compressed '
    assert colors.format == 'rgb8; png compressed bgr8'
    assert overlay.format == 'rgb8; jpeg compressed bgr8'
    for msg, expected in ((mask, results.label_map), (colors, results.color_mask)):
        assert bytes(msg.data[:4]) == b'\x89PNG'
        assert (decoded(msg) == expected).all()
    assert bytes(overlay.data[:3]) == b'\xff\xd8\xff'
    assert np.abs(decoded(overlay) - results.overlay.astype(int)).mean() < 20  # not BGR


def test_jpeg_quality_is_the_overlay_s_alone(topics):
    outputs, publishers = topics
    results = segmentation()
    for quality in (10, 95):
        outputs.publish(HEADER, results, settings(jpeg_quality=quality), None)
    small, large = (len(msg.data) for msg in publishers['overlay/compressed'].sent)
    assert 2 * small < large
    for topic in ('mask/compressed', 'color_mask/compressed'):
        first, second = publishers[topic].sent
        assert first.data == second.data


def test_pictures_may_change_in_width_alone(topics):
    outputs, publishers = topics
    for width in (60, 80):
        outputs.publish(HEADER, Segmentation(np.zeros((40, width), np.uint8)), settings(), None)
    assert [(msg.height, msg.width) for msg in publishers['mask'].sent] == [(40, 60), (40, 80)]


def test_numbers_of_the_region_stand_after_those_of_the_whole(topics):
    outputs, publishers = topics
    outputs.publish(HEADER, segmentation((0.5, 0.25, 0.5, 0.5)), settings(), None)
    [msg] = publishers['statistics'].sent
    assert msg.header == HEADER
    places = {s.name: values_of(s) for s in msg.status}
    assert list(places) == ['segnet/front: road', 'segnet/front: car', 'segnet/front/roi: road',
                            'segnet/front/roi: car']
    assert places['segnet/front: car']['bounding_box'] == '30 20 30 20'
    assert places['segnet/front/roi: car']['bounding_box'] == '30 20 30 10'
    assert places['segnet/front/roi: car']['centroid'] == '44.5 24.5'
    [fractions] = publishers['class_fractions'].sent
    assert list(fractions.data) == pytest.approx([1799 / 2400, 600 / 2400])  # of the whole image


@pytest.mark.parametrize(('width', 'height', 'binning', 'roi', 'trouble'), [
    (1280, 960, 1, (0, 0), ''), (640, 481, 0, (0, 0), ''), (64, 48, 0, (0, 0), ''),
    (1280, 720, 1, (640, 480), ''), (1280, 480, (2, 1), (0, 0), ''),
    (1280, 720, 1, (0, 0),
     'it is for 1280x720, which has a different aspect ratio from the images'),
    (1280, 960, 1, (640, 360), 'it is for 640x360'), (640, 488, 1, (0, 0), 'it is for 640x488'),
    (648, 480, 1, (0, 0), 'it is for 648x480'), (1280, 976, 1, (0, 0), ''),
    (1280, 960, (2, 1), (0, 0), 'it is for 640x960'),
    (1280, 1024, 1, (0, 0), 'it is for 1280x1024'),
    (0, 0, 0, (0, 0), 'it gives no size'), (640, 0, 0, (0, 0), 'it gives no size')])
def test_a_calibration_fits_images_of_its_shape(width, height, binning, roi, trouble):
    info = CameraInfo(width=width, height=height)
    info.binning_x, info.binning_y = binning if isinstance(binning, tuple) else (binning, binning)
    info.roi.width, info.roi.height = roi
    found = calibration_trouble(info, (480, 640), 'cam')
    assert found.startswith(trouble) and bool(found) == bool(trouble)


@pytest.mark.parametrize('of_info, of_images, fits', [
    ('front', 'front', True), ('', 'front', True), ('rear', '', True), ('rear', 'front', False)])
def test_a_calibration_of_another_camera_does_not_fit(of_info, of_images, fits):
    info = CameraInfo(width=64, height=48)
    info.header.frame_id = of_info
    assert calibration_trouble(info, (48, 64), of_images) == (
        '' if fits else "its frame_id is 'rear', that of the images 'front'")


@pytest.mark.parametrize(('topic', 'wanted'), [
    ('class_fractions', ('statistics',)), ('statistics', ('region_statistics', 'statistics')),
    ('mask', ('label_map',))])
def test_a_region_is_not_computed_for_who_wants_the_fractions_alone(topics, topic, wanted):
    outputs, publishers = topics
    for name, publisher in publishers.items():
        publisher.subscribers = int(name == topic)
    assert outputs.wanted(region=True) == wanted
    assert outputs.wanted() == tuple(name for name in wanted if name != 'region_statistics')


@pytest.mark.parametrize(('topic', 'wanted'), [
    ('mask', ('label_map',)), ('mask/compressed', ('label_map',)),
    ('mask/camera_info', ('label_map',)), ('confidence', ('confidence',)),
    ('color_mask', ('color_mask',)), ('color_mask/compressed', ('color_mask',)),
    ('overlay', ('overlay',)), ('overlay/compressed', ('overlay',)),
    ('statistics', ('statistics',)), ('class_fractions', ('statistics',)), ('legend', ())])
def test_what_one_subscriber_makes_the_network_compute_and_gets(topics, topic, wanted):
    outputs, publishers = topics
    for name, publisher in publishers.items():
        publisher.subscribers = int(name == topic)
    assert outputs.wanted() == wanted
    whole = segmentation()
    outputs.publish(HEADER, Segmentation(**{name: getattr(whole, name) for name in wanted}),
                    settings(), CameraInfo(width=60, height=40))
    sent = {name for name, publisher in publishers.items() if publisher.sent}
    assert sent == ({topic} if wanted else set())
