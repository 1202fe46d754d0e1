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

"""What the node's tests share: a node and a peer in a ROS context of their own, and images."""

import gc
import time

import numpy as np
import rclpy
from rclpy.executors import SingleThreadedExecutor
from rclpy.parameter import Parameter
from rclpy.qos import DurabilityPolicy, QoSProfile
from ros_domain import free_domain
from sensor_msgs.msg import Image
from vision_msgs_build import import_vision_msgs

from segnet_ros.ros.conversions import preallocated_image

import_vision_msgs()  # before the node's modules import them
from segnet_ros.ros.node import SegNetNode  # noqa: E402,I100,I202

LATCHED = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)


class Bench:
    """A node under test and a peer that publishes to it and listens to it, in one executor."""

    def __init__(self, weights: str):
        self._weights = weights
        self.context = rclpy.Context()
        rclpy.init(context=self.context, domain_id=int(free_domain()))
        self.peer = rclpy.create_node('peer', context=self.context)
        self.executor = SingleThreadedExecutor(context=self.context)
        self.executor.add_node(self.peer)
        self.heard: dict[str, list] = {}
        self.node = None

    def start_node(self, activate=True, cli_args=None, **parameters) -> SegNetNode:
        """Create the node, with parameters as a launch file would give them."""
        overrides = {'weights': self._weights, 'device': 'cpu', **parameters}
        self.node = SegNetNode(
            context=self.context, namespace='/segmentation', cli_args=cli_args,
            parameter_overrides=_parameters(overrides))
        self.executor.add_node(self.node)
        if activate:
            self.node.trigger_configure()
            self.node.trigger_activate()
        return self.node

    def listen(self, topic: str, message_type, qos=10):
        """Collect a topic's messages in heard[topic]."""
        self.heard[topic] = []
        name = topic if topic.startswith('/') else '/segmentation/' + topic
        self.peer.create_subscription(message_type, name, self.heard[topic].append, qos)

    def publisher(self, message_type, topic='image', qos=1):
        """Return a publisher to an input of the node; connected() waits for its subscriber."""
        return self.peer.create_publisher(message_type, '/segmentation/' + topic, qos)

    def camera(self, *outputs: str, qos=1):
        """Listen to these image outputs; return a connected publisher of camera images."""
        for topic in outputs:
            self.listen(topic, Image)
        publisher = self.publisher(Image, qos=qos)
        self.connected(publisher)
        return publisher

    def put(self, **values):
        """Set parameters of the node, with __ for a dot, which must be accepted."""
        results = self.node.set_parameters(_parameters(values))
        assert all(r.successful for r in results), results

    def spin_until(self, condition, timeout=20.0, what=''):
        """Run both nodes until the condition holds; fail if it does not in time."""
        end = time.monotonic() + timeout
        while not condition():
            assert time.monotonic() < end, what or f'not in {timeout} s; heard ' + str(
                {k: len(v) for k, v in self.heard.items()})
            self.executor.spin_once(timeout_sec=0.02)

    def spin_for(self, seconds: float):
        """Run both nodes for a while, to see that something does not happen."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            self.executor.spin_once(timeout_sec=0.02)

    def connected(self, publisher):
        """Wait until node and peer have discovered each other's topics."""
        self.spin_until(lambda: publisher.get_subscription_count() > 0, what='no subscriber')
        own = [s for s in self.peer.subscriptions if s.topic_name.startswith('/segmentation')]
        self.spin_until(lambda: all(self.peer.count_publishers(s.topic_name) for s in own),
                        what='no publisher for what the peer listens to')

    def close(self):
        """Shut down executor, node, peer and context, and make sure that DDS forgets them."""
        # An executor holds on to what it last waited for, which then outlives destroy_node().
        self.executor.shutdown()
        if self.node is not None:
            self.node.destroy_node()
        self.peer.destroy_node()
        rclpy.try_shutdown(context=self.context)  # a test may have done so
        # rclpy's LifecycleNode forms a reference cycle with its state machine, which keeps the DDS
        # participant alive: without this, the next test would see this one's topics.
        self.node = None
        gc.collect()


def _parameters(values):
    return [Parameter(name.replace('__', '.'), value=value) for name, value in values.items()]


def image_message(size=(48, 64), encoding='rgb8', seed=0, stamp=(1, 5), frame_id='front_camera'):
    """Return an image of noise with a header of its own."""
    msg, view = preallocated_image(encoding, *size)
    view[:] = np.random.default_rng(seed).integers(0, 256, view.shape, np.uint8)
    msg.header.stamp.sec, msg.header.stamp.nanosec = stamp
    msg.header.frame_id = frame_id
    return msg
