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

"""Check `segnet record-bag` from its arguments to the bag."""

import cv2
import numpy as np
import pytest
from several_cameras import write_several_cameras

from segnet_ros.bags.reading import bag_topics, COMPRESSED, read_messages, TYPES
from segnet_ros.inputs import find_inputs, read_inputs
from segnet_ros.sources import open_frames
from segnet_ros.tools.cli import main


@pytest.fixture
def folder(tmp_path):
    path = tmp_path / 'drive'
    path.mkdir()
    for i in range(3):
        cv2.imwrite(str(path / f'{i}.png'), np.full((31, 45, 3), 40 * i, np.uint8))
    return path


def test_folder_to_bag_and_bag_to_bag(tmp_path, folder, capsys):
    first, second = tmp_path / 'first', tmp_path / 'second'
    assert main(['record-bag', str(folder), str(first), '--fps', '10', '--topic', '/front',
                 '--frame-id', 'front_camera']) == 0
    assert '3 images on /front, 10 a second' in capsys.readouterr().out
    assert main(['record-bag', str(first), str(second), '--storage', 'sqlite3', '--format',
                 'png']) == 0
    assert (second / 'second.db3').is_file()
    assert [(t.name, t.type_name) for t in bag_topics(second)] == [
        ('/image/compressed', 'sensor_msgs/msg/CompressedImage')]
    assert '3 images on /image/compressed, ' in capsys.readouterr().out
    cdr = next(read_messages(second)).cdr  # image_transport would else swap red and blue
    assert TYPES.deserialize_cdr(cdr, COMPRESSED).format == 'rgb8; png compressed bgr8'
    for bag in (first, second):
        for i, frame in enumerate(open_frames(bag)):
            assert (frame.stamp_ns, frame.frame_id) == (i * 10**8, 'front_camera')
            assert frame.image.shape == (31, 45, 3) and (frame.image == 40 * i).all()


def test_one_of_a_bag_s_cameras(tmp_path, folder, capsys):
    assert main(['record-bag', str(folder), str(tmp_path / 'one'), '--from-topic', '/rear']) == 1
    assert f'--from-topic is for bags; {folder} is none' in capsys.readouterr().err
    main(['record-bag', str(folder), str(tmp_path / 'one')])
    write_several_cameras(tmp_path / 'two', tmp_path / 'one', '/front', '/rear')
    assert main(['record-bag', str(tmp_path / 'two'), str(tmp_path / 'out')]) == 1
    assert 'choose one with --from-topic: /front (Image, 3), /rear' in capsys.readouterr().err
    assert main(['record-bag', str(tmp_path / 'two'), str(tmp_path / 'out'),
                 '--from-topic', '/rear']) == 0
    assert [(t.name, t.count) for t in bag_topics(tmp_path / 'out')] == [('/image', 3)]
    # `segnet predict` handles such a bag the same way.
    errors = []
    found = find_inputs([str(tmp_path / 'two')])
    assert not list(read_inputs(found, 15, errors.append)) and '/front (Image' in str(errors[0])
    assert len(list(read_inputs(found, 15, pytest.fail, '/rear'))) == 3


@pytest.mark.parametrize('topic', ['front camera', '/cam/0/image', '/a//b', '/a/', '', '/aä'])
def test_a_topic_that_ros_does_not_allow_is_refused(tmp_path, folder, capsys, topic):
    assert main(['record-bag', str(folder), str(tmp_path / 'out'), '--topic', topic]) == 1
    assert f"'{topic}' is no topic name" in capsys.readouterr().err
    assert not (tmp_path / 'out').exists()


def test_errors_are_one_line(tmp_path, folder, capsys):
    assert main(['record-bag', str(folder), str(folder)]) == 1
    assert main(['record-bag', str(tmp_path / 'nothing'), str(tmp_path / 'out')]) == 1
    lines = [s for s in capsys.readouterr().err.splitlines() if s.startswith('segnet record-bag')]
    assert len(lines) == 2
    assert 'already exists' in lines[0] and 'no file or folder' in lines[1]
    assert not (tmp_path / 'out').exists()


def test_what_cannot_be_read_is_left_out_and_named(tmp_path, folder, capsys):
    (folder / '1.png').write_bytes(b'broken')
    count = len(list(folder.iterdir()))
    assert main(['record-bag', str(folder), str(tmp_path / 'out')]) == 3
    printed = capsys.readouterr()
    assert 'left out: ' in printed.err and '1.png' in printed.err
    assert f'{count - 1} images' in printed.out
    assert bag_topics(tmp_path / 'out')[0].count == count - 1
