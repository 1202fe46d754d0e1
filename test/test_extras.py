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

"""Check the commands suggested for installing what is missing."""

from importlib import metadata
import shlex
import sys
import sysconfig

from packaging.requirements import Requirement
import pytest

from segnet_ros.extras import install_extra, pip_install


@pytest.fixture(params=[False, True], ids=['own', 'managed'])
def flag(request, monkeypatch, tmp_path):
    """Make this Python externally managed, or not; return the flag that pip then needs."""
    monkeypatch.setattr(sys, 'prefix', sys.base_prefix)
    monkeypatch.setattr(sysconfig, 'get_path', lambda name: {'stdlib': str(tmp_path)}[name])
    if request.param:
        (tmp_path / 'EXTERNALLY-MANAGED').touch()
    return ['--break-system-packages'] * request.param


@pytest.mark.parametrize('extra', ['video', 'demo', 'train', 'ray'])
def test_an_extra_is_told_by_its_packages(flag, extra):
    pip, install, *words = shlex.split(install_extra(extra))
    assert [pip, install, *words[:len(flag)]] == ['pip', 'install', *flag]
    names = [Requirement(word).name for word in words[len(flag):]]
    assert {'video': 'av', 'demo': 'gradio', 'train': 'lightning', 'ray': 'ray'}[extra] in names
    assert 'hypothesis' not in names


def test_a_venv_needs_no_flag(flag, monkeypatch):
    monkeypatch.setattr(sys, 'prefix', '/venv')
    assert pip_install('av>=12') == "pip install 'av>=12'"


def test_where_the_package_is_not_installed_pip_takes_it_from_the_checkout(monkeypatch):
    def missing(name):
        raise metadata.PackageNotFoundError(name)
    monkeypatch.setattr(metadata, 'requires', missing)
    assert install_extra('train') == "pip install '.[train]'"
