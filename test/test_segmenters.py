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

"""Check which segmenter a camera's frame gets."""

import threading
from unittest.mock import MagicMock

from segnet_ros.ros.segmenters import Segmenters


def test_a_thread_gets_the_segmenter_that_it_had():
    segmenters, settings = Segmenters(lambda size: MagicMock(), lambda *_: None), MagicMock()
    lent, go = threading.Event(), threading.Event()

    def hold():
        with segmenters.lend((48, 64), settings):
            lent.set()
            assert go.wait(10)

    other = threading.Thread(target=hold)
    with segmenters.lend((48, 64), settings) as mine:
        other.start()
        assert lent.wait(10)
    go.set()
    other.join()
    with segmenters.lend((48, 64), settings) as again:  # the other's was released last
        assert again is mine


def test_a_segmenter_of_a_size_that_is_gone_is_not_lent_again():
    segmenters = Segmenters(lambda size: MagicMock(size=size), lambda *_: None)
    small, large, settings = (48, 64), (96, 128), MagicMock()
    with segmenters.lend(small, settings) as old, segmenters.lend(large, settings):
        assert old.size == small
    with segmenters.lend(large, settings) as one, segmenters.lend(large, settings) as other:
        assert one.size == other.size == large
