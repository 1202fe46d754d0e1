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

"""Check that the legend shows each class's colour next to its name."""

import numpy as np

from segnet_ros.labels import LabelSet, load_label_set
from segnet_ros.legend import draw_legend, ROW

NAMES = ('sky', 'sidewalk', 'car')
COLORS = ((10, 20, 230), (0, 128, 0), (255, 64, 32))


def rows(names, colors=COLORS):
    """Return the legend of these classes, split into one image per class."""
    label_set = LabelSet('toy', names, colors[:len(names)])
    return np.split(draw_legend(label_set, label_set.palette()), len(names))


def written(row):
    """Return the part of a row that shows the name, to the right of the colour."""
    return row[:, 50:]


def test_each_row_has_its_class_s_colour_and_no_other():
    for row, color in zip(rows(NAMES), COLORS, strict=True):
        patch = row[8:ROW - 8, 8:44]
        assert (patch == color).all()
        for other in set(COLORS) - {color}:
            assert not (row == other).all(-1).any()


def test_each_row_has_its_class_s_name():
    texts = [written(row) for row in rows(NAMES)]
    for place, text in enumerate(texts):
        assert text.min() < 100, 'nothing is written'
        for other in texts[:place]:
            assert (text != other).any()
    # In another order, the text follows the name, not the position.
    for place, text in enumerate(map(written, rows(NAMES[::-1]))):
        assert (text == texts[2 - place]).all()
    # The last letter counts, and the text is black on white whatever the colour.
    assert (written(rows(('sidewalk', 'sidewall'))[1]) != texts[1]).any()
    assert (written(rows(NAMES, COLORS[::-1])[0]) == texts[0]).all()


def test_every_name_of_the_shipped_classes_fits_in():
    label_set = load_label_set('camvid11')
    legend = draw_legend(label_set, label_set.palette())
    assert legend.shape == (ROW * len(label_set), 220, 3)
    assert (legend[:, -5:] == 255).all()


def test_a_long_name_makes_the_legend_wider():
    short, long = (rows(('sky', name)) for name in ('car', 'construction_vehicle_trailer'))
    assert short[0].shape[1] == 220 < long[0].shape[1]
    assert (long[0][:, :220] == short[0]).all()
    assert (long[1][:, -5:] == 255).all() and written(long[1])[:, 150:].min() < 100
