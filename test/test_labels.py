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

"""Check label sets: reading, palette, file ids, and an error for each possible mistake."""

import copy

import numpy as np
import pytest
import yaml

from segnet_ros.labels import LabelSet, load_label_set, VOID

OWN = {
    'name': 'own',
    'classes': [{'name': 'road', 'color': [128, 64, 128]}, {'name': 'car', 'color': [64, 0, 128]},
                {'name': 'other', 'color': [255, 20, 30]}],
    'void': {'file_id': 9, 'color': [1, 2, 3]},
}


@pytest.fixture
def own():
    return LabelSet.from_dict(OWN)


def test_camvid11_is_shipped_by_name():
    label_set = load_label_set('camvid11')
    assert len(label_set) == 11
    assert label_set.class_names == (
        'sky', 'building', 'pole', 'road', 'pavement', 'tree', 'sign_symbol', 'fence', 'car',
        'pedestrian', 'bicyclist')
    assert label_set.void_file_id == 11
    assert label_set.colors[3] == (128, 64, 128)


def test_read_from_a_path(tmp_path, own):
    path = tmp_path / 'mine.yaml'
    path.write_text(yaml.safe_dump(OWN))
    assert load_label_set(path) == own
    assert load_label_set(str(path)) == own


def test_dict_round_trip(own):
    assert own.to_dict() == OWN
    assert LabelSet.from_dict(own.to_dict()) == own


def test_void_defaults():
    label_set = LabelSet.from_dict({k: v for k, v in OWN.items() if k != 'void'})
    assert label_set.void_file_id == VOID and label_set.void_color == (0, 0, 0)


def test_palette_has_the_void_colour_for_every_id_of_no_class(own):
    palette = own.palette()
    assert palette.shape == (256, 3) and palette.dtype == np.uint8
    assert palette[:3].tolist() == [c['color'] for c in OWN['classes']]
    assert (palette[3:] == (1, 2, 3)).all()


def test_from_file_ids_makes_void_255(own):
    label_map = own.from_file_ids(np.array([[0, 1, 9], [2, 9, 0]], np.uint8))
    assert label_map.dtype == np.uint8
    assert label_map.tolist() == [[0, 1, 255], [2, 255, 0]]


def test_from_file_ids_names_the_wrong_ids(own):
    with pytest.raises(ValueError, match=r"\[3, 77\].*'own' has 0 to 2 and void 9"):
        own.from_file_ids(np.array([[0, 77, 3, 9]], np.uint8))
    # 255 is void in memory, but not in these files: a mask of 0 and 255 is refused.
    with pytest.raises(ValueError, match=r'holds ids \[255\]'):
        own.from_file_ids(np.array([[0, 255]], np.uint8))


def changed(**changes):
    data = copy.deepcopy(OWN)
    data.update(changes)
    return data


@pytest.mark.parametrize('data, words', [
    (changed(classes=OWN['classes'][:1]), '2 to 254 classes, has 1'),
    (changed(classes=[{'name': str(i), 'color': [0, 0, 0]} for i in range(255)]), 'has 255'),
    (changed(classes=[OWN['classes'][0], OWN['classes'][0]]), 'duplicate class name'),
    (changed(classes=[{'name': 'a', 'color': [0, 0]}, OWN['classes'][0]]), 'not a colour'),
    (changed(classes=[{'name': 'a', 'color': [0, 0, 256]}, OWN['classes'][0]]), 'not a colour'),
    (changed(classes=[{'name': 'a', 'color': [0, 0, 0.5]}, OWN['classes'][0]]), 'not a colour'),
    (changed(classes=[{'name': 'a', 'color': 'red'}, OWN['classes'][0]]), 'not a colour'),
    (changed(classes=[{'name': 'a', 'color': 7}, OWN['classes'][0]]), 'needs .name. and .classes'),
    (changed(classes=[{'name': 'a'}, OWN['classes'][0]]), "'color'"),
    (changed(classes=[{'color': [0, 0, 0]}, OWN['classes'][0]]), "'name'"),
    (changed(classes=None), 'needs .name. and .classes'),
    (changed(void={'color': [0, 0, 300]}), 'not a colour'),
    (changed(void=3), "may have 'void', {file_id, color}; wrong or missing: void is 3"),
    (changed(void=None), 'wrong or missing: void is None'),
    (changed(classes=['road', 'car']), "wrong or missing: class 0 is 'road'"),
    (changed(void={'file_id': 9.7}), "void's file_id is 9.7; it must be a whole number"),
    (changed(void={'file_id': 'none'}), "void's file_id is 'none'"),
    (changed(void={'file_id': [9, 255]}), r"void's file_id is \[9, 255\]"),
    (changed(Void={'file_id': 9}), 'it has Void but may have only name, classes, void'),
    (changed(void={'id': 9}), 'void has id but may have only file_id, color; a'),
    (changed(classes=[{'name': 'car', 'id': 1, 'color': [0, 0, 0]}]), 'class 0 has id but'),
    (changed(classes=[{'name': True, 'color': [0, 0, 0]}]), 'class 0 is not text but True'),
    (changed(void={'file_id': 1}), 'outside the class ids'),
    (changed(void={'file_id': 256}), 'outside the class ids'),
    ({'classes': OWN['classes']}, "'name'"),
    ({'name': 'x'}, "'classes'"),
    (['road', 'car'], 'needs .name. and .classes'),
    (None, 'needs .name. and .classes'),
])
def test_errors_name_the_file_and_what_is_wrong(tmp_path, data, words):
    path = tmp_path / 'wrong.yaml'
    path.write_text(yaml.safe_dump(data))
    with pytest.raises(ValueError, match=words) as caught:
        load_label_set(path)
    assert str(caught.value).startswith(str(path))


def test_file_that_is_not_yaml(tmp_path):
    path = tmp_path / 'wrong.yaml'
    path.write_text('name: [road')
    with pytest.raises(ValueError, match=str(path)):
        load_label_set(path)


def test_colours_must_be_as_many_as_classes():
    with pytest.raises(ValueError, match='2 classes but 1 colours'):
        LabelSet('x', ('a', 'b'), ((0, 0, 0),))


def test_missing_file_tells_the_known_names():
    with pytest.raises(FileNotFoundError, match=r'cityscapes19.*camvid11'):
        load_label_set('cityscapes19')


@pytest.mark.parametrize('name', ['', ' ', 'building, edifice', 'car ', 'car\n'])
def test_names_that_a_list_of_names_cannot_hold_are_refused(name):
    with pytest.raises(ValueError, match='class name'):
        LabelSet('own', ('road', name), ((1, 2, 3), (4, 5, 6)))
