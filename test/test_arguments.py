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

"""Check where verbs print, so that tables and JSON on standard output can be read."""

import io
import json
from pathlib import Path
import subprocess
import sys

import pytest

from segnet_ros.tools import cli
from segnet_ros.tools.arguments import keep_stdout_for


@pytest.mark.parametrize('name, mixed', [('out', True), ('link', True), ('other', False),
                                         ('none', False)])
def test_what_is_printed_keeps_out_of_files_that_are_standard_output(tmp_path, monkeypatch,
                                                                     capfd, name, mixed):
    (tmp_path / 'other').touch()
    (tmp_path / 'link').symlink_to('out')
    with (tmp_path / 'out').open('w') as file:
        monkeypatch.setattr(sys, 'stdout', file)
        with keep_stdout_for(None, tmp_path / name):
            print('summary')
    assert ((tmp_path / 'out').read_text() == '') == mixed
    assert ('summary' in capfd.readouterr().err) == mixed


def test_a_pipe_that_gets_the_json_gets_nothing_else():
    program = f"""
import sys
from pathlib import Path
from segnet_ros.tools.arguments import keep_stdout_for
from segnet_ros.whole_file import write_whole
with keep_stdout_for(Path('/dev/stdout')):
    print('summary')
    write_whole('/dev/stdout', {json.dumps({'miou': 1})!r}.encode())
"""
    done = subprocess.run([sys.executable, '-c', program], text=True, capture_output=True,
                          cwd=Path(__file__).parents[1])
    assert json.loads(done.stdout) == {'miou': 1} and done.stderr == 'summary\n', done


def test_what_a_shell_appends_to_keeps_what_it_had(tmp_path):
    file = tmp_path / 'all.json'
    file.write_text('earlier')
    program = 'from segnet_ros.whole_file import write_whole; write_whole("/dev/stdout", b"new")'
    with file.open('a') as end:
        subprocess.run([sys.executable, '-c', program], stdout=end, check=True,
                       cwd=Path(__file__).parents[1])
    assert file.read_text() == 'earliernew'


def test_a_file_name_that_is_no_text_does_not_make_done_work_fail(monkeypatch):
    """In most locales, printing one raises UnicodeEncodeError, which is a ValueError."""
    written = io.BytesIO()
    monkeypatch.setattr(sys, 'stdout', io.TextIOWrapper(written, encoding='utf-8'))
    monkeypatch.setattr(cli, '_run', lambda argv: print('caf\udce9') or 0)
    assert cli.main([]) == 0
    sys.stdout.flush()
    assert written.getvalue() == b'caf\\udce9\n'
