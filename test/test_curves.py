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

"""Check what the picture of a run's curves shows."""

import cv2
import pytest

from segnet_ros.labels import LabelSet, load_label_set
from segnet_ros.training.curves import curves_figure, save_curves

CAMVID = load_label_set('camvid11')


def test_curves_show_each_epoch_once_and_each_class_in_its_colour(tmp_path):
    path = tmp_path / 'metrics.csv'
    # Killed in epoch 3 and resumed, so the old row is there too. No frame shows a sign.
    path.write_text('epoch,step,loss,val_miou,val_iou_road,val_iou_sign_symbol\n'
                    '0,9,2.5,,,\n1,19,,0.25,0.75,\n1,19,2.0,,,\n2,29,9.0,,,\n2,29,1.5,,,\n'
                    '3,39,,0.5,0.875,\n')
    above, below = curves_figure(path, CAMVID).axes
    assert [line.get_xydata().tolist() for line in above.lines] == [[[1, 2.5], [2, 2], [3, 1.5]]]
    lines = {line.get_label(): line for line in below.lines}
    assert list(lines) == [*CAMVID.class_names, 'mean']
    assert lines['mean'].get_xydata().tolist() == [[2, 25], [4, 50]]
    assert below.get_ylim() == (0, 100)
    assert lines['road'].get_xydata().tolist() == [[2, 75], [4, 87.5]]
    assert lines['sign_symbol'].get_xydata().tolist() == []
    assert lines['road'].get_color() == pytest.approx((128 / 255, 64 / 255, 128 / 255))


def test_curves_take_a_long_legend(tmp_path):
    # Names that matplotlib would omit, or parse as formulas.
    names = ('_background_', '$x', 'a$_$b', *(f'class_{i}' for i in range(147)))
    many = LabelSet('many', names, tuple((i, 255 - i, 90) for i in range(150)))
    (tmp_path / 'metrics.csv').write_text('epoch,step,loss,val_miou\n0,9,2.5,\n0,9,,0.25\n')
    picture = cv2.imread(str(save_curves(tmp_path / 'metrics.csv', many)))
    assert picture.shape == (770, 1782, 3)
    legend = curves_figure(tmp_path / 'metrics.csv', many).legends[0]
    assert [text.get_text() for text in legend.get_texts()] == [*names, 'mean']
    assert not list(tmp_path.glob('*.part'))
