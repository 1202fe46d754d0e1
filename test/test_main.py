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

"""Check how the node's process ends; test_end_to_end.py sends it signals while it segments."""

import os
import signal
import subprocess
import sys
import threading
from unittest.mock import MagicMock

import pytest
from rclpy.lifecycle import LifecycleNodeMixin, TransitionCallbackReturn
from rclpy.node import Node
from ros_domain import free_domain
from small_network import write_small_checkpoint
import torch

from segnet_ros.ros import main as main_module, node as node_module


@pytest.mark.parametrize('parameter, words, hint', [
    ('max_rate:=10', "'max_rate'", True),
    ('alert_fractions.car:=1', "'alert_fractions.car'", True),  # declared when configured
    ('jpeg_quality:=0', 'jpeg_quality', False),
    ('weights:=7', "'weights'", False),
    ('qos_overrides./diagnostics.publisher.reliability:=sure', '/diagnostics: Unexp', False),
    ('qos_overrides./mask.publisher.reliability:=sure', ' mask: Unexpected QoS', False),
    ('qos_overrides./image.subscription.history:=long', ' image: Unexpected QoS', False),
    ('qos_overrides./camera_info.subscription.durability:=latched', ' camera_info: Une', False)])
def test_a_value_that_does_not_fit_is_told_in_one_line(capfd, tmp_path, parameter, words, hint):
    weights = write_small_checkpoint(tmp_path / 'small.safetensors')
    assert main_module.main(['--ros-args', '-p', f'weights:={weights}', '-p', parameter]) == 1
    told = capfd.readouterr().err.splitlines()
    line, = [line for line in told if words in line]
    assert ('needs a decimal point: 10.0, not 10' in line) == hint
    assert not any('Traceback' in line for line in told)


def test_what_rcl_cannot_read_is_told_without_a_traceback(capfd, tmp_path):
    broken = tmp_path / 'broken.yaml'
    broken.write_text('/**:\n  ros__parameters:\n  weights: x\n bad')
    for arguments, words in ((['--params-file', str(broken)], str(broken)),
                             (['-r', 'front-camera/image:=/a'], 'front-camera/image')):
        assert main_module.main(['--ros-args', *arguments]) == 1
        told = capfd.readouterr().err
        assert 'segnet_node: ' in told and words in told and 'Traceback' not in told


@pytest.mark.parametrize('when', ['__init__', 'on_configure'])
def test_a_signal_at_start_ends_the_process_before_the_next_step(monkeypatch, tmp_path, when):
    steps = []

    class Told(node_module.SegNetNode):

        def __init__(self):
            super().__init__()
            self.step('__init__')

        def on_configure(self, state):
            self.step('on_configure')
            return super().on_configure(state)

        def on_activate(self, state):
            self.step('on_activate')
            return super().on_activate(state)

        def step(self, name):
            steps.append(name)
            if name == when:
                signal.raise_signal(signal.SIGTERM)
    monkeypatch.setattr(main_module, 'SegNetNode', Told)
    weights = write_small_checkpoint(tmp_path / 'small.safetensors')
    assert main_module.main(['--ros-args', '-p', f'weights:={weights}']) == 0
    assert steps[-1] == when


def test_a_node_made_in_part_can_be_destroyed(monkeypatch):
    """Kilted's rclpy destroys it, and an error there would hide the original one."""
    monkeypatch.setattr(LifecycleNodeMixin, '__init__', MagicMock(side_effect=RuntimeError('why')))
    made = []
    monkeypatch.setattr(Node, '__init__', lambda node, *args, **kwargs: made.append(node))
    monkeypatch.setattr(Node, 'destroy_node', lambda node: made.remove(node))
    with pytest.raises(RuntimeError, match='why'):
        node_module.SegNetNode()
    node, = made
    node.destroy_node()
    assert not made


@pytest.fixture
def ended(monkeypatch):
    """Replace os._exit; return the list of exit codes that it was called with."""
    codes = []
    monkeypatch.setattr(main_module.os, '_exit', codes.append)
    return codes


