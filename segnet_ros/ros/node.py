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

"""SegNetNode: the lifecycle node that segments images; sets up cameras and workers."""

from collections.abc import Iterable
import threading
import time

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from rcl_interfaces.msg import SetParametersResult
from rclpy.clock import Clock, ClockType
from rclpy.exceptions import ParameterException
from rclpy.lifecycle import LifecycleNode
from rclpy.qos_overriding_options import QoSOverridingOptions
from std_srvs.srv import SetBool
import torch

from segnet_ros.checkpoint import find_weights, load_checkpoint
from segnet_ros.memory import resident_bytes
from segnet_ros.processes import Ending
from segnet_ros.ros.camera import Camera
from segnet_ros.ros.frame_slots import NewestFrames
from segnet_ros.ros.lifecycle import refuse_impossible_transitions, state_of, transition
from segnet_ros.ros.monitor import state_status
from segnet_ros.ros.outputs import LabelInfo
from segnet_ros.ros.parameters import (
    class_specs, declare, has_default, PARAMETERS, ParameterSpec,
    parse_camera_names, parse_size, qos_errors_named, refusal)
from segnet_ros.ros.settings import Settings
from segnet_ros.ros.worker import cpu_threads, Worker
from segnet_ros.runtime import choose_device, choose_precision, device_name, prepare
from segnet_ros.segmenter import fit_input_size, Segmenter

WATCH_PERIOD = 0.5  # seconds between checks of who publishes images
SIGNAL_PERIOD = 0.2  # seconds within which a signal is noticed
IDLE_PERIOD = 1.0  # seconds between messages on /diagnostics while the node is not active
HUNG_SECONDS = 30.0  # with no frame finished, after which a worker or GPU counts as hung
# For workers to finish once the process is to end. `ros2 launch` kills ten seconds after SIGINT,
# and a killed process leaves its Fast DDS shared memory behind.
END_SECONDS = 8.0


