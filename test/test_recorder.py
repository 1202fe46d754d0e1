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

"""Check what the recorder of a drive keeps of frames whose results never arrive."""

from itertools import count
from types import SimpleNamespace

from builtin_interfaces.msg import Time
from diagnostic_msgs.msg import DiagnosticArray
import pytest
import rclpy
from ros_domain import free_domain
from sensor_msgs.msg import Image
from std_msgs.msg import Header

from segnet_ros.ros import recorder as module


@pytest.fixture
def recorded():
    return []


@pytest.fixture
def recorder(recorded):
    context = rclpy.Context()
    rclpy.init(context=context, domain_id=int(free_domain()))
    node = module.Recorder('/image', '/segmentation', recorded.append, context=context)
    yield node
    node.destroy_node()
    rclpy.shutdown(context=context)


def give(recorder, seconds, *topics):
    header = Header(stamp=Time(sec=seconds))
    for topic in topics:
        message = (DiagnosticArray(header=header) if topic == 'statistics' else
                   Image(header=header, height=10, width=10, step=10, data=bytes(100)))
        recorder._take(topic, message)


def test_images_without_results_do_not_fill_the_memory(recorder, recorded, monkeypatch):
    monkeypatch.setattr(module, 'WAITING_BYTES', 1000)
    monkeypatch.setattr(module, 'PATIENCE', -1.0)
    for seconds in range(50):
        give(recorder, seconds, 'image')
    assert list(recorder._waiting) == list(range(40 * 10**9, 50 * 10**9, 10**9))
    give(recorder, 45, 'mask', 'color_mask', 'statistics')
    assert [frame.stamp_ns for frame in recorded] == [45 * 10**9]
    assert list(recorder._waiting) == list(range(46 * 10**9, 50 * 10**9, 10**9))
    assert recorder._waiting_bytes == 400 and recorder.unmatched_results() == 0


def test_images_wait_for_a_slow_node(recorder, recorded, monkeypatch):
    clock = count(0.5, 0.5)  # the first result after 10 seconds, the last one after 50
    monkeypatch.setattr(module, 'time', SimpleNamespace(monotonic=lambda: next(clock)))
    monkeypatch.setattr(module, 'WAITING_BYTES', 1000)
    for seconds in range(40):
        give(recorder, seconds, 'image')
        if seconds >= 20:
            give(recorder, seconds - 20, *recorder.RESULTS)
    assert len(recorded) == 20 and recorder.unmatched_results() == 0


def test_images_wait_for_the_first_result_too(recorder, monkeypatch):
    monkeypatch.setattr(module, 'time', SimpleNamespace(monotonic=lambda: now))
    monkeypatch.setattr(module, 'WAITING_BYTES', 1000)
    now = 1000.0
    for seconds in range(20):
        give(recorder, seconds, 'image')
    assert len(recorder._waiting) == 20
    now += module.PATIENCE + 1
    give(recorder, 20, 'image')
    assert len(recorder._waiting) == 10


def test_the_newest_image_s_results_are_awaited(recorder, recorded, monkeypatch):
    monkeypatch.setattr(module, 'time', SimpleNamespace(monotonic=lambda: now))
    assert not recorder.awaits_results()
    now = 10.0
    give(recorder, 1, 'image')
    give(recorder, 2, 'image')
    assert recorder.awaits_results() and recorder.slowest == 0
    now = 12.5
    give(recorder, 2, 'mask', 'color_mask')
    assert recorder.awaits_results()
    give(recorder, 2, 'statistics')
    assert not recorder.awaits_results(), 'the first was dropped for it'
    assert recorder.slowest == 2.5
    give(recorder, 3, 'image', *recorder.RESULTS)
    assert recorder.slowest == 2.5, 'one that was fast makes no node fast'


def test_images_that_share_a_stamp_are_refused(recorder, recorded):
    give(recorder, 1, 'image', *recorder.RESULTS)
    give(recorder, 1, 'image', *recorder.RESULTS)  # a bag that loops
    assert len(recorded) == 2
    give(recorder, 0, 'image')
    with pytest.raises(ValueError, match='two images have the stamp 0.000.* predict'):
        give(recorder, 0, 'image')


def test_results_of_no_image_are_counted(recorder, recorded):
    give(recorder, 1, 'mask')
    give(recorder, 2, 'image', *recorder.RESULTS)
    give(recorder, 3, 'statistics')
    assert len(recorded) == 1 and recorder.unmatched_results() == 2
