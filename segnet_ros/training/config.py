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

from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
import math
from pathlib import Path

import yaml


@dataclass(frozen=True)
class Phase:
    """
    A run of epochs with one crop size.

    On a CPU, start with small crops, which are cheap, and end with whole frames.

    :param crop: (height, width) of the training crops in pixels; ideally multiples of 32,
        or of 16 for SegNet-Basic, which halves them four times.
    :param scale: (least, most) factor by which frames are scaled before they are cropped.
    """

    epochs: int
    crop: tuple[int, int]
    scale: tuple[float, float]


@dataclass(frozen=True)
class TrainConfig:
    """
    Every setting that affects a run's result; stored in full in the checkpoint.

    The defaults are what the recipes in config/train/ have in common.

    :param data: folder with SPLIT/ (images) and SPLITannot/ (one-channel PNG of class ids).
    :param hold_out: start of file names, e.g. '0001TP' for a whole drive: these frames are left
        out of training and scored instead of val_split.
    :param label_set: of the annotations; name or path.
    :param init: weights to start from, name or path; their classes may differ.
    :param input_size: (height, width) that frames are scaled to before anything else, in training
        and in the node; frames of another aspect ratio keep it and get as many pixels.
    :param phases: empty for one phase of 20 epochs on whole frames.
    :param passes: passes over the frames in one epoch. A GPU gets through a few hundred frames in
        two seconds, and each epoch ends with a pause while the run's state is written.
    :param sample_drive_frames: rendered frames per epoch, mixed with the real ones; they have
        only camvid11's classes.
    :param rotate: largest rotation of the crops in degrees, either way; half are not rotated.
    :param paste: share of the crops that get another crop's rare classes pasted over them.
    :param rare_share: classes with less than this share of the pixels are rare.
    :param degrade: share of the crops that are darkened, blurred, hazy or JPEG-compressed.
    :param batch_size: crops per step, on each device.
    :param lr: AdamW's peak learning rate: batch normalisation, classifier, auxiliary heads.
    :param muon_lr: Muon's peak learning rate: all other convolutions.
    :param final_lr: share of both peaks at which the cosine ends. At 1 the rates stay constant
        after warm-up, and averaging alone settles the weights (SWA, arXiv 1803.05407).
    :param class_weight_offset: c in the class weights 1 / ln(c + share of the pixels)
        (ENet, arXiv 1606.02147); a smaller c gives rare classes more weight.
    :param class_bias: what the finished network adds to each class's logits, by name; 0 for
        classes not named. `segnet balance` finds it on a run with a drive held out.
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
    phases: tuple[Phase, ...] = ()
    passes: int = 1
    sample_drive_frames: int = 0
    rotate: float = 0.0
    paste: float = 0.5
    rare_share: float = 0.02
    batch_size: int = 8
    lr: float = 3e-3
    muon_lr: float = 0.06
    final_lr: float = 0.0
    weight_decay: float = 0.1
    warmup_steps: int = 100
    ema_decay: float = 0.997
    gradient_clip: float = 5.0
    aux_weight: float = 0.4
    class_weight_offset: float = 1.05
    class_bias: dict[str, float] = field(default_factory=dict)
    jitter: float = 0.3
    degrade: float = 0.12
    val_every: int = 2
    seed: int = 0

    def __post_init__(self):
        """Reject numbers that are out of range."""
        for name, (least, most) in _BOUNDS.items():
            _check(name, getattr(self, name), least, most)
        for side in self.input_size:
            _check('input_size', side, 8)
        for phase in self.phases:
            _check('epochs', phase.epochs, 1)
            for side in phase.crop:
                _check('crop', side, 8)
            if not 0 < phase.scale[0] <= phase.scale[1] < math.inf:
                raise ValueError("training setting 'scale' must be above 0, minimum first, not "
                                 f'{phase.scale}')
        for bias in self.class_bias.values():
            if not math.isfinite(bias):
                raise ValueError(f"training setting 'class_bias' must be finite, not {bias}")
        if self.batch_size == 1 and any(max(phase.crop) <= 16 for phase in self.phases):
            raise ValueError("training setting 'batch_size' must be at least 2 for crops of 16x16 "
                             'and less: their deepest features are single pixels, which cannot be '
                             'normalised')
        if self.architecture == 'pspnet' and self.batch_size == 1:
            raise ValueError("training setting 'batch_size' must be at least 2 for pspnet: its "
                             'averages over a whole frame cannot be normalised over one frame')

    @property
    def epochs(self) -> int:
        """Return the number of epochs of all phases together."""
        return sum(phase.epochs for phase in self.phases)

    def phase(self, epoch: int) -> Phase:
        """Return the phase that an epoch (from 0) belongs to."""
        for phase in self.phases:
            if epoch < phase.epochs:
                return phase
            epoch -= phase.epochs
        return self.phases[-1]

    def whole_frames(self, epochs: int) -> 'TrainConfig':
        """Return the recipe with one phase, whose crops are about as large as the frames."""
        height, width = (max(32, side // 32 * 32) for side in self.input_size)
        return replace(self, phases=(Phase(epochs, (height, width), (0.75, 1.75)),))

    def to_dict(self) -> dict:
        """Return plain types, as load_config reads them."""
        return asdict(self)


# Lower and upper bounds; those of phases and sizes are in __post_init__.
_BOUNDS = {
    **dict.fromkeys(('passes', 'batch_size', 'val_every', 'class_weight_offset'), (1, math.inf)),
    **dict.fromkeys(('sample_drive_frames', 'lr', 'muon_lr', 'weight_decay', 'warmup_steps',
                     'gradient_clip', 'aux_weight'), (0, math.inf)),
    **dict.fromkeys(('paste', 'rare_share', 'final_lr', 'ema_decay', 'jitter', 'degrade'), (0, 1)),
    'rotate': (0, 180),
}


def _check(name: str, value: float, least: float, most: float = math.inf):
    if not (least <= value <= most and math.isfinite(value)):
        limits = f'at least {least}' if most == math.inf else f'from {least} to {most}'
        raise ValueError(f"training setting '{name}' must be {limits}, not {value}")


def load_config(path: str | Path | None, overrides: dict) -> TrainConfig:
    """
    Read a recipe and override it with the given values.

    :param path: a YAML file with any of TrainConfig's fields; None for the defaults.
    :raises ValueError: naming an unknown field, or a value of the wrong type.
    """
    try:
        data = yaml.safe_load(Path(path).read_text()) if path else {}
    except (UnicodeDecodeError, yaml.YAMLError) as error:
        raise ValueError(f'{path}: {error}') from error
    if not isinstance(data, dict):
        raise ValueError(f'{path}: needs a mapping of training settings')
    data |= overrides
    known = vars(TrainConfig())
    for name, value in data.items():
        if name not in known:
            raise ValueError(f"unknown training setting '{name}'; choose from {', '.join(known)}")
        try:
            data[name] = _convert(name, value, known[name])
        except (TypeError, ValueError, OverflowError) as error:
            raise ValueError(f"training setting '{name}' cannot be {value!r}: {error}") from error
    config = TrainConfig(**data)
    return config if config.phases else config.whole_frames(20)


def _convert(name: str, value, default):
    """Return a value from YAML as the type of the setting's default."""
    if name == 'phases':
        return tuple(map(_phase, value))
    if name == 'class_bias':
        return {str(label): float(bias) for label, bias in dict(value).items()}
    if name == 'input_size':
        return _pair(value, _whole)
    if isinstance(default, str) and not isinstance(value, str):
        raise TypeError('it must be text')
    return _whole(value) if isinstance(default, int) else type(default)(value)


def _phase(part) -> Phase:
    if not isinstance(part, dict) or part.keys() != {'epochs', 'crop', 'scale'}:
        raise ValueError('each phase needs epochs, crop and scale, and nothing else')
    return Phase(_whole(part['epochs']), _pair(part['crop'], _whole), _pair(part['scale'], float))


def _whole(value) -> int:
    if float(value) % 1:
        raise ValueError(f'{value} must be a whole number')
    return value if isinstance(value, int) else int(float(value))  # 1e3 is text in YAML


def _pair(values, kind: Callable) -> tuple:
    first, second = values
    return kind(first), kind(second)
