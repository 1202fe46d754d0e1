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

"""Check that Ctrl-C, SIGTERM and a closed terminal each ask a process to end."""

import signal
import subprocess
import sys

import pytest

from segnet_ros import processes
from segnet_ros.processes import (
    check_alive, Ending, ending_signals, ignore_signals, running, take_signals_as_interrupts)

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@pytest.fixture(autouse=True)
def hangup(signal_handlers):
    """Start with the default handler for SIGHUP, which nohup sets to ignored."""
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


@pytest.mark.parametrize('number', SIGNALS)
def test_each_is_an_interrupt(number):
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # as a shell does for a command that ends in &
    take_signals_as_interrupts()
    with pytest.raises(KeyboardInterrupt):
        signal.raise_signal(number)


@pytest.mark.parametrize('number', SIGNALS)
def test_a_second_signal_does_not_disturb_the_closing_of_files(monkeypatch, number):
    monkeypatch.setattr('time.monotonic', lambda: 5.0)
    take_signals_as_interrupts()
    with pytest.raises(KeyboardInterrupt):
        signal.raise_signal(number)
    for now in (5.0, 6.5, 34.0):  # the end of a long video is written in one call
        monkeypatch.setattr('time.monotonic', lambda now=now: now)
        for other in SIGNALS:
            signal.raise_signal(other)
    monkeypatch.setattr('time.monotonic', lambda: 36.0)  # something has swallowed the first
    with pytest.raises(KeyboardInterrupt):
        signal.raise_signal(number)


def test_nohup_s_wish_is_kept():
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    assert ending_signals() == (signal.SIGINT, signal.SIGTERM)
    take_signals_as_interrupts()
    signal.raise_signal(signal.SIGHUP)


@pytest.mark.timeout(20)
def test_a_signal_that_interrupts_another_one_s_handler_is_no_deadlock():
    """`ros2 launch` and the terminal both send SIGINT."""
    ending, interrupted = Ending(), []
    before = signal.signal(signal.SIGUSR1, lambda *_: ending.ask())

    def interrupt(frame, event, _):
        if event == 'line' and frame.f_lineno not in interrupted:
            interrupted.append(frame.f_lineno)
            signal.raise_signal(signal.SIGUSR1)
        return interrupt

    tracing = sys.gettrace()
    sys.settrace(interrupt)
    try:
        signal.raise_signal(signal.SIGUSR1)
    finally:
        sys.settrace(tracing)
        signal.signal(signal.SIGUSR1, before)
    assert ending.is_asked() and interrupted


def test_a_command_is_ended_without_a_traceback(capfd):
    code = 'print(flush=True); import time; time.sleep(60)'  # as good as an import
    with running([sys.executable, '-c', code], stdout=subprocess.PIPE) as process:
        process.stdout.readline()
    assert process.returncode == -signal.SIGTERM and not capfd.readouterr().err


def test_a_command_that_does_not_end_when_asked_is_killed(monkeypatch):
    monkeypatch.setattr(processes, 'END_TIMEOUT', 0.1)
    code = 'import signal, time; signal.signal(15, signal.SIG_IGN); print(flush=True)'
    with running([sys.executable, '-c', f'{code}; time.sleep(60)'],
                 stdout=subprocess.PIPE) as process:
        process.stdout.readline()
    assert process.returncode == -signal.SIGKILL


@pytest.mark.parametrize('code', [0, 3])
def test_a_node_that_has_ended_is_told_whatever_its_code(code):
    with running([sys.executable, '-c', f'input(); raise SystemExit({code})'],
                 stdin=subprocess.PIPE) as node:
        check_alive(node)
        node.communicate('\n')
        with pytest.raises(ValueError, match=f'the node exited with code {code}'):
            check_alive(node)


def test_late_signals_are_ignored():
    ignore_signals()
    assert {signal.getsignal(number) for number in SIGNALS} == {signal.SIG_IGN}
