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

"""Check a camera without a node: how often it takes a frame, its QoS, its warnings."""

import threading
from types import SimpleNamespace
from unittest.mock import MagicMock

import numpy as np
import pytest
from rclpy.qos import QoSProfile, ReliabilityPolicy
import ros_fixtures  # noqa: F401 it imports vision_msgs before outputs.py does
from sensor_msgs.msg import CameraInfo, Image

from segnet_ros.ros import camera as camera_module
from segnet_ros.ros.camera import Camera

IMAGE = np.zeros((48, 64, 3), np.uint8)
RELIABLE, BEST_EFFORT = ReliabilityPolicy.RELIABLE, ReliabilityPolicy.BEST_EFFORT


class Scene:
    """A camera with a fake clock, fake publishers of its topic and fake parameters."""

    def __init__(self, monkeypatch):
        self.now = 1000.0
        self.clock: float | None = None  # the node's clock, if it differs
        self.offered: list[ReliabilityPolicy] = []
        self.parameters = {'input_transport': 'raw', 'input_reliability': 'auto'}
        self.remapped: dict[str, str] = {}
        self.settings = SimpleNamespace(
            max_rate=0.0, no_image_warning_period=0.0, max_frame_age=0.0, output_rate_warning=0.0,
            latency_warning=0.0)
        self.type = 'sensor_msgs/msg/Image'  # that the publishers publish
        self.asked: list[ReliabilityPolicy] = []  # at each subscription to images
        self.warnings: list[str] = []
        self.told: list[str] = []
        self.taken: list[float] = []  # arrival times of frames handed to the workers
        monkeypatch.setattr(camera_module.time, 'monotonic', lambda: self.now)
        monkeypatch.setattr(camera_module, 'Outputs', MagicMock())
        node = MagicMock(settings=self.settings, create_subscription=self._subscribe,
                         resolve_topic_name=self._resolve,
                         get_publishers_info_by_topic=lambda _: self._publishers(),
                         get_parameter=lambda n: SimpleNamespace(value=self.parameters[n]))
        node.get_logger().warning, node.get_logger().info = self.warnings.append, self.told.append
        node.get_clock().now = lambda: SimpleNamespace(
            nanoseconds=round((self.now if self.clock is None else self.clock) * 1e9))
        self.camera = Camera(node, '', None, None)
        self.camera.outputs.subscribed.return_value = False

    def start(self):
        self.camera.start(SimpleNamespace(put=lambda _, frame: self.taken.append(frame[1])))
        return self

    def _resolve(self, name, only_expand=False):
        return '/' + (name if only_expand else self.remapped.get(name, name))

    def _subscribe(self, message_type, topic, callback, qos, **_):
        if message_type is Image:
            self._on_image = callback
            self.asked.append(qos.reliability)
        return topic

    def _publishers(self):
        return [SimpleNamespace(node_namespace='/', node_name=f'driver{number}',
                                topic_type=self.type,
                                qos_profile=QoSProfile(depth=1, reliability=reliability))
                for number, reliability in enumerate(self.offered)]

    def send(self, *times):
        """Send a frame at each of these times; return the times of those that were taken."""
        self.taken.clear()
        for self.now in times:
            self._on_image(Image())
        return self.taken

    def watch(self, seconds=0.0):
        self.now += seconds
        self.camera.watch(self.settings)


@pytest.fixture
def scene(monkeypatch):
    return Scene(monkeypatch)


def shaken(rate, seconds, jitter):
    """Return the times of a camera's frames, each off by at most `jitter` seconds."""
    times = 1000 + np.arange(seconds * rate) / rate
    return list(times + np.random.default_rng(0).uniform(-jitter, jitter, len(times)))


def test_max_rate_is_kept_for_minutes_whatever_the_jitter(scene):
    scene.start().settings.max_rate = 10.0
    times = shaken(rate=30, seconds=120, jitter=0.009)
    assert scene.send(*times) == times[::3]
    assert scene.camera.monitor.counts == {'received': 3600, 'limited': 2400}


def test_a_camera_of_just_that_rate_loses_nothing_to_jitter_below_a_tenth(scene):
    scene.start().settings.max_rate = 10.0
    times = shaken(rate=10, seconds=120, jitter=0.009)
    assert scene.send(*times) == times
    assert 'limited' not in scene.camera.monitor.counts


def test_early_frames_do_not_add_up_to_more_than_max_rate(scene):
    """A frame may be a tenth of a period early; the next one is still due on schedule."""
    scene.start().settings.max_rate = 10.0
    assert len(scene.send(*shaken(rate=200, seconds=60, jitter=0.0))) in (600, 601)


