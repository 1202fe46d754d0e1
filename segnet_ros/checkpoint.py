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
Checkpoints: one .safetensors file with the weights and, as metadata, all that running them needs.

The metadata hold architecture, width, label set, input normalisation, input size, scores and how
the weights were made, so that training and inference cannot drift apart. Never a pickle: loading
an untrusted file runs none of its code. Knows nothing of ROS.
"""

from dataclasses import dataclass, field
import json
from pathlib import Path

from safetensors import safe_open, SafetensorError
from safetensors.torch import save
import torch

from segnet_ros.labels import LabelSet
from segnet_ros.networks.build import build_network, Network
from segnet_ros.resources import find_resource
from segnet_ros.whole_file import write_whole

FORMAT = 'segnet_ros/1'
# ImageNet's statistics of RGB in [0, 1]: customary, and close to those of any street scene.
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


class CheckpointError(ValueError):
    """A weights file cannot be used; the message says why and what to do."""


@dataclass(frozen=True)
class ModelInfo:
    """
    What a checkpoint says about its weights.

    :param input_size: (height, width) in pixels that the network was trained at.
    :param mean, std: of RGB in [0, 1]; the network's input is (image / 255 - mean) / std.
    :param scores: measured on these weights, as training writes them: {'val': {'miou': 0.61}}.
    :param made_by: how the weights were made: the training configuration.
    """

    label_set: LabelSet
    architecture: str = 'segnet'
    width: float = 1.0
    input_size: tuple[int, int] = (360, 480)
    mean: tuple[float, float, float] = IMAGENET_MEAN
    std: tuple[float, float, float] = IMAGENET_STD
    scores: dict = field(default_factory=dict)
    made_by: dict = field(default_factory=dict)

    def build(self) -> Network:
        """Return the network, with random weights."""
        return build_network(self.architecture, len(self.label_set), self.width)

    def unseen_miou(self) -> float | None:
        """
        Return the validation mIoU; None if the network was also trained on those frames.

        Also None if training started from other weights, which may have seen them.
        """
        if self.made_by.get('init'):
            return None
        if not self.made_by.get('hold_out') and self.has_seen(self.made_by.get('val_split', '')):
            return None
        return self.scores.get('val', {}).get('miou')

    def has_seen(self, split: str) -> bool:
        """
        Tell from a split's name whether the network was trained on any of its frames.

        :param split: as training's frame_paths takes it, such as 'train:0006R0+val'.
        """
        hold_out = self.made_by.get('hold_out', '')
        trained, asked = ([part.partition(':') for part in parts.split('+') if part]
                          for parts in (self.made_by.get('split', ''), split))
        return any(name == of and (prefix.startswith(begin) or begin.startswith(prefix))
                   and not (hold_out and prefix.startswith(hold_out))
                   for name, _, prefix in asked for of, _, begin in trained)

    def to_json(self) -> str:
        """Return the text that from_json takes."""
        return json.dumps({**self.__dict__, 'label_set': self.label_set.to_dict()}, sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> 'ModelInfo':
        """Read what to_json wrote; raise ValueError, KeyError or TypeError for anything else."""
        data = json.loads(text)
        for key in ('input_size', 'mean', 'std'):
            data[key] = tuple(data[key])
            if len(data[key]) != (2 if key == 'input_size' else 3):
                raise ValueError(f'{key} has {len(data[key])} numbers')
        if min(*data['input_size'], *data['std']) <= 0:
            raise ValueError('input_size and std must be above 0')
        return cls(**{**data, 'label_set': LabelSet.from_dict(data['label_set'])})


def save_checkpoint(path: str | Path, network: Network, info: ModelInfo):
    """
    Write weights and metadata; convolution weights in half precision, which is what they run in.

    The statistics and scales of batch normalisation stay in single precision: they are small, and
    a variance can exceed the range of half precision. Readers never see half a file.
    """
    tensors = {name: (t.half() if t.ndim == 4 else t).contiguous()
               for name, t in network.state_dict().items()
               if not name.endswith('num_batches_tracked')}
    # Not save_file: it replaces whatever has that name, even a pipe or a device.
    write_whole(path, save(tensors, metadata={'format': FORMAT, 'info': info.to_json()}))


def find_weights(name_or_path: str) -> Path:
    """Return the file of weights given by path or by a name shipped in resource/."""
    try:
        return find_resource(name_or_path, 'resource', '.safetensors')
    except FileNotFoundError as error:
        raise CheckpointError(f'weights: {error}') from error


def read_info(path: str | Path) -> ModelInfo:
    """Return a checkpoint's metadata without loading its weights."""
    try:
        with open(path, 'rb'):  # safetensors hides why it cannot open a file
            pass
    except OSError as error:
        raise CheckpointError(f'{path} cannot be read: {error.strerror}') from error
    try:
        with safe_open(path, 'pt') as file:
            metadata = file.metadata() or {}
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f'{path} is not a complete .safetensors file ({error}); '
                              'copy or download it again') from error
    if metadata.get('format') != FORMAT:
        raise CheckpointError(
            f'{path} is a .safetensors file, but not from segnet_ros: its metadata says format '
            f"'{metadata.get('format')}', not '{FORMAT}'; write it with `segnet train`")
    try:
        return ModelInfo.from_json(metadata['info'])
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f'{path}: its metadata is damaged ({error}); '
                              'write it again with `segnet train`') from error


def load_checkpoint(path: str | Path) -> tuple[Network, ModelInfo]:
    """
    Return the network (float32, CPU, eval mode) and its metadata.

    :raises CheckpointError: if the file is missing, truncated or of another format, or if its
        weights do not fit the architecture that it names.
    """
    info = read_info(path)
    try:
        network = info.build()
    except ValueError as error:
        raise CheckpointError(f'{path}: {error}') from error
    expected = network.state_dict()
    with safe_open(path, 'pt') as file:
        found = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    _check_fit(path, info, expected, found)
    network.load_state_dict(
        {name: found[name].to(t.dtype) if name in found else t for name, t in expected.items()})
    return network.eval(), info


def _check_fit(path, info: ModelInfo, expected: dict[str, torch.Tensor],
               found: dict[str, torch.Tensor]):
    wanted = {n: tuple(t.shape) for n, t in expected.items() if 'num_batches_tracked' not in n}
    got = {n: tuple(t.shape) for n, t in found.items()}
    wrong = [n for n in sorted(wanted.keys() | got.keys()) if wanted.get(n) != got.get(n)]
    if wrong:
        name = wrong[0]
        raise CheckpointError(
            f'{path}: {len(wrong)} tensors do not fit {info.architecture} of width {info.width} '
            f"with {len(info.label_set)} classes; the first is '{name}', expected "
            f'{wanted.get(name)}, found {got.get(name)}')
