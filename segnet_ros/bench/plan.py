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

"""What a benchmark measures and how long: sizes, widths, repetitions, device and weights."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from segnet_ros.checkpoint import (
    find_weights, load_checkpoint, ModelInfo, read_info, save_checkpoint)
from segnet_ros.labels import load_label_set
from segnet_ros.runtime import choose_device, choose_precision, prepare
from segnet_ros.sample_drive.drive import SampleDrive
from segnet_ros.segmenter import Segmenter

Size = tuple[int, int]  # (height, width) in pixels

HALF_WIDTH = 0.5


@dataclass(frozen=True)
class Plan:
    """
    One benchmark.

    :param weights: file of the network that segmenters and nodes run; `info` is its metadata.
    :param network_size: input size of networks that are measured by themselves.
    :param main_size: camera size for parts that measure only one.
    :param rounds: how often networks and segmenters are timed.
    :param node_rounds: how often each node is saturated, with node_frames frames.
    :param latency_frames: frames whose latency is measured.
    :param seconds: how long frames are sent, to see how many are delivered.
    :param matrix_side: side of the matrices whose product stands for what the machine can do.
    """

    device: torch.device
    dtype: torch.dtype
    weights: Path
    info: ModelInfo
    network_size: Size = (352, 480)
    widths: tuple[float, ...] = (1.0, 0.5, 0.25)
    camera_sizes: tuple[Size, ...] = ((480, 640), (720, 1280), (1080, 1920))
    main_size: Size = (720, 1280)
    rounds: int = 25
    node_rounds: int = 5
    node_frames: int = 40
    latency_frames: int = 300
    seconds: float = 10.0
    matrix_side: int = 4096

    @property
    def precision(self) -> str:
        """Return the dtype as the node's parameter names it."""
        return str(self.dtype).removeprefix('torch.')

    @property
    def float_dtype(self) -> torch.dtype:
        """Return the dtype; for int8, the floating point dtype that it is compared with."""
        return self.dtype if self.dtype != torch.int8 else choose_precision('auto', self.device)

    def segmenter(self, camera_size: Size) -> Segmenter:
        """Return a segmenter as the node makes it."""
        network, info = load_checkpoint(self.weights)
        return Segmenter(prepare(network, self.device, self.dtype), info, camera_size)


# Enough to see that everything runs; the numbers say little.
QUICK: dict[str, Any] = {
    'rounds': 2, 'node_rounds': 2, 'node_frames': 6, 'latency_frames': 10, 'seconds': 1.0,
    'matrix_side': 1024}


def make_plan(weights: str | None, device: str, scratch: Path, quick: bool = False,
              precision: str = 'auto') -> Plan:
    """
    Return the plan for this machine.

    :param weights: by path or shipped name; None for random ones of half width, which take as
        long as trained ones. They are written into the folder `scratch`, for nodes to read.
    :param precision: of networks, segmenters and nodes; one of runtime.PRECISIONS or 'auto'.
    :raises ValueError, FileNotFoundError, CheckpointError: if weights or device are missing.
    """
    if weights is None:
        path = scratch / 'random.safetensors'
        info = ModelInfo(label_set=load_label_set('camvid11'), width=HALF_WIDTH)
        torch.manual_seed(0)
        save_checkpoint(path, info.build(), info)
    else:
        path = find_weights(weights)
    chosen = choose_device(device)
    return Plan(chosen, choose_precision(precision, chosen), path, read_info(path),
                **(QUICK if quick else {}))


def street(size: Size) -> np.ndarray:
    """Return a picture of a street, (H, W, 3) uint8 RGB; noise would not compress like one."""
    return SampleDrive(0, size).frame(0)[0]


def size_name(size: Size) -> str:
    """Return 'WIDTHxHEIGHT', as camera sizes are written."""
    return f'{size[1]}x{size[0]}'