@pytest.mark.parametrize('camera_rate', [11, 12, 15, 25, 29.97])
def test_a_camera_of_any_higher_rate_gives_max_rate(scene, camera_rate):
    scene.start().settings.max_rate = 10.0
    times = shaken(rate=camera_rate, seconds=60, jitter=0.002)
    taken = scene.send(*times)
    assert len(taken) == pytest.approx(600, abs=6)
    seconds = np.floor(np.array(taken) - 1000)
    assert np.unique(seconds, return_counts=True)[1].max() <= 11


def test_a_gap_is_not_made_up_for(scene):
    scene.start().settings.max_rate = 10.0
    scene.send(1000.0)
    assert len(scene.send(*(1060 + np.arange(100) / 100))) <= 11  # with both ends of that second


def test_a_new_max_rate_holds_at_once(scene):
    scene.start().settings.max_rate = 0.01
    assert scene.send(1000.0, 1001.0) == [1000.0]
    scene.settings.max_rate = 20.0  # a frame is due in 1.1 periods at the latest
    assert scene.send(1002.0, 1002.06) == [1002.06]
    scene.settings.max_rate = 0.0  # no limit
    assert scene.send(1002.061, 1002.062) == [1002.061, 1002.062]


@pytest.mark.parametrize(('parameter', 'offered', 'asked'), [
    ('auto', [], RELIABLE), ('auto', [RELIABLE], RELIABLE), ('auto', [BEST_EFFORT], BEST_EFFORT),
    ('auto', [RELIABLE, RELIABLE], RELIABLE),
    ('auto', [RELIABLE, BEST_EFFORT], BEST_EFFORT), ('auto', [BEST_EFFORT, RELIABLE], BEST_EFFORT),
    ('reliable', [BEST_EFFORT], RELIABLE), ('best_effort', [RELIABLE], BEST_EFFORT)])
def test_it_asks_for_what_every_publisher_offers(scene, parameter, offered, asked):
    scene.parameters['input_reliability'], scene.offered = parameter, offered
    scene.start().watch()
    assert scene.asked == [asked]


def test_it_follows_publishers_that_come_and_go(scene):
    scene.offered = [RELIABLE]
    scene.start().watch()
    for scene.offered in ([RELIABLE, BEST_EFFORT], [BEST_EFFORT], [RELIABLE], []):
        scene.watch()
        scene.watch()  # no change, so no new subscription: it would lose frames
    assert scene.asked == [RELIABLE, BEST_EFFORT, RELIABLE]
    # One at a time, or every frame would come twice.
    assert scene.camera._node.destroy_subscription.call_args_list == [(('image',),)] * 2


def test_a_driver_that_starts_anew_is_asked_for_what_it_offered(scene):
    scene.offered = [BEST_EFFORT]
    scene.start().watch()
    for scene.offered in ([], [BEST_EFFORT], []):
        scene.watch()
    assert scene.asked == [BEST_EFFORT]
    scene.camera.stop()
    scene.start()  # perhaps with another camera
    assert scene.asked == [BEST_EFFORT, RELIABLE]


def test_a_missing_camera_is_warned_of_once_each_time(scene):
    scene.settings.no_image_warning_period = 5.0
    scene.start().watch(4.9)
    assert not scene.warnings
    for _ in range(3):
        scene.watch(0.2)
    [warning] = scene.warnings
    assert 'no image on /image for 5.1 s; it has 0 publishers; remap `image`' in warning
    scene.offered = [BEST_EFFORT]
    scene.send(scene.now)
    scene.watch(4.9)
    assert len(scene.warnings) == 1
    for _ in range(3):
        scene.watch(0.2)
    assert scene.told == ['images again on /image, after 5.5 s']
    [_, warning] = scene.warnings
    assert 'it has 1 publishers: /driver0 offers best_effort' in warning
    # Time spent deactivated does not count: the period starts again.
    scene.now += 3600
    scene.start().watch(4.9)
    assert len(scene.warnings) == 2


def test_a_warning_of_no_images_names_the_likely_cause(scene):
    scene.settings.no_image_warning_period = 5.0
    scene.offered = [RELIABLE]
    scene.start().watch(5.1)
    assert '/driver0 offers reliable volatile. Publishers in another container' in (
        scene.warnings.pop())
    scene.send(scene.now)
    scene.watch(0.1)
    scene.watch(5.1)
    assert scene.warnings.pop().endswith(
        '/driver0 offers reliable volatile. A driver that crashed stays listed for a while: is it '
        'still running?')
    scene.send(scene.now)
    scene.offered = []
    scene.watch(0.1)
    scene.watch(5.1)
    assert scene.warnings.pop().endswith(": is the camera's driver still running?")
    scene.start().watch(5.1)
    assert 'remap `image`' in scene.warnings.pop(), 'nothing has come since it started anew'
    scene.remapped['image'] = 'front/image_raw'
    scene.start().watch(5.1)
    assert scene.warnings.pop() == (
        "no image on /front/image_raw for 5.1 s; it has 0 publishers: is the camera's driver "
        'running, and is this its topic?')
    scene.parameters['input_reliability'], scene.offered = 'reliable', [RELIABLE, BEST_EFFORT]
    scene.start().watch(5.1)
    assert "set the parameter input_reliability to 'auto'" in scene.warnings.pop()


