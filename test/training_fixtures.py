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

"""What the tests of training share: a frame, a short recipe, label sets, what a run wrote."""

import csv
from dataclasses import replace

import numpy as np

from segnet_ros.training.config import Phase, TrainConfig

SIZE = (64, 96)  # (height, width) of the frames in the fixture `data`


def checkerboard():
    """Return a frame whose image encodes each pixel's class as grey 20 * (id + 1)."""
    label_map = np.kron(np.arange(35).reshape(5, 7) % 11, np.ones((16, 16))).astype(np.uint8)
    return np.repeat((20 * (label_map + 1))[..., None], 3, 2).astype(np.uint8), label_map


def recipe(data, **changes):
    phases = (Phase(2, (32, 64), (0.8, 1.2)),)
    config = TrainConfig(data=str(data), width=1 / 16, input_size=SIZE, batch_size=4, val_every=1,
                         phases=phases)
    return replace(config, **changes)


def write_labels(path, ids=range(12)):
    """Write a label set 'own' of classes c0, c1, ... in this order; return its path as text."""
    path.write_text('name: own\nclasses:\n' + ''.join(
        f'  - {{name: c{i}, color: [{i}, 0, 0]}}\n' for i in ids))
    return str(path)


class Killed(Exception):
    """Stands in for the kill that interrupts a run."""


def rows(output):
    with (output / 'metrics.csv').open(newline='') as file:
        return list(csv.DictReader(file))


def losses(output):
    return {int(r['epoch']): float(r['loss']) for r in rows(output) if r['loss']}
