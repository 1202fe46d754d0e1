#!/usr/bin/env python3
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
Stop for pedestrians: the smallest planner that reads segnet_ros's statistics.

Publishes `stop` (std_msgs/Bool): true while pedestrians fill more of the picture than `fraction`,
while the network is sure of less than half of it (if confidence_threshold is set), and while no
statistics arrive or they have no class for pedestrians. An example, not a safety function: the
network misses pedestrians (docs/models.md).

    python3 examples/stop_for_pedestrians.py --ros-args -r __ns:=/segmentation -p fraction:=0.01
"""

from diagnostic_msgs.msg import DiagnosticArray
import rclpy
from rclpy.clock import Clock, ClockType
from rclpy.executors import ExternalShutdownException
from rclpy.node import Node
from std_msgs.msg import Bool

KNOWN = 0.5  # share of the picture that must have a class; the rest is void
SILENCE = 0.5  # seconds without statistics after which it is safer to stop


class StopForPedestrians(Node):
    """Turns the status of one class into a stop signal."""

    def __init__(self, **kwargs):
        super().__init__('stop_for_pedestrians', **kwargs)
        self.declare_parameter('fraction', 0.01)
        self._publisher = self.create_publisher(Bool, 'stop', 1)
        self.create_subscription(DiagnosticArray, 'statistics', self._on_statistics, 10)
        # Steady time: a paused simulated clock must not stop this timer.
        self._silence = self.create_timer(
            SILENCE, self._on_silence, clock=Clock(clock_type=ClockType.STEADY_TIME))

    def _on_statistics(self, msg: DiagnosticArray):
        self._silence.reset()
        # With statistics_roi set there is a second status, for the region: either one counts.
        fractions = [float(value.value) for status in msg.status for value in status.values
                     if status.name.endswith(': pedestrian') and value.key == 'fraction']
        if not fractions:
            self.get_logger().error('the statistics have no class pedestrian', once=True)
        known = sum(float(value.value) for status in msg.status for value in status.values
                    if '/roi: ' not in status.name and value.key == 'fraction')
        limit = self.get_parameter('fraction').value
        self._publisher.publish(Bool(
            data=not fractions or max(fractions) > limit or known < KNOWN))

    def _on_silence(self):
        self._publisher.publish(Bool(data=True))


def main():
    """Run until interrupted."""
    rclpy.init()
    try:
        rclpy.spin(StopForPedestrians())
    except (KeyboardInterrupt, ExternalShutdownException):
        pass
    finally:
        rclpy.try_shutdown()


if __name__ == '__main__':
    main()
