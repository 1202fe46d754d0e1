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

"""Check that a recipe is read and overridden, and that each mistake in one is told."""

import pytest

from segnet_ros.labels import load_label_set
from segnet_ros.resources import share_directory
from segnet_ros.training.config import load_config, Phase, TrainConfig

CAMVID = load_label_set('camvid11')


def test_recipe_is_read_and_overridden(tmp_path):
    path = tmp_path / 'r.yaml'
    path.write_text('lr: 1\nwidth: 0.25\nwarmup_steps: 1e3\nphases:\n'
                    '  - {epochs: 3, crop: [64, 96], scale: [1, 2]}\n'
                    '  - {epochs: 2, crop: [128, 160], scale: [0.5, 1.5]}\n')
    config = load_config(path, {'width': 0.5, 'input_size': [128, 160]})
    assert (config.lr, config.width, config.input_size) == (1.0, 0.5, (128, 160))
    assert isinstance(config.lr, float)
    assert config.warmup_steps == 1000
    assert config.epochs == 5
    assert [config.phase(e).crop for e in range(6)] == [(64, 96)] * 3 + [(128, 160)] * 3
    assert load_config(None, config.to_dict()) == config


@pytest.mark.parametrize('path', sorted((share_directory() / 'config' / 'train').glob('*.yaml')),
                         ids=lambda path: path.name)
def test_shipped_recipes_load(path):
    config = load_config(path, {'data': 'somewhere'})
    assert config.phases and config.class_bias.keys() == set(CAMVID.class_names)
    halved = 16 if config.architecture == 'segnet_basic' else 32
    assert all(side % halved == 0 for phase in config.phases for side in phase.crop)


def test_without_phases_crops_are_whole_frames():
    config = load_config(None, {'input_size': [370, 500]})
    assert config.phases == (Phase(20, (352, 480), (0.75, 1.75)),)
    assert config.whole_frames(3).epochs == 3
    assert load_config(None, {'input_size': [24, 500]}).phases[0].crop == (32, 480)


@pytest.mark.parametrize('text, words', [
    ('learning_rate: 1', "unknown training setting 'learning_rate'; choose from data, split"),
    ('lr: fast', "'lr' cannot be 'fast'"),
    ('batch_size: [1]', "'batch_size' cannot be"),
    ('input_size: 360', "'input_size' cannot be 360"),
    ('input_size: [1, 2, 3]', "'input_size' cannot be"),
    ('phases: [{epochs: 3}]', "'phases' cannot be.*crop"),
    ('split: 3', "'split' cannot be 3: it must be text"),
    ('batch_size: 7.9', "'batch_size' cannot be 7.9: 7.9 must be a whole number"),
    ('input_size: [40.7, 33]', "'input_size' cannot be .*: 40.7 must be a whole number"),
    ('phases: [{epochs: 1.9, crop: [32, 32], scale: [1, 1]}]', '1.9 must be a whole number'),
    ('phases: [{epochs: 1, crop: [32.9, 32], scale: [1, 1]}]', '32.9 must be a whole number'),
    ('phases: [{epochs: 1, crop: [32, 32], scale: [1, 1], lr: 1}]',
     'each phase needs epochs, crop and scale, and nothing else'),
    ('phases: {epochs: 1}', 'each phase needs epochs, crop and scale'),
    ('passes: 0', "'passes' must be at least 1, not 0"),
    ('val_every: 0', "'val_every' must be at least 1, not 0"),
    ('degrade: 35', "'degrade' must be from 0 to 1, not 35"),
    ('sample_drive_frames: -2', "'sample_drive_frames' must be at least 0, not -2"),
    ('weight_decay: -1', "'weight_decay' must be at least 0, not -1"),
    ('lr: .nan', "'lr' must be at least 0, not nan"),
    ('ema_decay: 998', "'ema_decay' must be from 0 to 1"),
    ('input_size: [0, 96]', "'input_size' must be at least 8, not 0"),
    ('phases: [{epochs: 1, crop: [32, 0], scale: [1, 1]}]', "'crop' must be at least 8, not 0"),
    ('phases: [{epochs: 1, crop: [32, 32], scale: [0, 1]}]', "'scale' must be above 0"),
    ('phases: [{epochs: 1, crop: [32, 32], scale: [2, 1]}]',
     "'scale' must be above 0, minimum first"),
    ('{architecture: pspnet, batch_size: 1}', "'batch_size' must be at least 2 for pspnet"),
    ('{batch_size: 1, phases: [{epochs: 1, crop: [8, 16], scale: [1, 1]}]}',
     "'batch_size' must be at least 2 for crops of 16x16 and less"),
    ('phases: [{epochs: 0, crop: [32, 32], scale: [1, 1]}]', "'epochs' must be at least 1"),
    ('phases: [{epochs: 1, crop: [32, 32], scale: [1, .inf]}]', "'scale' must be above 0"),
    ('lr: .inf', "'lr' must be at least 0, not inf"),
    (f'seed: 1{"0" * 400}', "'seed' cannot be 1000.*: int too large"),
    ('class_weight_offset: .nan', "'class_weight_offset' must be at least 1, not nan"),
    ('class_bias: {road: .nan}', "'class_bias' must be finite, not nan"),
    ('[lr]', 'needs a mapping'),
    ('lr: [', 'r.yaml'),
])
def test_wrong_recipe(tmp_path, text, words):
    path = tmp_path / 'r.yaml'
    path.write_text(text)
    with pytest.raises(ValueError, match=words):
        load_config(path, {})


@pytest.mark.parametrize('name', sorted(
    name for name, value in vars(TrainConfig()).items()
    if type(value) in (int, float) and name not in ('width', 'seed')))
def test_no_number_is_negative(name):
    with pytest.raises(ValueError, match=f"'{name}' must be .*, not -1"):
        load_config(None, {name: -1})


def test_a_recipe_that_is_no_text_is_named(tmp_path):
    path = tmp_path / 'r.yaml'
    path.write_bytes(b'data: caf\xe9')
    with pytest.raises(ValueError, match='r.yaml: .*decode'):
        load_config(path, {})
