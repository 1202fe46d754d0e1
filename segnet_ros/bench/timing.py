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
Time alternatives in turns, so that a busy machine slows all sides alike.

Knows clocks and medians, nothing of what is measured.
"""

from collections.abc import Callable, Mapping
from statistics import median
import time

import numpy as np

Times = dict[str, list[float]]
Progress = Callable[[], object]  # called after each step


def time_in_turns(sides: Mapping[str, Callable[[], object]], rounds: int,
                  progress: Progress = lambda: None) -> Times:
    """
    Return the seconds that each side took in each round; a round runs every side once.

    :param sides: by name, what to run; it must return only when its work is done.
    :param progress: called after each round.
    """
    for side in sides.values():
        side()  # the first run allocates and chooses algorithms
    times: Times = {name: [] for name in sides}
    for _ in range(rounds):
        for name, side in sides.items():
            start = time.perf_counter()
            side()
            times[name].append(time.perf_counter() - start)
        progress()
    return times


def milliseconds(seconds: list[float]) -> float:
    """Return the median in milliseconds."""
    return 1e3 * median(seconds)


def ratio(of: list[float], to: list[float]) -> float:
    """Return the median of `of` as a multiple of the median of `to`."""
    return median(of) / median(to)


def latency_summary(seconds: list[float]) -> dict[str, float]:
    """Return p50, p95 and p99 in milliseconds, and p99 as a multiple of p50."""
    p50, p95, p99 = 1e3 * np.percentile(seconds, (50, 95, 99))
    return {'p50_ms': float(p50), 'p95_ms': float(p95), 'p99_ms': float(p99),
            'p99_over_p50': float(p99 / p50)}
