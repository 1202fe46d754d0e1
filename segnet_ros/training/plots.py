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

"""Pictures of an evaluation: the confusion matrix, and the frames that went best and worst."""

from pathlib import Path

from matplotlib import rc_context
from matplotlib.figure import Figure
from matplotlib.patches import Patch
import numpy as np

from segnet_ros.frames import shown_name
from segnet_ros.labels import VOID
from segnet_ros.training.dataset import read_frame
from segnet_ros.training.evaluate import Evaluation
from segnet_ros.whole_file import whole_file

SHOWN = 3  # of the best frames, and of the worst
LEGEND_COLUMNS = 6
LARGEST = 30.0  # inches of the confusion matrix; one of 120 classes would take 3 GB


def save_plots(evaluation: Evaluation, folder: str | Path) -> list[Path]:
    """Write confusion_matrix.png and frames.png into the folder and return their paths."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / 'confusion_matrix.png', folder / 'frames.png']
    for path, figure in zip(paths, (confusion_figure(evaluation.result),
                                    frames_figure(evaluation)), strict=True):
        with whole_file(path) as part:
            figure.savefig(part, dpi=110, bbox_inches='tight', format='png')
    return paths


@rc_context({'text.parse_math': False})  # a $ in a class name is not maths
def confusion_figure(result: dict) -> Figure:
    """Draw the confusion matrix in percent of each true class's pixels."""
    matrix, names = np.array(result['confusion_matrix'], float), result['class_names']
    percent = 100 * matrix / np.maximum(1, matrix.sum(1, keepdims=True))
    side = min(2.5 + 0.55 * len(names), LARGEST)
    figure = Figure(figsize=(side, side), layout='constrained')
    axes = figure.add_subplot()
    axes.imshow(percent, cmap='Blues', vmin=0, vmax=100)
    axes.set_xticks(range(len(names)), names, rotation=45, ha='right')
    axes.set_yticks(range(len(names)), names)
    axes.set_xlabel('predicted')
    axes.set_ylabel('truth')
    axes.set_title(f'Percent of each true class, mIoU {100 * result["miou"]:.1f}')
    for (row, column), value in np.ndenumerate(percent):
        if value >= 0.5 and side < LARGEST:
            axes.text(column, row, f'{value:.0f}', ha='center', va='center', fontsize=8,
                      color='white' if value > 55 else 'black')
    return figure


@rc_context({'text.parse_math': False})
def frames_figure(evaluation: Evaluation) -> Figure:
    """Draw input, truth and prediction of the best and the worst frames by their own mIoU."""
    scored = np.flatnonzero(~np.isnan(evaluation.frame_mious))
    order = scored[np.argsort(evaluation.frame_mious[scored])[::-1]]
    # The very worst comes first among the worst; with few frames, none is shown twice.
    best = order[:SHOWN]
    chosen = [('best', int(i)) for i in best]
    chosen += [('worst', int(i)) for i in order[::-1][:SHOWN] if i not in best]
    legend_rows = -(-len(evaluation.label_set) // LEGEND_COLUMNS)
    figure = Figure(figsize=(10.5, 2.6 * len(chosen) + 0.4 + 0.2 * legend_rows),
                    layout='constrained')
    grid = figure.subplots(len(chosen), 3, squeeze=False)
    palette = evaluation.label_set.palette()
    for row, (which, index) in zip(grid, chosen, strict=True):
        image_path, annotation_path = evaluation.frames[index]
        image, truth = read_frame(image_path, annotation_path, evaluation.label_set)
        prediction = np.where(truth == VOID, VOID, evaluation.predict(image)[0])
        for axes, picture in zip(row, (image, palette[truth], palette[prediction]), strict=True):
            axes.imshow(picture)
            axes.set_axis_off()
        row[0].set_title(f'{which}: {shown_name(image_path.name)}', fontsize=9)
        row[1].set_title('truth', fontsize=9)
        row[2].set_title(f'prediction, mIoU {100 * evaluation.frame_mious[index]:.1f}',
                         fontsize=9)
    patches = [Patch(color=(r / 255, g / 255, b / 255), label=name) for name, (r, g, b) in zip(
        evaluation.label_set.class_names, evaluation.label_set.colors, strict=True)]
    figure.legend(handles=patches, loc='outside lower center', ncols=LEGEND_COLUMNS, fontsize=8)
    return figure
