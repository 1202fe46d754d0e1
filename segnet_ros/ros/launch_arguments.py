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

"""Check and complete the arguments of launch files; knows nothing of what is launched."""

from collections.abc import Iterator
from pathlib import Path
import re

import yaml

# An empty argument counts as false.
TRUE, FALSE = ('true', '1', 'yes', 'on'), ('false', '0', 'no', 'off', '')


def is_true(name: str, value: str) -> bool:
    """
    Return the value of a boolean argument.

    :raises ValueError: if it is neither true nor false: a misspelt "true" must not turn it off.
    """
    if value.lower() not in TRUE + FALSE:
        raise ValueError(f'{name}:={value} is neither true nor false')
    return value.lower() in TRUE


def full_name(name: str, group: str) -> str:
    """
    Return a topic or namespace as the graph has it, '' for the root namespace.

    :param group: the namespace of the group that includes the launch file (PushROSNamespace), in
        which relative names are.
    """
    name = name if name.startswith('/') else f'{group}/{name}'
    return '/'.join(['', *filter(None, name.split('/'))])


def check_parameters_file(path: str | Path, node: str):
    """
    Raise ValueError if a parameters file says something, but nothing for a node.

    rcl ignores such a file without a word, and the node starts with its defaults.

    :param node: the node's full name, such as /segmentation/segnet.
    """
    if not Path(path).is_file():  # launch_ros would only warn
        raise ValueError(f'parameters:={path} is not a file; without it the node would start with '
                         'its defaults')
    try:
        content = yaml.safe_load(Path(path).read_text())
    except (UnicodeDecodeError, yaml.YAMLError) as error:
        raise ValueError(f'parameters:={path} is not YAML: {error}') from error
    if content and not any(re.fullmatch(pattern, node) for pattern in _node_patterns(content)):
        raise ValueError(f'parameters:={path} says nothing for {node}; begin it with /**: and '
                         'ros__parameters:, as config/segnet.yaml does')


def _node_patterns(content: object, parent: str = '') -> Iterator[str]:
    """Yield a regular expression for the names of each section's nodes; * is one part, ** any."""
    for key, value in content.items() if isinstance(content, dict) else ():
        if key == 'ros__parameters':
            yield parent
        parts = {'*': '/[^/]+', '**': '(/[^/]+)*'}
        yield from _node_patterns(value, parent + ''.join(
            parts.get(part, '/' + re.escape(part)) for part in str(key).split('/') if part))
