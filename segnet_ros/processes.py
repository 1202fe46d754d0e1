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

"""Signals of this process, and commands that run during a `with` block."""

from collections.abc import Iterator
from contextlib import contextmanager
import math
import signal
import subprocess
import time

END_TIMEOUT = 10.0  # seconds
CLOSING = 30.0  # seconds for closing files, which further signals must not disturb
SOME_LEFT_OUT = 3  # exit code of verbs; 2 is argparse's


def take_signals_as_interrupts():
    """
    Make SIGTERM and SIGHUP end this process as Ctrl-C does, so that files are closed properly.

    SIGINT is set too, since a shell makes commands started with & ignore it. nohup still works.
    """
    last = -math.inf

    def interrupt(*_):
        # A terminal and `ros2 launch` both send SIGINT, a shell and the kernel SIGHUP, and people
        # press Ctrl-C again. Not for ever, as a library may swallow the first interrupt.
        nonlocal last
        now = time.monotonic()
        if now > last + CLOSING:
            last = now
            raise KeyboardInterrupt

    for number in ending_signals():
        signal.signal(number, interrupt)


def ignore_signals():
    """
    Ignore the signals that ask this process to end, because it ends already.

    Python removes its handlers before the process is gone; a late signal would kill it then.
    """
    for number in ending_signals():
        signal.signal(number, signal.SIG_IGN)


class Ending:
    """
    Whether this process was asked to end; for signal handlers.

    A threading.Event's lock may be held by the very code that a signal interrupted, such as the
    handler of the signal before, which would then never go on.
    """

    def __init__(self):
        self._is_asked = False

    def ask(self):
        """Ask the process to end."""
        self._is_asked = True

    def is_asked(self) -> bool:
        """Tell whether it was asked to end."""
        return self._is_asked


def ending_signals() -> tuple[signal.Signals, ...]:
    """Return the signals that ask a process to end; SIGHUP only if it is not ignored."""
    hangup = signal.getsignal(signal.SIGHUP) != signal.SIG_IGN
    return (signal.SIGINT, signal.SIGTERM, *[signal.SIGHUP] * hangup)


@contextmanager
def running(command: list[str], **kwargs) -> Iterator[subprocess.Popen]:
    """
    Run a command during the block; then ask it to end, and kill it if it does not.

    By SIGTERM, since a Python that is still importing meets SIGINT with a traceback.
    """
    process = subprocess.Popen(command, text=True, **kwargs)
    try:
        yield process
    finally:
        if process.poll() is None:
            process.terminate()
            try:
                process.wait(END_TIMEOUT)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def check_alive(node: subprocess.Popen):
    """Raise ValueError if the node's process has ended."""
    if node.poll() is not None:
        raise ValueError(f'the node exited with code {node.returncode}; see its message above')
