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
Label sets: class names, ids and colours, read from YAML files.

A class's id is its index in the list. In every label map in memory and in every published mask,
pixels without a class are VOID. Knows nothing of networks or ROS.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import yaml

from segnet_ros.resources import find_resource

VOID = 255

Color = tuple[int, int, int]


@dataclass(frozen=True)
class LabelSet:
    """Names and colours (RGB, 0 to 255) of the classes; a class's id is its index."""

    name: str
    class_names: tuple[str, ...]
    colors: tuple[Color, ...]
    void_color: Color = (0, 0, 0)
    void_file_id: int = VOID

    def __post_init__(self):
        """Reject values that would otherwise fail far from here."""
        if not 2 <= len(self.class_names) < VOID:
            raise ValueError(f"label set '{self.name}': needs 2 to 254 classes, "
                             f'has {len(self.class_names)}')
        if len(set(self.class_names)) != len(self.class_names):
            raise ValueError(f"label set '{self.name}': duplicate class name")
        for name in self.class_names:  # class_fractions spells them out between commas
            if not name or name != name.strip() or ',' in name:
                raise ValueError(f"label set '{self.name}': {name!r} cannot be a class name; it "
                                 'needs text without a comma, and without space around it')
        if len(self.colors) != len(self.class_names):
            raise ValueError(f"label set '{self.name}': {len(self.class_names)} classes but "
                             f'{len(self.colors)} colours')
        if not (isinstance(self.void_file_id, int)
                and len(self.class_names) <= self.void_file_id <= VOID):
            raise ValueError(f"label set '{self.name}': void's file_id is {self.void_file_id!r}; "
                             f'it must be a whole number from {len(self.class_names)} to 255, '
                             'outside the class ids')
        for color in (*self.colors, self.void_color):
            if len(color) != 3 or not all(isinstance(c, int) and 0 <= c <= 255 for c in color):
                raise ValueError(f"label set '{self.name}': {color} is not a colour; "
                                 'give three whole numbers from 0 to 255')

    def __len__(self) -> int:
        """Return the number of classes, void excluded."""
        return len(self.class_names)

    def palette(self) -> np.ndarray:
        """Return the colours by id, (256, 3) uint8 RGB; an id of no class has void's colour."""
        table = np.empty((256, 3), np.uint8)
        table[:] = self.void_color
        table[:len(self)] = self.colors
        return table

    def from_file_ids(self, annotation: np.ndarray) -> np.ndarray:
        """
        Return the label map of an annotation image, (H, W) uint8, void as VOID.

        :param annotation: (H, W) uint8 as read from an annotation file.
        :raises ValueError: if it holds an id that is neither a class nor void.
        """
        wrong = set(np.unique(annotation).tolist()) - {*range(len(self)), self.void_file_id}
        if wrong:
            raise ValueError(f"annotation holds ids {sorted(wrong)}; label set '{self.name}' has "
                             f'0 to {len(self) - 1} and void {self.void_file_id}')
        return np.where(annotation == self.void_file_id, VOID, annotation).astype(np.uint8)

    def to_dict(self) -> dict:
        """Return what from_dict takes: plain types, as in the YAML file."""
        return {
            'name': self.name,
            'classes': [{'name': name, 'color': list(color)}
                        for name, color in zip(self.class_names, self.colors, strict=True)],
            'void': {'file_id': self.void_file_id, 'color': list(self.void_color)},
        }

    @classmethod
    def from_dict(cls, data: dict) -> 'LabelSet':
        """Build a label set from a YAML file's content; ValueError says what is wrong."""
        try:
            void = data.get('void', {})
            _refuse_unknown('it', data, 'name', 'classes', 'void')
            _refuse_unknown('void', void, 'file_id', 'color')
            for class_id, found in enumerate(data['classes']):
                _refuse_unknown(f'class {class_id}', found, 'name', 'color')
                if not isinstance(found['name'], str):
                    raise ValueError(f'the name of class {class_id} is not text but '
                                     f'{found["name"]!r}: put it in quotes')
            return cls(
                name=str(data['name']),
                class_names=tuple(c['name'] for c in data['classes']),
                colors=tuple(tuple(c['color']) for c in data['classes']),
                void_color=tuple(void.get('color', (0, 0, 0))),
                void_file_id=void.get('file_id', VOID))
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(
                "a label set needs 'name' and 'classes', a list of {name, color: [r, g, b]}, and "
                f"may have 'void', {{file_id, color}}; wrong or missing: {error}") from error


def _refuse_unknown(what: str, found: dict, *known: str):
    if not isinstance(found, dict):
        raise TypeError(f'{what} is {found!r}')
    if unknown := found.keys() - {*known}:
        raise ValueError(f"{what} has {', '.join(map(str, unknown))} but may have only "
                         f"{', '.join(known)}; a class's id is its place in the list")


def load_label_set(name_or_path: str | Path) -> LabelSet:
    """
    Read a label set by the name of a file in config/labels, or by the path of any YAML file.

    :raises FileNotFoundError: listing the available label sets.
    :raises ValueError: saying what is wrong in the file.
    """
    path = find_resource(str(name_or_path), 'config/labels', '.yaml')
    try:
        return LabelSet.from_dict(yaml.safe_load(path.read_text()))
    except (ValueError, yaml.YAMLError) as error:
        raise ValueError(f'{path}: {error}') from error
