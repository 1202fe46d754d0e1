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

"""What rclpy's lifecycle nodes lack: transitions that report errors and survive them."""

from functools import wraps
import traceback

from rclpy.exceptions import ParameterException
from rclpy.lifecycle import LifecycleNode, TransitionCallbackReturn

from segnet_ros.ros.parameters import parameter_error


def transition(undo: str = ''):
    """
    Wrap a transition callback: log what it raises, which rclpy would swallow.

    The callback made returns SUCCESS, FAILURE (with undo) or ERROR.

    :param undo: name of the method that undoes a failed transition, so that the node stays in its
        previous state; without it the node goes through error processing.
    """
    def decorate(method):
        @wraps(method)
        def wrapper(self, state):
            try:
                method(self)
                if method.__name__ != 'on_error':  # follows an error that is still to be reported
                    self.transition_error = ''
                return TransitionCallbackReturn.SUCCESS
            except ParameterException as error:
                reason = parameter_error(error)
            except (ValueError, OSError) as error:
                reason = str(error)
            except Exception:  # noqa: BLE001 anything else is a bug: show where
                reason = '\n' + traceback.format_exc()
            name = method.__name__[3:]
            self.get_logger().error(f'{name} failed: {reason}')
            self.transition_error = f'{name} failed: {(reason.splitlines() or [""])[-1]}'
            if not undo:
                return TransitionCallbackReturn.ERROR
            getattr(self, undo)()
            return TransitionCallbackReturn.FAILURE
        return wrapper
    return decorate


def state_of(node: LifecycleNode) -> str:
    """Return the name of the node's state, such as 'inactive'."""
    return node._state_machine.current_state[1]


def refuse_impossible_transitions(node: LifecycleNode):
    """
    Answer a ChangeState that does not fit the node's state with success: false.

    Jazzy's rclpy raises out of the executor instead, which would end the process, e.g. when a
    lifecycle manager configures a node that has autostarted (ros2/rclpy#1209). Kilted's refuses it
    too, but does not say what to do.
    """
    service = node._service_change_state
    change_state = service.callback

    def callback(request, response):
        asked = request.transition
        # By label if there is one, as rclpy does.
        if any(asked.label == label if asked.label else asked.id == number
               for number, label, *_ in node._state_machine.available_transitions):
            return change_state(request, response)
        hint = ('; a lifecycle manager needs the parameter autostart: false'
                if node.get_parameter('autostart').value else '')
        node.get_logger().error(
            f'{asked.label or f"transition {asked.id}"} is not possible while the node is '
            f'{state_of(node)}{hint}')
        response.success = False
        return response

    service.callback = callback
