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

"""What the README names is there: tests, files and verbs."""

from pathlib import Path
import re

import pytest

from segnet_ros.tools.cli import VERBS

ROOT = Path(__file__).parents[1]
README = (ROOT / 'README.md').read_text()
TESTS = re.findall(r'`(test_\w+\.py)::(\w+)`', README)


@pytest.mark.parametrize('file,name', TESTS)
def test_a_test_that_the_readme_names_is_there(file, name):
    assert re.search(rf'^def {name}\(', (ROOT / 'test' / file).read_text(), re.MULTILINE)


def test_the_readme_names_tests():
    assert len(TESTS) > 10


def test_links_lead_somewhere():
    targets = re.findall(r'\]\((?!https?:)([^)#]+)\)', README)
    assert targets
    missing = [target for target in targets if not (ROOT / target).exists()]
    assert not missing


def test_every_verb_is_in_the_table_and_no_other():
    rows = re.findall(r'^\| `segnet ([\w-]+)', README, re.MULTILINE)
    assert sorted(rows) == sorted(VERBS)
