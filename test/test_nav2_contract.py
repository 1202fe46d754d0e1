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
Check that the node serves Nav2's semantic segmentation layer, which is reproduced here exactly.

The layer (kiwicampus/semantic_segmentation_layer) subscribes to mask, confidence and point cloud
with sensor data QoS, depth 50, and pairs them by approximate time within 0.1 s. It rejects a mask
whose size differs from the cloud's, and knows no class until a latched label_info arrives. For
each class in that message, it looks up the cost by class name among its own parameters.
"""

from pathlib import Path

import numpy as np
import pytest
from rclpy.parameter import Parameter
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from ros_fixtures import Bench, image_message
from sensor_msgs.msg import Image, PointCloud2
from small_network import write_small_checkpoint
import yaml

from segnet_ros.labels import load_label_set

SENSOR_DATA = QoSProfile(depth=50, reliability=ReliabilityPolicy.BEST_EFFORT)
LABELS = QoSProfile(depth=5, durability=DurabilityPolicy.TRANSIENT_LOCAL)
CONFIG = Path(__file__).parents[1] / 'config' / 'nav2_semantic_layer.yaml'


class Layer:
    """A stand-in for Nav2's layer, as far as messages go."""

    def __init__(self, peer, costs: dict[str, int]):
        from vision_msgs.msg import LabelInfo
        self._costs = costs
        self.cost_by_id: dict[int, int] = {}
        self.errors: list[str] = []
        self.buffered: list[np.ndarray] = []
        self.label_messages = 0
        self._waiting = {'mask': {}, 'confidence': {}, 'points': {}}
        peer.create_subscription(LabelInfo, '/segmentation/label_info', self._on_labels, LABELS)
        for topic, kind, name in (('mask', Image, '/segmentation/mask'),
                                  ('confidence', Image, '/segmentation/confidence'),
                                  ('points', PointCloud2, '/camera/depth/points')):
            peer.create_subscription(
                kind, name, lambda msg, topic=topic: self._on_data(topic, msg), SENSOR_DATA)

    def _on_labels(self, msg):
        self.label_messages += 1
        for entry in msg.class_map:
            if entry.class_name in self._costs:
                self.cost_by_id[entry.class_id] = self._costs[entry.class_name]
            else:
                self.errors.append(f'no parameter for class {entry.class_name}')

    def _on_data(self, topic, msg):
        stamp = msg.header.stamp.sec + msg.header.stamp.nanosec * 1e-9
        self._waiting[topic][stamp] = msg
        for stamp, mask in list(self._waiting['mask'].items()):
            near = {t: min(self._waiting[t], key=lambda s: abs(s - stamp), default=None)
                    for t in ('confidence', 'points')}
            if all(s is not None and abs(s - stamp) <= 0.1 for s in near.values()):
                del self._waiting['mask'][stamp]
                self._on_set(mask, *(self._waiting[t].pop(s) for t, s in near.items()))

    def _on_set(self, mask, confidence, points):
        if mask.width * mask.height != points.width * points.height:
            return self.errors.append('Pointcloud and segmentation sizes are different')
        if len(mask.data) < mask.width * mask.height:
            return self.errors.append('segmentation arrays have wrong sizes')
        assert self.cost_by_id, 'without a label_info before it this takes Nav2 down'
        # The layer reads pixel v * width + u straight from the data of both.
        ids = np.frombuffer(mask.data, np.uint8)
        assert len(confidence.data) == len(ids)
        self.buffered.append(np.vectorize(self.cost_by_id.get)(ids))


def configured_costs():
    """Return the layer's cost of each class in the configuration that we ship."""
    source = yaml.safe_load(CONFIG.read_text())['semantic_layer']['front']
    return {name: source[kind]['max_cost'] for kind in source['class_types']
            for name in source[kind]['classes']}