def test_a_limit_that_is_raised_brings_no_images(scene):
    scene.settings.no_image_warning_period = 5.0
    scene.start().watch(6.0)
    scene.settings.no_image_warning_period = 60.0
    scene.watch(1.0)
    assert len(scene.warnings) == 1 and not scene.told


def test_where_a_frame_went_wrong_is_told_with_the_first_that_is_told(scene):
    told = []
    scene.camera._node.get_logger().error = told.append
    for seconds, trouble in ((0.0, 'a'), (0.5, 'b'), (1.0, 'b'), (1.0, 'b'), (1.0, 'a')):
        scene.now += seconds
        scene.camera.log_error(trouble, f'where {trouble}')
    assert told == ['camera: a\nwhere a', 'camera: b\nwhere b', 'camera: b', 'camera: a\nwhere a']


def test_a_frame_that_no_worker_takes_is_one_that_waits(scene):
    scene.start().send(1000.0)
    scene.now += 31.0
    assert scene.camera.monitor.stuck_seconds() == 31.0


def test_why_a_frame_cannot_be_read_is_kept_for_the_status(scene):
    scene.settings.roi = None
    scene.start().camera.decode(Image(encoding='pink16'), scene.now, scene.settings)
    assert 'pink16' in scene.camera.monitor.last_error


def test_a_warning_period_of_0_never_warns(scene):
    scene.start()
    for _ in range(3):
        scene.watch(3600.0)
    assert not scene.warnings


def test_publishers_of_another_type_are_told_and_not_followed(scene):
    scene.settings.no_image_warning_period = 5.0
    scene.type, scene.offered = 'sensor_msgs/msg/CompressedImage', [BEST_EFFORT]
    scene.start().watch(5.1)
    assert scene.asked == [RELIABLE]
    [warning] = scene.warnings
    assert ('They publish sensor_msgs/msg/CompressedImage, this node takes sensor_msgs/msg/Image: '
            'see the parameter input_transport') in warning


def frame_of(stamp):
    msg = Image()
    msg.header.stamp.sec = stamp
    return msg


@pytest.mark.parametrize('stamp, stale', [(1000, False), (997, False), (996, True), (-1, True),
                                          (2000, False)])
def test_age_is_told_by_any_stamp(scene, monkeypatch, stamp, stale):
    monkeypatch.setattr(camera_module, 'image_from_message', lambda msg: np.zeros((2, 2, 3)))
    scene.settings.max_frame_age, scene.settings.roi = 3.0, None
    scene.camera.outputs.wanted.return_value = ('label_map',)
    frame = scene.start().camera.decode(frame_of(stamp), scene.now, scene.settings)
    assert (frame is None) == stale
    assert scene.camera.monitor.counts['stale'] == int(stale)


def test_a_frame_that_grew_stale_on_the_way_is_not_published(scene):
    """Building its segmenter can take seconds on CUDA."""
    scene.settings.max_frame_age = 3.0
    camera = scene.start().camera
    frame = SimpleNamespace(header=frame_of(1000).header, times=[scene.now] * 3, image=IMAGE)
    for scene.now, published in ((1002.0, 1), (1004.0, 1)):
        camera.publish(frame, None, scene.now, scene.settings)
        assert camera.outputs.publish.call_count == published
    assert camera.monitor.counts == {'processed': 1, 'late': 1}


def test_a_bag_s_next_round_may_come_before_its_clock_s(scene, monkeypatch):
    """`ros2 bag play --clock --loop` may publish an image before the clock that goes with it."""
    monkeypatch.setattr(camera_module, 'image_from_message', lambda msg: np.zeros((2, 2, 3)))
    scene.settings.max_frame_age, scene.settings.roi = 3.0, None
    scene.camera.outputs.wanted.return_value = ('label_map',)
    camera = scene.start().camera

    def is_taken(stamp, clock):
        scene.now, scene.clock = scene.now + 0.1, clock
        camera._on_image(frame_of(stamp))
        return camera.decode(frame_of(stamp), scene.now, scene.settings) is not None

    assert is_taken(1000, 1000) and not is_taken(1001, 1010)
    assert is_taken(990, 1010), 'the clock of the round before'
    assert is_taken(991, 1010), 'it still stands'
    assert is_taken(991, 991) and not is_taken(992, 1000)
    assert is_taken(990, 1000)
    scene.now += camera_module.CLOCK_PATIENCE
    assert not is_taken(991, 1000), 'it stands for good'


