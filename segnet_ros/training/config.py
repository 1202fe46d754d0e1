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

"""The recipe of one training run: every number that training uses, read from YAML."""

from dataclasses import asdict, dataclass, field, fields
from pathlib import Path

import yaml


@dataclass(frozen=True)
class Phase:
    """
    A stretch of epochs with one crop size: cheap small crops first, whole frames last.

    :param crop: (height, width) of the training crops in pixels; sides multiples of 32.
    :param scale: (least, most) factor by which frames are scaled before they are cropped.
    """

    epochs: int
    crop: tuple[int, int]
    scale: tuple[float, float]


@dataclass(frozen=True)
class TrainConfig:
    """
    Everything that decides what comes out of a run; kept whole in the checkpoint.

    :param data: folder with SPLIT/ (images) and SPLITannot/ (one-channel PNG of class ids).
    :param hold_out: leaves out frames whose names start so, and scores on them instead of on
        val_split, e.g. '0001TP': a whole drive that was not trained on.
    :param sample_drive_frames: rendered frames an epoch, mixed among the real ones.
    :param class_weight_offset: c in the class weights 1 / ln(c + share of the pixels)
        (ENet, arXiv 1606.02147); less means that rare classes weigh more.
    :param aux_weight: weight of the mean loss of the auxiliary heads; 0 trains without them.
    """

    data: str = ''
    split: str = 'train'
    val_split: str = 'val'
    hold_out: str = ''
    label_set: str = 'camvid11'
    architecture: str = 'segnet'
    width: float = 0.5
    init: str = ''
    input_size: tuple[int, int] = (360, 480)
    phases: tuple[Phase, ...] = field(default=(Phase(20, (352, 480), (0.75, 1.75)),))
    sample_drive_frames: int = 40
    batch_size: int = 8
    lr: float = 1e-3
    weight_decay: float = 0.02
    warmup_steps: int = 200
    ema_decay: float = 0.998
    gradient_clip: float = 5.0
    aux_weight: float = 0.4
    class_weight_offset: float = 1.05
    jitter: float = 0.25
    val_every: int = 2
    seed: int = 0

    @property
    def epochs(self) -> int:
        """Return the epochs of all phases together."""
        return sum(phase.epochs for phase in self.phases)

    def phase(self, epoch: int) -> Phase:
        """Return the phase that an epoch (from 0) belongs to."""
        for phase in self.phases:
            if epoch < phase.epochs:
                return phase
            epoch -= phase.epochs
        return self.phases[-1]

    def to_dict(self) -> dict:
        """Return plain types, as load_config reads them."""
        return asdict(self)


def load_config(path: str | Path | None, overrides: dict) -> TrainConfig:
    """
    Read a recipe and lay the given values over it.

    :param path: a YAML file with any of TrainConfig's fields; None for the defaults.
    :raises ValueError: naming a field that there is not, or a value of the wrong kind.
    """
    data = yaml.safe_load(Path(path).read_text()) if path else {}
    if not isinstance(data, dict):
        raise ValueError(f'{path}: needs a mapping of training settings')
    data |= overrides
    known = {f.name: f for f in fields(TrainConfig)}
    wrong = sorted(data.keys() - known.keys())
    if wrong:
        raise ValueError(f"no training setting '{wrong[0]}'; there are {', '.join(known)}")
    if 'phases' in data:
        data['phases'] = tuple(
            Phase(int(p['epochs']), tuple(p['crop']), tuple(p['scale'])) for p in data['phases'])
    if 'input_size' in data:
        data['input_size'] = tuple(data['input_size'])
    for name, value in data.items():
        if isinstance(known[name].default, float):
            data[name] = float(value)
    return TrainConfig(**data)
