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


"""
Skip the tests of extras that are not installed, and hold fixtures that several files share.

rosdep has no keys for the dependencies of the extras.
"""

from contextlib import contextmanager
from importlib.util import find_spec
import os
import resource
import signal

from labelled_folder import write_split
import pytest
from training_fixtures import SIZE

from segnet_ros.labels import VOID
from segnet_ros.sample_drive.drive import SampleDrive

TRAINING = ('lightning', 'matplotlib', 'pytorch_optimizer', 'torchmetrics')
# Packages that each file needs beyond package.xml; `make venv` installs all of them.
NEEDS = {
    'test_balance.py': TRAINING,
    'test_callbacks.py': TRAINING,
    'test_curves.py': ('matplotlib',),
    'test_dataset.py': TRAINING,
    'test_demo_browser.py': ('gradio', 'playwright'),
    'test_demo_page.py': ('av', 'gradio'),
    'test_drive_report.py': ('av',),
    'test_end_to_end.py': ('av',),
    'test_evaluate.py': ('torchmetrics',),
    'test_metrics.py': ('torchmetrics',),
    'test_module.py': ('lightning', 'pytorch_optimizer', 'torchmetrics'),
    'test_muon.py': ('pytorch_optimizer',),
    'test_own_classes.py': TRAINING,
    'test_predict.py': ('av',),
    'test_segment_bag.py': ('ray',),
    'test_sources.py': ('av',),
    'test_street_view.py': ('PIL',),
    'test_train.py': TRAINING,
    'test_video.py': ('av',),
}
MISSING = {file: [name for name in names if find_spec(name) is None]
           for file, names in NEEDS.items()}
# In CI, a missing library is an error.
collect_ignore = [] if 'CI' in os.environ else [f for f, names in MISSING.items() if names]


def pytest_report_header() -> list[str]:
    """Say what is left out, and why."""
    return [f'left out: {file}, for {", ".join(MISSING[file])} is not installed'
            for file in collect_ignore]


@pytest.fixture
def full_disk():
    """Return a context manager that limits files to 8 kB, to simulate a full disk."""
    @contextmanager
    def limited():
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (8192, hard))
        try:
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    return limited


@pytest.fixture(autouse=True)
def signal_handlers():
    """Restore the handlers of SIGINT, SIGTERM and SIGHUP, which commands set, after the test."""
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = [signal.getsignal(number) for number in numbers]
    yield
    for number, handler in zip(numbers, before, strict=True):
        signal.signal(number, handler)


@pytest.fixture(scope='session')
def data(tmp_path_factory):
    """Write a CamVid-like folder: drives 0001 and 0002 in train, 0003 in val."""
    folder = tmp_path_factory.mktemp('camvid_like')
    for split, seeds in (('train', (1, 2)), ('val', (3,))):
        frames = {}
        for seed in seeds:
            drive = SampleDrive(seed=seed, size=SIZE)
            for index in range(4):
                image, label_map = drive.frame(20 * index)
                label_map[:2] = VOID
                frames[f'{seed:04}_{index}.png'] = image, label_map
        write_split(folder, split, frames)
    return folder


@pytest.fixture
def scratch(data, tmp_path):
    """Return a copy of the data that a test may spoil."""
    for path in data.rglob('*.png'):
        target = tmp_path / path.relative_to(data)
        target.parent.mkdir(exist_ok=True)
        target.write_bytes(path.read_bytes())
    return tmp_path
