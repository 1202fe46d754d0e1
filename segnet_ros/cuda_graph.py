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
All that is CUDA's alone: pinned memory, the side stream, capture, replay and waiting.

A captured graph replays fixed kernels on fixed addresses, so whatever it reads and writes must be
allocated before, live as long as the graph, and have shapes that do not depend on data.
"""

from collections.abc import Callable
import gc
import threading

import torch
from torch import nn

WARM_UP_RUNS = 3  # cuDNN chooses its algorithms and the allocator settles before capture

# One capture at a time in a process, says torch; and what begins one waits for the whole device,
# which ends any other.
_CAPTURING = threading.Lock()


def host_buffer(shape: tuple[int, ...], dtype: torch.dtype, device: torch.device) -> torch.Tensor:
    """Return host memory, pinned where a CUDA device copies to or from it."""
    return torch.zeros(shape, dtype=dtype, pin_memory=device.type == 'cuda')


class CudaGraph:
    """Stages captured once; run() replays them on a stream of its own."""

    def __init__(self, stages: Callable[[], object], device: torch.device):
        self._device = device
        self._stream = torch.cuda.Stream(device)
        self._done = torch.cuda.Event(blocking=True)  # waiting sleeps, or it would take a core
        self._graph = torch.cuda.CUDAGraph()
        with _CAPTURING:
            self._capture(stages)

    def _capture(self, stages: Callable[[], object]):
        # torch deals streams out of pools of 32 and begins anew when they are used up. One of the
        # pool of high priority, and one capture at a time: no other graph runs on it meanwhile.
        stream = torch.cuda.Stream(self._device, priority=-1)
        stream.wait_stream(torch.cuda.current_stream(self._device))
        with torch.cuda.device(self._device), torch.cuda.stream(stream):
            for _ in range(WARM_UP_RUNS):
                stages()
            stream.synchronize()
            # Other threads may work on the device meanwhile.
            with torch.cuda.graph(self._graph, stream=stream,
                                  capture_error_mode='thread_local'):
                # Tensors made during capture live in the graph's pool: keep what is returned.
                self._kept = stages()

    def run(self, before: Callable[[], None], after: Callable[[], None]):
        """Enqueue copies in, the graph and copies out, in order, and wait for the last."""
        # What the caller has set since (palette, threshold) was enqueued on its own stream.
        self._stream.wait_stream(torch.cuda.current_stream(self._device))
        with torch.cuda.device(self._device), torch.cuda.stream(self._stream):
            before()
            self._graph.replay()
            after()
            self._done.record(self._stream)
        # Waiting on the event lets other Python threads run; it holds no lock.
        self._done.synchronize()


class _Step(nn.Module):
    """A module's parameters under another forward: torch puts the captured one in its place."""

    def __init__(self, module: nn.Module, step: Callable):
        super().__init__()
        self.module, self._step = module, step

    def forward(self, *arguments: torch.Tensor):
        return self._step(*arguments)


def training_graph(module: nn.Module, step: Callable,
                   arguments: tuple[torch.Tensor, ...]) -> Callable:
    """
    Return a step captured, with the gradients of the module's parameters in a second graph.

    A training step of a SegNet is thousands of kernels: an H100 computes them in half the time
    that Python takes to launch them. The gradients are the graph's own memory, written anew by
    every backward, so a parameter's `grad` must be None before each.

    :param module: in training mode, which is what its graph stays in.
    :param step: what is captured: takes tensors, returns tensors, and uses all parameters.
    :param arguments: that stand for all others: theirs must have the same shapes and dtypes.
    """
    # What is run before capture would be counted in the statistics of batch normalisation.
    before = [buffer.clone() for buffer in module.buffers()]
    # What an earlier run left may call CUDA when it is collected, which would end a capture.
    collects = gc.isenabled()
    gc.collect()
    gc.disable()
    try:
        with _CAPTURING:
            return torch.cuda.make_graphed_callables(_Step(module, step), arguments)
    finally:
        if collects:
            gc.enable()
        for buffer, value in zip(module.buffers(), before, strict=True):
            buffer.copy_(value)
