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

"""A picture of the results: speedups, frames a second, stages, latencies."""

from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure
import numpy as np

from segnet_ros.whole_file import whole_file

COLUMNS = 3


def save_plot(results: dict, path: str | Path):
    """Draw the results into a PNG, a panel for each section."""
    panels = [(name, draw) for name, draw in PANELS.items() if name in results]
    rows = -(-len(panels) // COLUMNS)
    figure = Figure(figsize=(5.6 * COLUMNS, 0.5 + 4 * rows), layout='constrained')
    for place, (name, draw) in enumerate(panels, 1):
        axes = figure.add_subplot(rows, COLUMNS, place)
        draw(axes, results[name])
    facts = results['environment']
    title = f"{facts['device']} ({facts['cpu']}, {facts['cores']} cores), {facts['precision']}, " \
            f"torch {facts['torch']}"
    figure.suptitle(title + (' - MACHINE BUSY' if facts['busy'] else ''), fontsize=10)
    with whole_file(path) as part:
        figure.savefig(part, dpi=110, format='png')


def _bars(axes: Axes, groups: list[str], sides: dict[str, list[float]], ylabel: str):
    """Draw a group of bars for each of `groups`, one bar for each side."""
    places, wide = np.arange(len(groups)), 0.8 / len(sides)
    for index, (side, values) in enumerate(sides.items()):
        bars = axes.bar(places + (index - (len(sides) - 1) / 2) * wide, values, wide, label=side)
        axes.bar_label(bars, fmt='{:.4g}', fontsize=8)
    axes.set_xticks(places, groups)
    axes.set_ylabel(ylabel)
    if len(sides) > 1:
        _legend(axes)


def _legend(axes: Axes, reverse: bool = False):
    """Put the legend beside the bars, not over them."""
    axes.legend(fontsize=8, loc='center left', bbox_to_anchor=(1, 0.5), reverse=reverse)


def _networks(axes: Axes, result: dict):
    widths = result['widths']
    _bars(axes, [f'width {w}\n{r["speedup"]:.2f}x' for w, r in widths.items()],
          {side: [r[f'{side}_ms'] for r in widths.values()]
           for side in ('straightforward', 'ours', 'int8', 'openvino')
           if all(f'{side}_ms' in r for r in widths.values())}, 'ms')
    axes.set_yscale('log')
    axes.set_title(f"Network at {result['size']}")


def _segments(axes: Axes, result: dict):
    low = np.zeros(len(result))
    for stage in next(iter(result.values()))['stages_ms']:
        if stage == 'network':
            continue
        values = np.array([r['stages_ms'][stage] for r in result.values()])
        axes.bar(list(result), values, 0.6, bottom=low, label=stage)
        low += values
    axes.set_ylabel('ms')
    _legend(axes, reverse=True)
    axes.set_title('segment() without the network')


def _node(axes: Axes, result: dict):
    _bars(axes, [f'{size}\n{r["parallel_per_network"]:.3f}' for size, r in result.items()],
          {side: [r[f'{side}_fps'] for r in result.values()]
           for side in ('network', 'segment', 'node', 'parallel')}, 'frames a second')
    axes.set_title('Up to the node; below: parallel / network')


def _cameras(axes: Axes, result: dict):
    _bars(axes, list(result), {'total': [r['total_fps'] for r in result.values()]},
          'frames a second')
    axes.set_title('All cameras of one node together')


def _latency(axes: Axes, result: dict):
    _bars(axes, ['p50', 'p95', 'p99'], {'': [result[f'{p}_ms'] for p in ('p50', 'p95', 'p99')]},
          'ms')
    axes.set_title(f"From image to mask at {result['rate']:.1f} Hz, half the highest rate")


def _dds(axes: Axes, result: dict):
    _bars(axes, [name.replace('_', ' ').replace(' ', '\n', 2) for name in result],
          {'': [100 * r['share'] for r in result.values()]}, '%')
    axes.set_title('Raw frames that arrive at 30 Hz')


PANELS = {'network': _networks, 'segment': _segments, 'node': _node, 'cameras': _cameras,
          'latency': _latency, 'dds': _dds}
