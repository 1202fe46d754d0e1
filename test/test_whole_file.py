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

"""Check that a file appears whole or not at all."""

import os

import pytest

from segnet_ros.whole_file import whole_file, write_whole


def test_the_file_appears_at_the_end_in_a_folder_that_is_made(tmp_path):
    path = tmp_path / 'new' / 'a.txt'
    with whole_file(path) as part:
        part.write_text('whole')
        assert not path.exists()
    assert [p.name for p in path.parent.iterdir()] == ['a.txt']
    assert path.read_text() == 'whole'


def test_an_error_leaves_the_older_file(tmp_path):
    path = tmp_path / 'a.txt'
    path.write_text('older')
    with pytest.raises(ZeroDivisionError), whole_file(path) as part:
        part.write_text('ha')
        raise ZeroDivisionError
    assert [p.name for p in tmp_path.iterdir()] == ['a.txt']
    assert path.read_text() == 'older'


def test_an_error_names_the_file_and_not_its_part(tmp_path, full_disk):
    for path, content in ((tmp_path / 'a.txt', b'too long' * 2**20), (tmp_path, b''), ('.', b'')):
        with full_disk(), pytest.raises(OSError) as failed:
            write_whole(path, content)
        assert failed.value.filename == str(path)


def test_a_pipe_is_written_itself_and_a_link_stays_one(tmp_path):
    os.mkfifo(tmp_path / 'pipe')
    reader = os.open(tmp_path / 'pipe', os.O_RDONLY | os.O_NONBLOCK)
    write_whole(tmp_path / 'pipe', b'through')
    assert os.read(reader, 9) == b'through' and (tmp_path / 'pipe').is_fifo()
    os.close(reader)
    (tmp_path / 'link').symlink_to('file')
    for content in (b'new', b'newer'):
        write_whole(tmp_path / 'link', content)
        assert (tmp_path / 'file').read_bytes() == content and (tmp_path / 'link').is_symlink()
