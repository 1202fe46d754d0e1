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


class _Forward(nn.Module):
    """A module's forward: torch puts the captured one in the place of that which it is given."""

    def __init__(self, module: nn.Module):
        super().__init__()
        self.module = module

    def forward(self, *arguments: torch.Tensor):
        return self.module(*arguments)


def training_graph(module: nn.Module, arguments: tuple[torch.Tensor, ...]) -> Callable:
    """
    Return the module's forward, captured, with the gradients of its parameters in a second graph.

    A training step of a SegNet is thousands of kernels: an H100 computes them in half the time
    that Python takes to launch them.

    :param arguments: that stand for all others: theirs must have the same shapes and dtypes.
    """
    # What is run before capture would be counted in the statistics of batch normalisation.
    before = [buffer.clone() for buffer in module.buffers()]
    # Pinned memory of an earlier run that is collected meanwhile ends a capture.
    gc.collect()
    gc.disable()
    try:
        graph = torch.cuda.make_graphed_callables(_Forward(module), arguments)
    finally:
        gc.enable()
    for buffer, value in zip(module.buffers(), before, strict=True):
        buffer.copy_(value)
    return graph
