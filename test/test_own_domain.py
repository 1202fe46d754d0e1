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

"""Check that trial commands meet no robot, whatever the environment of their shell says."""

import os
import signal

import pytest

from segnet_ros.own_domain import enter_domain
from segnet_ros.tools import bench, drive
from segnet_ros.tools.cli import main


@pytest.fixture(autouse=True)
def robot(monkeypatch):
    """Set the environment of a shell on a robot."""
    monkeypatch.setenv('ROS_DOMAIN_ID', '0')
    monkeypatch.setenv('ROS_AUTOMATIC_DISCOVERY_RANGE', 'SUBNET')


def test_it_has_a_domain_of_its_own_on_this_machine():
    enter_domain(None)
    assert 1 <= int(os.environ['ROS_DOMAIN_ID']) <= 100
    assert os.environ['ROS_AUTOMATIC_DISCOVERY_RANGE'] == 'LOCALHOST'


def test_it_goes_where_it_is_sent():
    enter_domain(42)
    assert os.environ['ROS_DOMAIN_ID'] == '42'
    assert os.environ['ROS_AUTOMATIC_DISCOVERY_RANGE'] == 'SUBNET'


@pytest.mark.parametrize('domain', [-1, 233])
def test_it_refuses_a_domain_that_dds_has_no_ports_for(domain):
    with pytest.raises(ValueError, match=f'^--domain {domain}: .* from 0 to 232$'):
        enter_domain(domain)
    assert os.environ['ROS_DOMAIN_ID'] == '0'


@pytest.mark.parametrize('arguments, domain', [([], None), (['--domain', '7'], 7)])
@pytest.mark.parametrize('verb', [bench, drive], ids=['bench', 'drive'])
def test_what_starts_nodes_enters_it_first(monkeypatch, verb, arguments, domain):
    class EnteredError(Exception):
        """Ends the verb once it enters the domain."""

    def enter(asked):
        assert asked == domain
        with pytest.raises(KeyboardInterrupt):  # or a SIGTERM would leave the nodes running
            signal.raise_signal(signal.SIGTERM)
        raise EnteredError
    monkeypatch.setattr(verb, 'enter_domain', enter)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    with pytest.raises(EnteredError):
        main([verb.__name__.rpartition('.')[2], *arguments])
