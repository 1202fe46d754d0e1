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
All CUDA-only code: pinned memory, the side stream, capture, replay and waiting.

A captured graph replays fixed kernels on fixed addresses, so whatever it reads and writes must be
allocated beforehand, live as long as the graph, and have shapes that do not depend on data.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
import gc
import threading

import torch
from torch import nn

WARM_UP_RUNS = 3  # cuDNN chooses its algorithms and the allocator settles before capture

# torch allows one capture at a time in a process, and starting one synchronises the whole device,
# which would abort any other.
_ONE_CAPTURE = threading.Lock()


@contextmanager
def _capturing() -> Iterator[None]:
    """Keep away what would abort a capture: others, and garbage that calls CUDA when collected."""
    with _ONE_CAPTURE:
        collects = gc.isenabled()
        gc.collect()
        gc.disable()
        try:
            yield
        finally:
            if collects:
                gc.enable()


def host_buffer(shape: tuple[int, ...], dtype: torch.dtype, device: torch.device) -> torch.Tensor:
    """Return a host buffer, pinned if `device` is a CUDA device."""
    return torch.zeros(shape, dtype=dtype, pin_memory=device.type == 'cuda')


class CudaGraph:
    """Stages captured once; run() replays them on a stream of its own."""

    def __init__(self, stages: Callable[[], object], device: torch.device):
        self._device = device
        self._stream = torch.cuda.Stream(device)
        self._done = torch.cuda.Event(blocking=True)  # waiting sleeps instead of using a core
        self._graph = torch.cuda.CUDAGraph()
        with _capturing():
            self._capture(stages)

    def _capture(self, stages: Callable[[], object]):
        # torch hands out streams from pools of 32, round robin. This one is from the high-priority
        # pool, and captures run one at a time, so no other graph runs on it meanwhile.
        stream = torch.cuda.Stream(self._device, priority=-1)
        stream.wait_stream(torch.cuda.current_stream(self._device))
        with torch.cuda.device(self._device), torch.cuda.stream(stream):
            for _ in range(WARM_UP_RUNS):
                stages()
            stream.synchronize()
            # Other threads may use the device meanwhile.
            with torch.cuda.graph(self._graph, stream=stream,
                                  capture_error_mode='thread_local'):
                # Tensors made during capture live in the graph's pool: keep what is returned.
                self._kept = stages()

    def run(self, before: Callable[[], None], after: Callable[[], None]):
        """Enqueue copies in, the graph and copies out, in order, and wait for the last."""
        # Settings (palette, threshold) changed since the last run are in the caller's stream.
        self._stream.wait_stream(torch.cuda.current_stream(self._device))
        with torch.cuda.device(self._device), torch.cuda.stream(self._stream):
            before()
            self._graph.replay()
            after()
            self._done.record(self._stream)
        # Waiting on the event releases the GIL, so other Python threads run.
        self._done.synchronize()


class _Step(nn.Module):
    """A module's parameters with another forward, which torch replaces by the captured one."""

    def __init__(self, module: nn.Module, step: Callable):
        super().__init__()
        self.module, self._step = module, step

    def forward(self, *arguments: torch.Tensor):
        return self._step(*arguments)


def training_graph(module: nn.Module, step: Callable,
                   arguments: tuple[torch.Tensor, ...]) -> Callable:
    """
    Return the captured step, with the gradients of the module's parameters in a second graph.

    A training step of a SegNet is thousands of kernels: an H100 computes them in half the time
    that Python takes to launch them. The gradients are in the graph's own memory, which every
    backward overwrites, so a parameter's `grad` must be None before each.

    :param module: in training mode, which is fixed in the graph.
    :param step: the function to capture; takes and returns tensors, and uses all parameters.
    :param arguments: example tensors; all later calls need the same shapes and dtypes.
    """
    # The warm-up runs before capture would change the statistics of batch normalisation.
    before = [buffer.clone() for buffer in module.buffers()]
    try:
        with _capturing():
            return torch.cuda.make_graphed_callables(_Step(module, step), arguments)
    finally:
        for buffer, value in zip(module.buffers(), before, strict=True):
            buffer.copy_(value)
