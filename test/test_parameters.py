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

"""Check that PARAMETERS, config/segnet.yaml and the README agree, and that parsing is strict."""

from pathlib import Path
import re

import pytest
from rclpy.parameter import Parameter
import yaml

from segnet_ros.ros.parameters import (
    PARAMETERS, parse_camera_names, parse_color, parse_roi, parse_size, refusal)

ROOT = Path(__file__).parents[1]


def test_the_configuration_file_has_every_parameter_with_its_default():
    given = yaml.safe_load((ROOT / 'config' / 'segnet.yaml').read_text())['/**']['ros__parameters']
    assert given == {spec.name: spec.default for spec in PARAMETERS}


def test_the_configuration_file_marks_what_is_live():
    text = (ROOT / 'config' / 'segnet.yaml').read_text()
    for spec in PARAMETERS:
        comment = text[:text.index(f'\n    {spec.name}:')].rsplit('\n\n', 1)[-1]
        assert ('# Live.' in comment) == spec.live, spec.name


def test_the_readme_s_table_has_every_parameter_with_its_default():
    rows = dict(re.findall(r'^\| `(\w+)`[^|]*\| `([^`]*)` \|', (ROOT / 'README.md').read_text(),
                           re.MULTILINE))
    expected = {spec.name: yaml.safe_dump(spec.default, default_flow_style=True).split('\n')[0]
                for spec in PARAMETERS}
    assert rows == expected


def test_every_parameter_is_described_and_every_number_bounded():
    for spec in PARAMETERS:
        descriptor = spec.descriptor()
        assert descriptor.description.endswith('.')
        if type(spec.default) in (int, float):
            assert descriptor.integer_range or descriptor.floating_point_range, spec.name


@pytest.mark.parametrize('text,size', [('640x480', (480, 640)), ('8x8192', (8192, 8)),
                                       ('auto', None)])
def test_sizes(text, size):
    assert parse_size(text, ('auto',)) == size


@pytest.mark.parametrize('text', ['', '640', '640X480', '7x480', '640x-480', '640x480x3', '9x9999',
                                  '6.4x480', 'input'])
def test_wrong_sizes_are_refused(text):
    with pytest.raises(ValueError, match='WIDTHxHEIGHT'):
        parse_size(text, ('auto',))


def test_regions():
    assert parse_roi([0.0, 0.0, 1.0, 1.0]) is None
    assert parse_roi([0.25, 0.5, 0.5, 0.5]) == (0.25, 0.5, 0.5, 0.5)
    assert parse_roi([0.9, 0.9, 0.1, 0.1]) == (0.9, 0.9, 0.1, 0.1), '1 - 0.9 is a little less'
    for wrong in ([], [0, 0, 0, 1], [0.6, 0, 0.5, 1], [-0.1, 0, 0.5, 1], [0, 0, 1, 1.1]):
        with pytest.raises(ValueError):
            parse_roi(wrong)


def test_colors_and_camera_names():
    assert parse_color([1, 2, 255]) == (1, 2, 255)
    for wrong in ([1, 2], [1, 2, 256], [-1, 0, 0]):
        with pytest.raises(ValueError):
            parse_color(wrong)
    assert parse_camera_names(['']) == ['']
    assert parse_camera_names(['front', 'rear_2', 'left/up_']) == ['front', 'rear_2', 'left/up_']
    for wrong in ([], ['a', 'a'], ['', 'a'], ['2nd'], ['a b'], ['ä'],
                  ['front', 'cam/1'], ['front/'], ['a//b'], ['a__b']):
        with pytest.raises(ValueError):
            parse_camera_names(wrong)


@pytest.mark.parametrize('period, fits', [(0.0, True), (0.05, False), (1e-10, False), (0.1, True)])
def test_diagnostics_do_not_take_all_of_the_time(period, fits):
    specs = {spec.name: spec for spec in PARAMETERS}
    reason = refusal(Parameter('diagnostics_period', value=period), specs, configured=False)
    assert reason == (
        '' if fits else f"'diagnostics_period': {period} is neither 0 nor at least 0.1")
