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
The node's parameters: one table that declares, describes, bounds and documents every one.

config/segnet.yaml and the README's table say the same; a test keeps the three in step.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
import json
import re
from typing import Any

from rcl_interfaces.msg import FloatingPointRange, IntegerRange, ParameterDescriptor
from rclpy.exceptions import ParameterException, ParameterUninitializedException
from rclpy.parameter import Parameter

from segnet_ros.resources import DEFAULT_WEIGHTS


@dataclass(frozen=True)
class ParameterSpec:
    """
    One parameter.

    :param live: takes effect at once when set; otherwise it is read when the node is configured,
        and setting it is refused while the node is configured or active.
    :param bounds: (minimum, maximum) of a number.
    :param choices: the values that a string may have.
    :param read_only: can only be set at start.
    :param check: raises ValueError for any other invalid value.
    """

    name: str
    default: object
    description: str
    live: bool = False
    bounds: tuple[float, float] | None = None
    choices: tuple[str, ...] = ()
    read_only: bool = False
    check: Callable[[Any], object] | None = None

    def descriptor(self) -> ParameterDescriptor:
        """Return the descriptor that `ros2 param describe` shows."""
        descriptor = ParameterDescriptor(description=self.description,
                                         read_only=self.read_only)
        if self.choices:
            descriptor.additional_constraints = 'one of ' + ', '.join(self.choices)
        if self.bounds and isinstance(self.default, int):
            low, high = self.bounds
            descriptor.integer_range = [IntegerRange(from_value=low, to_value=high, step=0)]
        elif self.bounds:
            low, high = self.bounds
            descriptor.floating_point_range = [
                FloatingPointRange(from_value=float(low), to_value=float(high), step=0.0)]
        return descriptor


def parse_size(text: str, words: tuple[str, ...]) -> tuple[int, int] | None:
    """Return (height, width) of 'WIDTHxHEIGHT', None for one of the words; else ValueError."""
    if text in words:
        return None
    width, _, height = text.partition('x')
    if not (width.isdecimal() and height.isdecimal() and 8 <= int(width) <= 8192
            and 8 <= int(height) <= 8192):
        raise ValueError(f"'{text}' is neither {' nor '.join(words)} nor WIDTHxHEIGHT with sides "
                         'from 8 to 8192')
    return int(height), int(width)


def parse_roi(values) -> tuple[float, float, float, float] | None:
    """Return (x, y, width, height) as shares; None for the whole picture; else ValueError."""
    if len(values) != 4:
        raise ValueError(f'needs x, y, width, height; got {len(values)} numbers')
    x, y, width, height = values
    inside = 0 < width <= 1 - x + 1e-9 and 0 < height <= 1 - y + 1e-9
    if not (0 <= x < 1 and 0 <= y < 1 and inside):
        raise ValueError(f'{list(values)} is not a region inside the image (fractions 0 to 1)')
    return None if (x, y, width, height) == (0, 0, 1, 1) else (x, y, width, height)


def parse_color(values) -> tuple[int, int, int]:
    """Return the colour as a tuple; raise ValueError unless it is three numbers 0 to 255."""
    if len(values) != 3 or not all(0 <= v <= 255 for v in values):
        raise ValueError(f'{list(values)} is not a colour: red, green, blue, 0 to 255')
    return tuple(int(v) for v in values)


def parse_camera_names(names) -> list[str]:
    """Return the names; raise ValueError if one is repeated or cannot be part of a topic."""
    names = list(names)
    if not names or len(set(names)) != len(names):
        raise ValueError(f'{names}: needs at least one name, none of them twice')
    for name in names:
        if name and not all(re.fullmatch('[A-Za-z]([A-Za-z0-9]|_(?!_))*', token)
                            for token in name.split('/')):
            raise ValueError(f"'{name}' cannot be part of a topic; each part between / is a "
                             'letter followed by letters, digits and single _')
    if '' in names and len(names) > 1:
        raise ValueError('an empty name is for a single camera; name every one')
    return names


def check_period(seconds: float):
    """Raise ValueError for a period that is neither 0 nor at least 0.1 s."""
    if 0 < seconds < 0.1:
        raise ValueError(f'{seconds} is neither 0 nor at least 0.1')


