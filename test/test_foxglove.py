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

"""Check that what Foxglove and the plotters are set to show is what the node publishes."""

import json
from pathlib import Path
import re

from segnet_ros.labels import load_label_set
from segnet_ros.resources import share_directory

LAYOUT = json.loads((share_directory() / 'config' / 'foxglove_layout.json').read_text())
README = (Path(__file__).parents[1] / 'README.md').read_text()
CLASSES = load_label_set('camvid11').class_names
PANELS = LAYOUT['configById']


def published() -> dict[str, str]:
    """Return the type of each topic in README's table, in the namespace of the launch files."""
    rows = re.findall(r'^\| (`[^|]*`) \| (\w+/\w+)[^|]* \|', README, re.MULTILINE)
    names = {name: kind for cell, kind in rows for name in re.findall('`([^`]+)`', cell)}
    return {name if name.startswith('/') else '/segmentation/' + name: kind
            for name, kind in names.items()}


def panels(part) -> list[str]:
    """Return the panels of a layout from left to right and top to bottom."""
    return [part] if isinstance(part, str) else panels(part['first']) + panels(part['second'])


def test_every_panel_is_in_the_layout_once():
    assert sorted(panels(LAYOUT['layout'])) == sorted(PANELS)


def test_pictures_are_topics_that_carry_pictures():
    shown = {name: panel['imageMode']['imageTopic'] for name, panel in PANELS.items()
             if name.startswith('Image!')}
    assert shown.pop('Image!camera') == '/camera/image_raw'  # the launch file's default input
    for name, topic in shown.items():
        assert topic == '/segmentation/' + name.removeprefix('Image!')
        assert published()[topic] == 'sensor_msgs/Image'
    assert set(shown) == {'Image!overlay', 'Image!color_mask', 'Image!legend'}
    assert PANELS['Image!overlay']['cameraTopic'] == shown['Image!overlay']


def test_each_curve_is_the_class_that_its_label_names():
    paths = PANELS['Plot!fractions']['paths']
    assert {path['label'] for path in paths} == {'road', 'car', 'pedestrian', 'bicyclist'}
    for path in paths:
        topic, index = re.fullmatch(r'(.+)\.data\[(\d+)\]', path['value']).groups()
        assert published()[topic] == 'std_msgs/Float32MultiArray'
        assert CLASSES[int(index)] == path['label'] and path['enabled']


def test_the_status_is_the_node_s():
    panel = PANELS['DiagnosticStatusPanel!node']
    assert published()[panel['topicToRender']] == 'diagnostic_msgs/DiagnosticArray'
    # The status's name and hardware_id are equal; test_node.py checks the name on the topic.
    assert panel['selectedHardwareId'] == 'segmentation/segnet: camera'


def test_the_readme_s_indices_are_those_of_its_classes():
    said = re.search(r'`(\S+)/data\[(\d+)\]` is the share of road, '
                     r'`\[(\d+)\]` that of\s+pedestrians', README)
    assert published()[said[1]] == 'std_msgs/Float32MultiArray'
    assert (CLASSES[int(said[2])], CLASSES[int(said[3])]) == ('road', 'pedestrian')