def test_calibration_is_forgotten_when_it_starts_anew(scene):
    camera = scene.start().camera
    frame = SimpleNamespace(header=frame_of(1000).header, times=[scene.now] * 3, image=IMAGE)
    info = CameraInfo(width=64, height=48)
    camera._on_camera_info(info)
    for expected in (info, None):
        camera.publish(frame, None, scene.now, scene.settings)
        assert camera.outputs.publish.call_args[0][3] is expected
        camera.stop()
        scene.start()


def test_one_frame_is_published_at_a_time(scene):
    """Its messages are reused: another frame's results must not come between them."""
    camera = scene.start().camera
    other_is_in, overlapped = threading.Event(), []

    def publish_one(received):
        frame = SimpleNamespace(header=frame_of(1000).header, times=[received] * 3, image=IMAGE)
        camera.publish(frame, None, received, scene.settings)

    def publish(*_):
        if threading.current_thread() is other:
            other_is_in.set()
        else:
            other.start()
            overlapped.append(other_is_in.wait(0.2))
    camera.outputs.publish = publish
    other = threading.Thread(target=publish_one, args=(scene.now + 1,))
    publish_one(scene.now)
    other.join(10)
    assert overlapped == [False] and other_is_in.is_set()


def test_a_calibration_of_another_shape_is_withheld_and_told_once(scene):
    camera = scene.start().camera
    camera.outputs.subscribed = lambda topic: topic == 'mask/camera_info'
    frame = SimpleNamespace(header=frame_of(1000).header, times=[scene.now] * 3, image=IMAGE)
    camera._on_camera_info(CameraInfo(width=64, height=36))
    for width in (32, 64, 32, 64):  # as if from two drivers
        camera._on_camera_info(CameraInfo(width=width, height=36))
        camera.publish(frame, None, scene.now, scene.settings)
        assert camera.outputs.publish.call_args[0][3] is None
    scene.warnings.pop(0)
    assert scene.warnings == ['mask/camera_info cannot be published from /camera_info: it is for '
                              '64x36, which has a different aspect ratio from the images, 64x48']
    camera.stop()
    scene.start()
    camera._on_camera_info(CameraInfo(width=64, height=36))
    camera.publish(frame, None, scene.now, scene.settings)
    assert len(scene.warnings) == 2, 'told anew once it starts anew'


@pytest.mark.parametrize('subscribed', [True, False])
def test_a_calibration_that_never_comes_is_told_to_who_wants_it(scene, subscribed):
    scene.settings.no_image_warning_period = 5.0
    scene.start().camera.outputs.subscribed.return_value = subscribed
    scene.now += 4.0  # the camera starts later, and its images come first
    for _ in range(8):
        scene.send(scene.now)
        scene.watch(1.0)
        if scene.now <= 1009:
            assert not scene.warnings
    assert scene.warnings == [
        'mask/camera_info cannot be published from /camera_info: no message received'] * subscribed
    scene.start().send(scene.now)  # anew, with the same time to wait
    scene.watch(4.0)
    assert len(scene.warnings) == subscribed


def test_sizes_that_change_with_every_frame_are_told_once_a_second(scene):
    camera = scene.start().camera
    for _ in range(25):
        scene.now += 0.1
        camera._log_sizes((48, 64), (45, 60), (24, 32))
    assert scene.told == ['camera: 64x48 frames, network at 60x45, results 32x24'] * 3
    assert len(camera.monitor._resizes) == 25


@pytest.mark.parametrize('arrival, outcome', [(1000.01, 'late'), (1000.55, 'stale')])
def test_a_frame_that_waited_too_long_for_its_turn_is_not_blamed_on_clocks(scene, arrival,
                                                                           outcome):
    scene.start().settings.max_frame_age = 0.5
    scene.now = 1000.6
    for _ in range(3):
        assert scene.camera.decode(frame_of(1000), arrival, scene.settings) is None
    assert scene.camera.monitor.counts == {outcome: 3}
    message = scene.camera.monitor.status('camera', {}, scene.settings).message
    assert ('clocks' in message, 'segment faster' in message) == (
        outcome == 'stale', outcome == 'late')


@pytest.mark.parametrize('roi', [None, (0.0, 0.5, 1.0, 0.5)])
def test_a_region_is_asked_for_where_there_is_one(scene, monkeypatch, roi):
    monkeypatch.setattr(camera_module, 'image_from_message', lambda msg: IMAGE)
    scene.settings.roi = roi
    outputs = scene.start().camera.outputs
    outputs.wanted.return_value = ('statistics', 'region_statistics')
    frame = scene.camera.decode(frame_of(1000), scene.now - 0.25, scene.settings)
    assert frame.times == [scene.now - 0.25, scene.now, scene.now]  # received, taken, decoded
    outputs.wanted.assert_called_once_with(roi is not None)
    assert frame.wanted == ('statistics', 'region_statistics')