PARAMETERS = (
    ParameterSpec('autostart', True,
                  'Whether the node configures and activates itself at start; only read at start.',
                  read_only=True),
    ParameterSpec('weights', DEFAULT_WEIGHTS,
                  'Weights: a name shipped with the package or the path of a .safetensors file.'),
    ParameterSpec('device', 'auto',
                  'Where the network runs: auto (CUDA if available), cpu, cuda or cuda:N.'),
    ParameterSpec('precision', 'auto',
                  'Precision of the network; auto is float16 on CUDA, bfloat16 on CPUs that '
                  'compute in it, else float32. int8, for SegNet on x86 CPUs with AVX2, is '
                  'usually the fastest there.',
                  choices=('auto', 'float32', 'bfloat16', 'float16', 'int8')),
    ParameterSpec('network_size', 'auto',
                  "Size that frames are scaled to for the network: auto (the camera's aspect "
                  'ratio, as many pixels as in training) or WIDTHxHEIGHT.',
                  check=partial(parse_size, words=('auto',))),
    ParameterSpec('output_size', 'input',
                  "Size of the results: input (the camera's), network or WIDTHxHEIGHT.",
                  check=partial(parse_size, words=('input', 'network'))),
    ParameterSpec('parallel_frames', 1,
                  'Frames processed at the same time. More raise throughput and latency: they '
                  "share the CPU's threads.", bounds=(1, 16)),
    ParameterSpec('camera_names', [''],
                  'Cameras, each with its own topics under its name; one empty name is one camera'
                  ' with plain topic names.', check=parse_camera_names),
    ParameterSpec('input_transport', 'raw',
                  'raw takes `image` (sensor_msgs/Image), compressed takes `image/compressed`.',
                  choices=('raw', 'compressed')),
    ParameterSpec('input_reliability', 'auto',
                  'Reliability requested from the camera; auto is reliable if every publisher '
                  'offers it, else best effort.', choices=('auto', 'reliable', 'best_effort')),
    ParameterSpec('max_frame_age', 0.0,
                  'Drop frames whose stamp is older than this, in seconds; 0 drops none.',
                  live=True, bounds=(0.0, 3600.0)),
    ParameterSpec('max_rate', 0.0,
                  'Process at most this many frames a second from each camera; 0 is no limit.',
                  live=True, bounds=(0.0, 1000.0)),
    ParameterSpec('confidence_threshold', 0.0,
                  'Pixels with a confidence below this become void (255).',
                  live=True, bounds=(0.0, 1.0)),
    ParameterSpec('overlay_alpha', 0.5,
                  'Opacity of the colour mask in the overlay; 0 shows the camera image, 1 the '
                  'mask.', live=True, bounds=(0.0, 1.0)),
    ParameterSpec('jpeg_quality', 90,
                  'JPEG quality of `overlay/compressed`.', live=True, bounds=(1, 100)),
    ParameterSpec('statistics_roi', [0.0, 0.0, 1.0, 1.0],
                  'Region for a second set of statistics: x, y, width, height as fractions of the'
                  ' image; the whole image turns it off.', live=True, check=parse_roi),
    ParameterSpec('no_image_warning_period', 5.0,
                  'Warn once after this many seconds without a frame; 0 never warns.',
                  live=True, bounds=(0.0, 3600.0)),
    ParameterSpec('output_rate_warning', 0.0,
                  'Warn on /diagnostics if a camera that has had results has fewer a second than '
                  "this, while somebody subscribes; set it below the camera's rate and max_rate; "
                  '0 never warns.', live=True, bounds=(0.0, 1000.0)),
    ParameterSpec('latency_warning', 0.0,
                  'Warn on /diagnostics if results come more than this many seconds after their '
                  "frame's stamp; 0 never warns.", live=True, bounds=(0.0, 3600.0)),
    ParameterSpec('diagnostics_period', 1.0,
                  'Seconds between messages on /diagnostics while the node is active, at least '
                  '0.1 (else one a second); 0 never sends any.',
                  bounds=(0.0, 60.0), check=check_period),
)

# Declared as PREFIX.CLASS for each class, once the weights' label set is known.
ALERT_PREFIX = 'alert_fractions'
PALETTE_PREFIX = 'palette'


def class_specs(class_names: tuple[str, ...], colors: tuple) -> list[ParameterSpec]:
    """Return the parameters that each class has."""
    alerts = [ParameterSpec(f'{ALERT_PREFIX}.{name}', 1.0,
                            'Fraction of the image (of the region, for its own status) above '
                            f"which {name}'s status is WARN; 1 never.",
                            live=True, bounds=(0.0, 1.0)) for name in class_names]
    palette = [ParameterSpec(f'{PALETTE_PREFIX}.{name}', list(color),
                             f'Colour of {name}: red, green, blue, 0 to 255.', live=True,
                             check=parse_color)
               for name, color in zip(class_names, colors, strict=True)]
    return alerts + palette


def declare(node, specs):
    """Declare what is not declared yet, with description and range."""
    for spec in specs:
        if not node.has_parameter(spec.name):
            node.declare_parameter(spec.name, spec.default, spec.descriptor())


def has_default(node, spec: ParameterSpec) -> bool:
    """Return whether a parameter still has its default value."""
    value = node.get_parameter(spec.name).value
    return (list(value) if isinstance(spec.default, list) else value) == spec.default


def refusal(parameter: Parameter, specs: dict[str, ParameterSpec], configured: bool) -> str:
    """Return why a new value is refused, or '' if it is not."""
    spec = specs.get(parameter.name)
    if spec is None:
        return ''
    if configured and not spec.live:
        return (f"'{spec.name}' is read when the node is configured; deactivate and clean up "
                'the node, set it, then configure and activate again')
    if spec.choices and parameter.value not in spec.choices:
        return f"'{spec.name}' must be one of {', '.join(spec.choices)}, not '{parameter.value}'"
    try:
        if spec.check is not None:
            spec.check(parameter.value)
    except ValueError as error:
        return f"'{spec.name}': {error}"
    return ''


def quoted(text: str) -> str:
    """Return text as a parameter's value on a command line, where rcl reads it as YAML."""
    return json.dumps(text, ensure_ascii=False)


@contextmanager
def qos_errors_named(topic: str) -> Iterator[None]:
    """Raise ParameterException with the topic where rclpy refuses one of its qos_overrides."""
    try:
        yield
    except RuntimeError as error:
        raise ParameterException(topic, str(error)) from error


def parameter_error(error: ParameterException) -> str:
    """Return rclpy's reason for refusing a value, with a hint if one applies."""
    hint = ''
    if 'INTEGER' in str(error) and 'DOUBLE' in str(error):
        hint = '; a floating-point parameter needs a decimal point: 10.0, not 10'
    if isinstance(error, ParameterUninitializedException):
        hint = '; an empty list [] counts as no value'
    return str(error) + hint
