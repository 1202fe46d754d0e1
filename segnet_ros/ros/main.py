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

"""The process of `segnet_node`: signals, autostart, the executor, and a guaranteed exit."""

import os
import signal
import sys
import time

try:
    import rclpy
    from rclpy.exceptions import ParameterException
    from rclpy.executors import SingleThreadedExecutor
    from rclpy.lifecycle import TransitionCallbackReturn
    from rclpy.signals import SignalHandlerOptions

    from segnet_ros.memory import keep_freed_memory
    from segnet_ros.processes import Ending, ending_signals, ignore_signals
    from segnet_ros.ros.large_images import use_large_image_profile
    from segnet_ros.ros.node import SegNetNode, SIGNAL_PERIOD
    from segnet_ros.ros.parameters import parameter_error
except KeyboardInterrupt:  # Ctrl-C in the seconds that PyTorch takes to import
    sys.exit()


def main(args=None) -> int:
    """Run the node until SIGINT, SIGTERM or SIGHUP, or until it fails; return the exit code."""
    # A signal only requests shutdown, which then goes in order: workers, topics, context. rclpy's
    # own handlers would shut the context down while the workers use it, and Python's would raise
    # KeyboardInterrupt anywhere, even twice: `ros2 launch` and the terminal both send SIGINT.
    stop = Ending()
    for number in ending_signals():
        signal.signal(number, lambda *_: stop.ask())
    use_large_image_profile()
    keep_freed_memory()
    started = time.monotonic()
    try:
        rclpy.init(args=args, signal_handler_options=SignalHandlerOptions.NO)
    except RuntimeError as error:  # rcl cannot read an argument or a parameters file
        print(f'segnet_node: {error}', file=sys.stderr)
        return 1
    node = executor = None
    try:
        node = SegNetNode()
        node.ending = stop
        if node.get_parameter('autostart').value:
            for trigger in (node.trigger_configure, node.trigger_activate):
                if stop.is_asked():
                    return 0
                if trigger() != TransitionCallbackReturn.SUCCESS:
                    return 1
            node.get_logger().info(f'active after {time.monotonic() - started:.1f} s')
        executor = SingleThreadedExecutor()
        executor.add_node(node)
        while not (stop.is_asked() or node.failure):
            executor.spin_once(timeout_sec=SIGNAL_PERIOD)
        return 0
    except ParameterException as error:
        print(f'segnet_node: {parameter_error(error)}', file=sys.stderr)
        return 1
    finally:
        ignore_signals()
        _end(node, executor)


def _end(node: SegNetNode | None, executor: SingleThreadedExecutor | None):
    """Shut down executor and node; if the node has failed, exit the process at once."""
    try:
        if executor is not None:
            executor.shutdown()  # or Kilted's raises when it is garbage-collected
        if node is not None:
            node.destroy_node()
    finally:
        rclpy.try_shutdown()
        if node is not None and node.failure:
            # Skip Python's and CUDA's own shutdown, which may crash or hang if a worker does.
            sys.stderr.flush()
            os._exit(1)


if __name__ == '__main__':
    sys.exit(main())
