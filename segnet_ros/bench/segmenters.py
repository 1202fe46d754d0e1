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

"""The segmenter: array in, arrays out; as a whole, stage by stage, and over many frames."""

from collections import defaultdict
from collections.abc import Callable
from functools import partial
import gc
from statistics import median
import time

import numpy as np
import torch

from segnet_ros.bench.networks import network_runner
from segnet_ros.bench.plan import Plan, size_name, street
from segnet_ros.bench.timing import milliseconds, Progress, time_in_turns
from segnet_ros.memory import resident_bytes
from segnet_ros.segmenter import OUTPUTS, Segmenter

# Each stage and the segmenter's attribute that runs it.
STAGES = {'preprocess': 'preprocess', 'network': 'network'} | {stage: '_' + stage for stage in (
    'classify', 'count', 'spread', 'paint', 'overlay')}
SOAK_MARGIN = 16 * 2**20  # bytes; allocators fluctuate


def measure_segmenters(plan: Plan, progress: Progress = lambda: None) -> dict:
    """For each camera size, time the bare network and segment() in turns, then the stages."""
    results = {}
    for size in plan.camera_sizes:
        segmenter, image = plan.segmenter(size), street(size)
        times = time_in_turns({
            'network': network_runner(plan, segmenter.network_size),
            'segment': partial(segmenter.segment, image)}, plan.rounds, progress)
        results[size_name(size)] = {
            'network_size': size_name(segmenter.network_size),
            'network_ms': milliseconds(times['network']),
            'segment_ms': milliseconds(times['segment']),
            'stages_ms': stage_times(segmenter, image, plan.rounds)}
        progress()
    return results


def stage_times(segmenter: Segmenter, image: np.ndarray, rounds: int) -> dict[str, float]:
    """
    Return the median milliseconds of each stage of segment(), with all outputs.

    The stages run one by one. On CUDA they run outside the graph and each is waited for, so the
    sum is more than segment() takes. 'other' is the time between the stages.
    """
    rows = defaultdict(list)
    with torch.inference_mode():
        for _ in range(rounds + 1):
            for stage, seconds in _timed_frame(segmenter, image).items():
                rows[stage].append(seconds)
    return {stage: 1e3 * median(seconds[1:]) for stage, seconds in rows.items()}


def _timed_frame(segmenter: Segmenter, image: np.ndarray) -> dict[str, float]:
    on_cuda = segmenter.device.type == 'cuda'
    spent = dict.fromkeys(('copy in', *STAGES, 'copy out', 'statistics', 'other'), 0.0)

    def timed(stage, function):
        def run(*args, **kwargs):
            start = time.perf_counter()
            result = function(*args, **kwargs)
            if on_cuda:
                torch.cuda.synchronize(segmenter.device)
            spent[stage] += time.perf_counter() - start
            return result
        return run

    def copy_in():
        segmenter.load(image)
        if on_cuda:
            segmenter.copy_in()

    timed('copy in', copy_in)()
    own = dict(vars(segmenter))
    try:
        for stage, method in STAGES.items():
            setattr(segmenter, method, timed(stage, getattr(segmenter, method)))
        start = time.perf_counter()
        segmenter._stages(OUTPUTS)
        whole = time.perf_counter() - start
    finally:
        vars(segmenter).clear()
        vars(segmenter).update(own)
    spent['other'] = whole - sum(spent[stage] for stage in STAGES)
    if on_cuda:
        timed('copy out', segmenter.copy_back)(OUTPUTS)
    else:
        del spent['copy out']  # the results are already in host memory
    timed('statistics', segmenter._statistics)('statistics')
    return spent


def soak_segmenter(plan: Plan, frames: int, progress: Progress = lambda: None) -> dict:
    """Segment this many frames of the main size; see soak()."""
    segmenter, image = plan.segmenter(plan.main_size), street(plan.main_size)
    return soak(lambda: segmenter.segment(image), frames, progress)


def soak(step: Callable[[], object], frames: int,
         progress: Progress = lambda: None) -> dict:
    """
    Run a step `frames` times; report whether its memory grew by at most SOAK_MARGIN bytes.

    The first tenth, at most 100, is not checked: allocators are still filling their pools.
    """
    warm_up = min(100, max(1, frames // 10))
    for _ in range(warm_up):
        step()
        progress()
    gc.collect()
    start = _held_bytes()
    for _ in range(frames - warm_up):
        step()
        progress()
    gc.collect()
    end = _held_bytes()
    return {'frames': frames, 'start_mib': start / 2**20, 'end_mib': end / 2**20,
            'margin_mib': SOAK_MARGIN / 2**20, 'passed': end - start <= SOAK_MARGIN}


def _held_bytes() -> int:
    """Return the bytes of memory that this process holds, its GPUs' included."""
    devices = range(torch.cuda.device_count()) if torch.cuda.is_initialized() else ()
    return resident_bytes() + sum(map(torch.cuda.memory_reserved, devices))
