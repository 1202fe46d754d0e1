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

"""Check that what the README names exists: tests, files, verbs; and that all links resolve."""

from collections import Counter
from pathlib import Path
import re

import numpy as np
import pytest

from segnet_ros.tools.cli import main, VERBS

ROOT = Path(__file__).parents[1]
README = (ROOT / 'README.md').read_text()
TESTS = re.findall(r'`(test_\w+\.py)::(\w+)`', README)


@pytest.mark.parametrize('file,name', TESTS)
def test_a_test_that_the_readme_names_is_there(file, name):
    assert re.search(rf'^def {name}\(', (ROOT / 'test' / file).read_text(), re.MULTILINE)


def test_the_readme_names_tests():
    assert len(TESTS) > 10


PAGES = [ROOT / 'README.md', ROOT / 'CONTRIBUTING.md', *sorted((ROOT / 'docs').glob('*.md'))]


def prose(page: Path) -> str:
    """Return a page without its code blocks, in which # starts a comment."""
    return re.sub(r'^```.*?^```$', '', page.read_text(), flags=re.MULTILINE | re.DOTALL)


def anchors(text: str) -> set[str]:
    """Return the anchors that GitHub gives a page's headings."""
    found, seen = set(), Counter()
    for heading in re.findall(r'^#+ +(.+?) *#*$', text, re.MULTILINE):
        shown = re.sub(r'!?\[([^]]*)\]\([^)]*\)', r'\1', heading)
        slug = re.sub(r'[^\w\- ]', '', shown.lower()).replace(' ', '-')
        found.add(f'{slug}-{seen[slug]}' if seen[slug] else slug)
        seen[slug] += 1
    return found


def broken_links(page: Path) -> list[str]:
    """Return a page's links to files and headings that do not exist."""
    broken = []
    for link in re.findall(r'\]\((?!https?:)([^)\s]+)\)', prose(page)):
        name, _, anchor = link.partition('#')
        target = page.parent / name if name else page
        if not target.exists() or anchor and anchor not in anchors(prose(target)):
            broken.append(link)
    return broken


@pytest.mark.parametrize('page', PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    assert not broken_links(page)


def test_links_that_lead_nowhere_are_found(tmp_path):
    (tmp_path / 'other.md').write_text(
        '# Two words, `code` & [a link](x)!\n\n## Same\n\n## Same\n')
    page = tmp_path / 'page.md'
    good = '[a](other.md) [b](other.md#two-words-code--a-link) [c](other.md#same-1) [d](#here)'
    page.write_text(f'# Here\n\n{good}\n\n```bash\n# there\n```\n\n[e](https://example.org#x)\n')
    assert broken_links(page) == []
    bad = ['no.md', 'no.md#same', 'other.md#same-2', 'other.md#two-words', '#there', '#Here']
    page.write_text(page.read_text() + ' '.join(f'[f]({link})' for link in bad))
    assert broken_links(page) == bad


def test_pages_have_links():
    assert all('](' in prose(page) for page in PAGES)


def test_every_verb_is_in_the_table_and_no_other():
    rows = re.findall(r'^\| `segnet ([\w-]+)', README, re.MULTILINE)
    assert sorted(rows) == sorted(VERBS)


@pytest.mark.parametrize('verb', VERBS)
def test_help_says_what_the_list_of_verbs_says(verb, capsys):
    with pytest.raises(SystemExit):
        main([verb, '--help'])
    assert VERBS[verb][1:] in ' '.join(capsys.readouterr().out.split())


def test_the_python_lines_give_a_label_map():
    lines, = re.findall(r'^```python\n(.*?)^```', README, re.MULTILINE | re.DOTALL)
    names = {'rgb': np.zeros((48, 64, 3), np.uint8)}
    exec(lines, names)
    assert names['result'].label_map.shape == (48, 64)
    assert names['result'].label_map.dtype == np.uint8