def test_the_process_ends_with_an_error_when_the_gpu_is_lost(monkeypatch, capfd, ended):
    class Unlucky(node_module.SegNetNode):

        def __init__(self):
            super().__init__()
            for error in ('CUDA error: an illegal memory access', 'CUDA error: and on'):
                self.lose_device(RuntimeError(error))
    monkeypatch.setattr(main_module, 'SegNetNode', Unlucky)
    main_module.main(['--ros-args', '-p', 'autostart:=false'])
    assert ended == [1]
    told = capfd.readouterr().err
    assert told.count('can no longer use the GPU') == 1 and 'an illegal memory access' in told


def test_a_gpu_that_is_lost_while_idle_is_found_when_it_is_given_back(monkeypatch, capfd, ended):
    def lost(device):
        raise RuntimeError(f'CUDA error on {device}')

    monkeypatch.setattr(node_module.torch.cuda, 'synchronize', lost)
    monkeypatch.setattr(node_module.torch.cuda, 'empty_cache', lambda: pytest.fail('of no use'))

    class Idle(node_module.SegNetNode):

        def __init__(self):
            super().__init__()
            self._device, self._network = torch.device('cuda', 1), object()
            assert self.on_cleanup(None) == TransitionCallbackReturn.SUCCESS
    monkeypatch.setattr(main_module, 'SegNetNode', Idle)
    main_module.main(['--ros-args', '-p', 'autostart:=false'])
    assert ended == [1]
    assert 'this process can no longer use the GPU (CUDA error on cuda:1)' in (
        capfd.readouterr().err)


def test_a_worker_that_hangs_does_not_keep_the_process(monkeypatch, capfd, tmp_path, ended):
    monkeypatch.setattr(node_module, 'END_SECONDS', 0.2)
    woken, hurried = threading.Event(), []

    class Hanging(node_module.SegNetNode):

        def on_activate(self, state):
            result = super().on_activate(state)
            self._workers.append(threading.Thread(target=woken.wait, daemon=True))
            self._workers[-1].start()
            signal.raise_signal(signal.SIGTERM)
            hurried.append(self.ending.is_asked())
            return result
    monkeypatch.setattr(main_module, 'SegNetNode', Hanging)
    weights = write_small_checkpoint(tmp_path / 'small.safetensors')
    try:
        main_module.main(['--ros-args', '-p', f'weights:={weights}'])
    finally:
        woken.set()
    assert ended == [1] and hurried == [True]
    assert 'a worker hangs' in capfd.readouterr().err


@pytest.mark.parametrize('trouble', ['hangs', 'is lost'])
def test_a_process_that_gives_up_leaves_no_shared_memory_behind(tmp_path, trouble):
    """It exits at once, and each restart would take another 70 MB."""
    weights = write_small_checkpoint(tmp_path / 'small.safetensors')
    program = f"""
import os, signal, threading
from segnet_ros.ros import main as main_module, node as node_module
node_module.END_SECONDS = 0.2
class Node(node_module.SegNetNode):
    def on_activate(self, state):
        result = super().on_activate(state)
        with open('/proc/self/maps') as maps:
            print(*{{l.split()[-1] for l in maps if '/dev/shm/fast' in l}}, flush=True)
        if '{trouble}' == 'hangs':
            self._workers.append(threading.Thread(target=threading.Event().wait, daemon=True))
            self._workers[-1].start()
            os.kill(os.getpid(), signal.SIGTERM)
        else:
            self.lose_device(RuntimeError('CUDA error'))
        return result
main_module.SegNetNode = Node
main_module.main(['--ros-args', '-p', 'weights:={weights}', '-p', 'device:=cpu'])
"""
    done = subprocess.run([sys.executable, '-c', program], text=True, capture_output=True,
                          env={**os.environ, 'ROS_DOMAIN_ID': free_domain()}, timeout=60)
    assert done.returncode == 1 and 'ending the process' in done.stderr, done.stderr
    files = done.stdout.split()
    assert any('port' not in file for file in files), 'Fast DDS has none of its own'
    assert not [file for file in files if os.path.exists(file) and 'port' not in file]


def test_ctrl_c_while_pytorch_is_imported_needs_no_traceback():
    program = """
import os, runpy, signal, sys
class Finder:
    def find_spec(self, name, path, target=None):
        if name == 'torch':
            os.kill(os.getpid(), signal.SIGINT)
sys.meta_path.insert(0, Finder())
runpy.run_module('segnet_ros.ros.main', run_name='__main__')
"""
    done = subprocess.run([sys.executable, '-c', program], text=True, capture_output=True,
                          timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (0, '', '')