class SegNetNode(LifecycleNode):
    """
    Segments the images of one or several cameras with one network.

    Images are received in the executor's thread and segmented in a worker's, so that the newest
    frame is always taken next. Several workers overlap: while one computes, another decodes,
    copies or publishes.
    """

    def __init__(self, **kwargs):
        # First what destroy_node() needs: Kilted's rclpy calls it even if the rest of this raises.
        self._state_machine = None
        self._specs = {spec.name: spec for spec in PARAMETERS}
        self._configured = self._hung = False
        self.enabled = True
        self.ending = Ending()  # once it is asked for, workers get less time
        self.failure: str | None = None  # why the process must end, if it must
        self.transition_error = ''  # of the last transition
        self._cameras: list[Camera] = []
        self._network = self._info = self._frames = self._device = None
        self._workers: list[threading.Thread] = []
        self.settings: Settings | None = None
        self._timers_running = []
        super().__init__('segnet', **kwargs)
        refuse_impossible_transitions(self)
        declare(self, PARAMETERS)
        self.add_on_set_parameters_callback(self._on_set_parameters)
        self.add_post_set_parameters_callback(self._on_parameters_set)
        self.create_service(SetBool, '~/enable', self._on_enable)
        with qos_errors_named('/diagnostics'):
            self._diagnostics = self.create_publisher(
                DiagnosticArray, '/diagnostics', 10,
                qos_overriding_options=QoSOverridingOptions.with_default_policies())
        # Steady time: a paused bag or a clock that jumps must not silence the node.
        self._steady = Clock(clock_type=ClockType.STEADY_TIME)
        self.create_timer(IDLE_PERIOD, self._publish_state, clock=self._steady)

    def _value(self, name: str):
        return self.get_parameter(name).value

    @transition(undo='_release')
    def on_configure(self):
        """Load the network, declare its classes' parameters, set up the topics."""
        self._check_parameters(spec.name for spec in PARAMETERS)
        path = find_weights(self._value('weights'))
        device = self._device = choose_device(self._value('device'))
        dtype = choose_precision(self._value('precision'), device)
        network, self._info = load_checkpoint(path)
        self._network = prepare(network, device, dtype)
        # A network's first run is slow: do it here, not on the first camera frame, which newer
        # ones would overtake.
        self._build_segmenter(self._info.input_size)
        self._facts = {'device': device_name(device), 'precision': str(dtype).split('.')[1],
                       'weights': str(path)}
        label_set = self._info.label_set
        self._declare_classes(class_specs(label_set.class_names, label_set.colors))
        self.settings = Settings.read(self, label_set)
        # One by one: if the second cannot be set up, _release() must find the first.
        for name in parse_camera_names(self._value('camera_names')):
            self._cameras.append(Camera(self, name, label_set, self._build_segmenter))
        if LabelInfo is None:
            self.get_logger().warning('vision_msgs is not installed: no label_info is published')
        self._configured = True
        self.get_logger().info(
            f'{self._info.architecture} of width {self._info.width} with '
            f"{len(label_set)} classes on {self._facts['device']} in {self._facts['precision']}, "
            f'weights {path}')

    @transition(undo='_stop')
    def on_activate(self):
        """Publish the latched class names and legend, then start taking frames."""
        self._frames = NewestFrames()
        for camera in self._cameras:
            camera.outputs.publish_latched(self.settings)
            camera.start(self._frames)
        parallel = self._value('parallel_frames')
        # Together they use as many CPU threads as one worker would.
        threads = max(1, cpu_threads() // parallel)
        batched = len(self._cameras) if self._device.type == 'cuda' else 0
        self._workers = [
            threading.Thread(target=Worker(self, self._frames, batched).run, args=(threads,),
                             daemon=True) for _ in range(parallel)]
        for thread in self._workers:
            thread.start()
        periods = {self._watch: WATCH_PERIOD, self._diagnose: self._value('diagnostics_period')}
        self._timers_running = [self.create_timer(period, callback, clock=self._steady)
                                for callback, period in periods.items() if period]
        self._warn_of_unknown_parameters()

    @transition()
    def on_deactivate(self):
        """Stop taking frames."""
        self._stop()

    @transition()
    def on_cleanup(self):
        """Release the network, buffers and topics; end a pause too."""
        self._release()
        self.enabled = True

    @transition()
    def on_shutdown(self):
        """Stop and release everything, from any state."""
        self._release()

    @transition()
    def on_error(self):
        """Release everything and return to unconfigured."""
        self._release()

    def _stop(self):
        for timer in self._timers_running:
            self.destroy_timer(timer)
        self._timers_running = []
        for camera in self._cameras:
            camera.stop()
        if self._workers:
            for camera in self._frames.close():
                camera.monitor.count('dropped')
            begun = time.monotonic()
            end = begun + HUNG_SECONDS
            for thread in self._workers:
                while thread.is_alive() and time.monotonic() < end:
                    thread.join(SIGNAL_PERIOD)
                    if self.ending.is_asked():
                        end = min(end, time.monotonic() + END_SECONDS)
            if any(thread.is_alive() for thread in self._workers):
                self.give_up(f'a worker hangs: not stopped in {time.monotonic() - begun:.0f} s')
            self._workers = []

    def _release(self):
        self._stop()
        if self._network is not None and self._device.type == 'cuda' and not self.failure:
            try:  # a GPU can be lost while it is idle
                torch.cuda.synchronize(self._device)
            except RuntimeError as error:
                self.lose_device(error)
        if self.failure:
            return  # a hung worker still holds everything, and a lost GPU frees nothing
        for camera in self._cameras:
            camera.destroy()
        self._cameras = []
        self._network = self._info = self._frames = None
        self._configured = False
        if torch.cuda.is_initialized():
            torch.cuda.empty_cache()

    def _check_parameters(self, names: Iterable[str]):
        for name in names:
            reason = refusal(self.get_parameter(name), self._specs, False)
            if reason:
                raise ValueError(reason)

    def _declare_classes(self, specs: list[ParameterSpec]):
        """Declare the classes' parameters in place of those for other weights or colours."""
        names = {spec.name for spec in specs}
        for old in [s for s in self._specs.values() if s not in (*PARAMETERS, *specs)]:
            if old.name not in names or has_default(self, old):
                self.undeclare_parameter(old.name)
                del self._specs[old.name]
        for spec in specs:
            declare(self, [spec])  # may raise; _specs must know those before it, to undeclare them
            self._specs[spec.name] = spec
        self._check_parameters(names)

    def _warn_of_unknown_parameters(self):
        """Warn of unknown parameters that were given: a misspelt alert would never come."""
        unknown = sorted(n for n in self._parameter_overrides if not self.has_parameter(n))
        if unknown:
            self.get_logger().warning(
                f'{", ".join(unknown)}: this node has no such parameters and ignores them; '
                '`ros2 param list` shows those that it has')

    def _build_segmenter(self, camera_size: tuple[int, int]) -> Segmenter:
        network_size = (parse_size(self._value('network_size'), ('auto',))
                        or fit_input_size(self._info.input_size, camera_size))
        output = self._value('output_size')
        output_size = (network_size if output == 'network'
                       else parse_size(output, ('input',)) or camera_size)
        return Segmenter(self._network, self._info, camera_size, network_size, output_size)

    def _watch(self):
        for camera in self._cameras:
            camera.watch(self.settings)
        # A driver that hangs raises no error; a CPU is only slow. It must be found twice: once is
        # no more than a process that was frozen (docker pause) finds when it goes on.
        hangs = self._device.type == 'cuda' and any(
            camera.monitor.stuck_seconds() > HUNG_SECONDS for camera in self._cameras)
        if hangs and self._hung:
            self.give_up(f'the GPU hangs: no frame finished for {HUNG_SECONDS:.0f} s')
        self._hung = hangs

    def _publish_state(self):
        """Report the state and last error on /diagnostics while the node is not active."""
        if self._timers_running or not self._value('diagnostics_period'):
            return
        try:
            names = parse_camera_names(self._value('camera_names'))
        except (ValueError, ParameterException):  # which on_configure reports
            names = ['']
        self._publish_diagnostics([
            state_status(self._status_name(name), state_of(self), self.transition_error)
            for name in names])

    def _diagnose(self):
        facts = {**self._facts, 'memory': _memory(self._device), 'enabled': str(self.enabled)}
        clock = self.get_clock()
        trouble = ('use_sim_time is set, but nothing is published on /clock'
                   if clock.ros_time_is_active and not clock.now().nanoseconds else '')
        self._publish_diagnostics([
            camera.monitor.status(self._status_name(camera.name), facts, self.settings,
                                  not self.enabled, trouble)
            for camera in self._cameras])

    def _status_name(self, camera_name: str) -> str:
        return f'{self.get_fully_qualified_name()[1:]}: {camera_name or "camera"}'

    def _publish_diagnostics(self, statuses: list[DiagnosticStatus]):
        msg = DiagnosticArray(status=statuses)
        msg.header.stamp = self.get_clock().now().to_msg()
        self._diagnostics.publish(msg)

    def _on_set_parameters(self, parameters) -> SetParametersResult:
        for parameter in parameters:
            reason = refusal(parameter, self._specs, self._configured)
            if reason:
                return SetParametersResult(successful=False, reason=reason)
        return SetParametersResult(successful=True)

    def _on_parameters_set(self, parameters):
        changed = {p.name for p in parameters} & {s.name for s in self._specs.values() if s.live}
        if not (self._configured and changed):
            return
        self.settings = Settings.read(self, self._info.label_set)
        if self._timers_running:  # else on_activate publishes it
            for camera in self._cameras:
                camera.outputs.publish_latched(self.settings)

    def _on_enable(self, request: SetBool.Request, response: SetBool.Response):
        self.enabled = request.data
        response.success = True
        response.message = ('paused' if not request.data else 'segmenting' if self._timers_running
                            else f'will segment once active; now {state_of(self)}')
        return response

    def lose_device(self, error: Exception):
        """Note that the GPU failed: CUDA returns errors to this process from now on."""
        self.give_up(f'this process can no longer use the GPU ({error})')

    def give_up(self, reason: str):
        """Note and log why this process cannot go on, so that main() ends it."""
        if self.failure is None:
            self.failure = reason
            self.get_logger().fatal(
                f'{reason}; ending the process so that it can be restarted (respawn:=true in '
                'segnet.launch.py)')

    def destroy_node(self):
        """Stop the workers and release everything before the node is destroyed."""
        self.ending.ask()
        try:
            self._release()
        finally:
            super().destroy_node()
            # The state machine holds the node's handle, and so Fast DDS's shared memory, until it
            # is garbage-collected, which never happens in a process that ends at once.
            if self._state_machine is not None:
                self._state_machine.destroy_when_not_in_use()


def _memory(device: torch.device) -> str:
    resident = f'{resident_bytes() / 2**20:.0f} MiB resident'
    if device.type == 'cuda':
        return f'{resident}, {torch.cuda.memory_reserved(device) / 2**20:.0f} MiB of the GPU'
    return resident
