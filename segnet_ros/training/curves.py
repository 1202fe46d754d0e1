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

"""A run's curves as a picture: the loss of each epoch and the scores of each validation."""

import csv
from pathlib import Path

from matplotlib import rc_context
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from segnet_ros.labels import LabelSet
from segnet_ros.whole_file import whole_file


def save_curves(metrics: Path, label_set: LabelSet) -> Path:
    """Draw metrics.csv as curves.png in the same folder and return the picture's path."""
    path = metrics.with_name('curves.png')
    with whole_file(path) as part:
        curves_figure(metrics, label_set).savefig(part, dpi=110, format='png')
    return path


@rc_context({'text.parse_math': False})  # a $ in a class name is not maths
def curves_figure(metrics: Path, label_set: LabelSet) -> Figure:
    """Draw the loss above; mIoU and each class's IoU, in the class's colour, below."""
    with metrics.open(newline='') as file:
        rows = list(csv.DictReader(file))
    columns = 1 + len(label_set) // 34  # of the legend
    figure = Figure(figsize=(7.2 + 1.8 * columns, 7), layout='constrained')
    above, below = figure.subplots(2, sharex=True, height_ratios=(1, 2))
    above.plot(*_curve(rows, 'loss'), marker='.', markersize=3, color='black')
    above.set_ylabel('loss')
    above.set_ylim(bottom=0)
    for name, color in zip(label_set.class_names, label_set.colors, strict=True):
        below.plot(*_curve(rows, f'val_iou_{name}', 100), marker='.', linewidth=1, label=name,
                   color=tuple(c / 255 for c in color))
    below.plot(*_curve(rows, 'val_miou', 100), marker='o', linewidth=2.5, label='mean',
               color='black')
    below.set_ylabel('IoU in percent')
    below.set_ylim(0, 100)
    below.set_xlabel('epoch')
    below.set_xlim(left=0)
    below.xaxis.set_major_locator(MaxNLocator(integer=True))
    for axes in (above, below):
        axes.set_facecolor('0.9')  # a class may be white
        axes.grid(color='white')
    # Labels are given, since matplotlib skips names like _background_ by default.
    figure.legend(below.lines, [*label_set.class_names, 'mean'], loc='outside right upper',
                  fontsize=9, ncols=columns)
    return figure


def _curve(rows: list[dict], column: str, factor: float = 1) -> tuple[list[int], list[float]]:
    """Return epochs, from 1, and values; for an epoch that was repeated, the last one."""
    values = {int(row['epoch']) + 1: factor * float(row[column])
              for row in rows if row.get(column)}
    return list(values), list(values.values())
