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
Measure how many raw camera images reach another process, by Fast DDS settings and reliability.

Run as a module, it is one of the two processes: `... receive` or `... send`.
"""

import argparse
import contextlib
import json
import os
from statistics import median
import subprocess
import sys
import time

import rclpy
from rclpy.executors import SingleThreadedExecutor
from rclpy.qos import QoSProfile, ReliabilityPolicy
from rclpy.signals import SignalHandlerOptions
from sensor_msgs.msg import Image

from segnet_ros.processes import running, take_signals_as_interrupts
from segnet_ros.ros.conversions import preallocated_image
from segnet_ros.ros.large_images import OWN_SETTINGS, use_large_image_profile
from segnet_ros.ros.replay import wait_for_subscribers

RATE = 30.0  # frames a second of an ordinary camera
TOPIC = '/bench/delivery'
CAMERA_DEPTH = 5  # as in camera drivers (SensorDataQoS); the node subscribes with depth 1
DISCOVERY = 0.5  # seconds; each side may discover the other this much before it is discovered
SETTLE = 1.0  # seconds for the last frames to arrive


def deliver(settings: str, reliability: str, size: tuple[int, int], frames: int) -> dict:
    """
    Send frames from one process to another at RATE; return what arrived.

    :param settings: 'large_images' for the package's profile on both sides, 'defaults' for none.
    :param size: (height, width) of the frames, rgb8.
    """
    environment = {k: v for k, v in os.environ.items()
                   if k not in OWN_SETTINGS}
    command = [sys.executable, '-m', __name__, '--settings', settings,
               '--reliability', reliability, '--frames', str(frames),
               '--size', *map(str, size)]
    # In groups of their own, or a Ctrl-C in the terminal would end them with tracebacks.
    with (running([*command, 'receive'], env=environment, process_group=0,
                  stdout=subprocess.PIPE) as receiver,
          running([*command, 'send'], env=environment, process_group=0) as sender):
        if sender.wait(60 + 4 * frames / RATE):
            raise ValueError(f'the sender exited with code {sender.returncode}; see its message '
                             'above')
        time.sleep(SETTLE)
        receiver.terminate()
        # Only the last line: Fast DDS prints its errors to standard output too.
        ages = json.loads(receiver.communicate(timeout=20)[0].splitlines()[-1])
    return {'sent': frames, 'received': len(ages), 'share': len(ages) / frames,
            'age_ms': median(ages) * 1e3 if ages else None}


def _receive(node, qos: QoSProfile):
    """Record each frame's age until asked to end, then print all ages."""
    ages = []

    def hear(msg: Image):
        stamp = msg.header.stamp
        # The monotonic clock is the same for all processes of a machine.
        ages.append(time.monotonic() - stamp.sec - stamp.nanosec * 1e-9)

    node.create_subscription(Image, TOPIC, hear, qos)
    executor = SingleThreadedExecutor()
    executor.add_node(node)
    with contextlib.suppress(KeyboardInterrupt):
        while True:
            executor.spin_once(timeout_sec=0.1)  # Python handles no signal while rcl waits
    print(json.dumps(ages))


def _send(node, qos: QoSProfile, size: tuple[int, int], frames: int):
    """Send frames at RATE, each stamped with the monotonic time."""
    publisher = node.create_publisher(Image, TOPIC, qos)
    msg, _ = preallocated_image('rgb8', *size)
    wait_for_subscribers([publisher], 1)
    start = time.monotonic() + DISCOVERY
    for index in range(frames):
        time.sleep(max(0.0, start + index / RATE - time.monotonic()))
        msg.header.stamp.sec, msg.header.stamp.nanosec = divmod(time.monotonic_ns(), 10**9)
        publisher.publish(msg)
    time.sleep(SETTLE)


def main():
    """Run as the sender or the receiver."""
    parser = argparse.ArgumentParser()
    parser.add_argument('role', choices=('send', 'receive'))
    parser.add_argument('--settings', choices=('large_images', 'defaults'))
    parser.add_argument('--reliability', choices=('best_effort', 'reliable'))
    parser.add_argument('--frames', type=int)
    parser.add_argument('--size', type=int, nargs=2)
    args = parser.parse_args()
    if args.settings == 'large_images':
        use_large_image_profile()
    reliability = ReliabilityPolicy[args.reliability.upper()]
    take_signals_as_interrupts()
    try:
        rclpy.init(signal_handler_options=SignalHandlerOptions.NO)
        node = rclpy.create_node(f'bench_{args.role}')
        if args.role == 'receive':
            _receive(node, QoSProfile(depth=1, reliability=reliability))
        else:
            _send(node, QoSProfile(depth=CAMERA_DEPTH, reliability=reliability), tuple(args.size),
                  args.frames)
    except KeyboardInterrupt:
        pass
    finally:
        rclpy.try_shutdown()


if __name__ == '__main__':
    main()