@pytest.fixture
def bench(tmp_path):
    bench = Bench(write_small_checkpoint(tmp_path / 'small.safetensors'))
    yield bench
    bench.close()


def cloud_for(image, shape=None):
    """Return the point cloud that a depth camera publishes with the image, stamped 5 ms later."""
    height, width = shape or (image.height, image.width)
    cloud = PointCloud2(height=height, width=width, point_step=12, row_step=12 * width)
    cloud.header.frame_id = image.header.frame_id
    cloud.header.stamp.sec = image.header.stamp.sec
    cloud.header.stamp.nanosec = image.header.stamp.nanosec + 5_000_000
    return cloud


@pytest.mark.parametrize('late', [False, True])
def test_the_layer_buffers_every_frame_and_reports_no_error(bench, late):
    bench.start_node()
    if late:
        bench.spin_for(0.5)
    layer = Layer(bench.peer, configured_costs())
    camera = bench.publisher(Image)
    points = bench.peer.create_publisher(PointCloud2, '/camera/depth/points', 5)
    bench.connected(camera)
    # label_info must come by itself, before any frame is sent.
    bench.spin_until(lambda: layer.label_messages)
    for number in range(1, 6):
        image = image_message(seed=number, stamp=(number, 0))
        points.publish(cloud_for(image))
        camera.publish(image)
        bench.spin_until(lambda n=number: len(layer.buffered) + len(layer.errors) == n)
    assert not layer.errors
    assert len(layer.buffered) == 5
    assert layer.label_messages == 1, 'the layer logs an error per message and unknown class'
    assert layer.cost_by_id.keys() == set(range(11))


def test_label_info_names_every_class_of_the_configuration(bench):
    assert configured_costs().keys() == set(load_label_set('camvid11').class_names)
    from vision_msgs.msg import LabelInfo
    bench.start_node()
    bench.listen('label_info', LabelInfo, LABELS)
    bench.spin_until(lambda: bench.heard['label_info'])
    names = [(entry.class_id, entry.class_name)
             for entry in bench.heard['label_info'][0].class_map]
    assert names == list(enumerate(load_label_set('camvid11').class_names))


def test_the_played_layer_notices_what_the_real_one_would(bench):
    bench.start_node(output_size='32x24')
    costs = configured_costs()
    del costs['road']
    layer = Layer(bench.peer, costs)
    camera = bench.publisher(Image)
    points = bench.peer.create_publisher(PointCloud2, '/camera/depth/points', 5)
    bench.connected(camera)
    # label_info must come by itself, before any frame is sent.
    bench.spin_until(lambda: layer.label_messages)
    image = image_message()
    points.publish(cloud_for(image))
    camera.publish(image)
    bench.spin_until(lambda: len(layer.errors) == 2)
    assert set(layer.errors) == {'no parameter for class road',
                                 'Pointcloud and segmentation sizes are different'}


def test_label_info_comes_again_only_when_it_says_something_new(bench):
    from vision_msgs.msg import LabelInfo
    node = bench.start_node()
    bench.listen('label_info', LabelInfo, LABELS)
    bench.listen('legend', Image, LABELS)
    bench.spin_until(lambda: all(bench.heard.values()))

    def heard_after(*parameters):
        for messages in bench.heard.values():
            messages.clear()
        node.set_parameters(parameters)
        bench.spin_until(lambda: any(bench.heard.values()))
        bench.spin_for(0.2)
        return {topic: len(messages) for topic, messages in bench.heard.items()}

    assert heard_after(Parameter('palette.road', value=[1, 2, 3])) == {
        'label_info': 0, 'legend': 1}
    assert heard_after(Parameter('confidence_threshold', value=0.5)) == {
        'label_info': 1, 'legend': 0}
    assert bench.heard['label_info'][0].threshold == 0.5
    bench.heard['label_info'].clear()
    node.trigger_deactivate()
    node.trigger_activate()
    bench.spin_for(0.3)
    assert not bench.heard['label_info']
