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

"""Go from a folder of images and masks of custom classes to weights, with the commands alone."""

import json

import cv2
import numpy as np
import torch

from segnet_ros.checkpoint import load_checkpoint
from segnet_ros.sample_drive.drive import SampleDrive
from segnet_ros.sample_drive.paint import CAR, ROAD
from segnet_ros.tools.cli import main

torch.set_num_threads(1)
SIZE = (64, 96)
LABELS = """
name: my_street
classes:
  - {name: road, color: [128, 64, 128]}
  - {name: car, color: [64, 0, 128]}
  - {name: other, color: [70, 70, 70]}
void: {file_id: 9}
"""


def write_own_data(folder):
    """Write what a user would bring: JPEG images, PNG masks of ids 0, 1, 2 and 9 for void."""
    (folder / 'labels.yaml').write_text(LABELS)
    for split, seeds in (('train', range(12)), ('val', range(100, 104))):
        (folder / split).mkdir()
        (folder / f'{split}annot').mkdir()
        for seed in seeds:
            drive = SampleDrive(seed=seed, size=SIZE)
            for index in (0, 60):
                image, label_map = drive.frame(index)
                mask = np.full(SIZE, 2, np.uint8)
                mask[label_map == ROAD] = 0
                mask[label_map == CAR] = 1
                mask[-2:] = 9
                name = f'{seed:03}_{index:03}'
                cv2.imwrite(str(folder / split / f'{name}.jpg'), image[..., ::-1])
                cv2.imwrite(str(folder / f'{split}annot' / f'{name}.png'), mask)


def test_own_classes(tmp_path):
    write_own_data(tmp_path)
    run, scores = tmp_path / 'run', tmp_path / 'scores.json'
    assert main([
        'train', '--data', str(tmp_path), '--label-set', str(tmp_path / 'labels.yaml'),
        '--output', str(run), '--accelerator', 'cpu', '--epochs', '14', '--set', 'width=0.125',
        '--set', f'input_size={list(SIZE)}', '--set', 'val_every=14', '--set', 'batch_size=4',
        '--set', 'lr=0.003']) == 0
    weights = run / 'weights.safetensors'
    _, info = load_checkpoint(weights)
    assert info.label_set.class_names == ('road', 'car', 'other')
    assert info.label_set.colors[0] == (128, 64, 128)
    assert info.input_size == SIZE
    assert main(['evaluate', '--weights', str(weights), '--data', str(tmp_path),
                 '--json', str(scores)]) == 0
    found = json.loads(scores.read_text())
    truth = np.array(found['confusion_matrix']).sum(1)
    # The best mIoU of one class everywhere: its share, and zero for the other two, averaged.
    chance = truth.max() / truth.sum() / 3
    assert found['miou'] > chance + 0.25
    assert found['per_class_iou']['road'] > 0.7
    # The weights run as they do in the node: with these classes, at the size of the images.
    balanced, picture = tmp_path / 'balanced.safetensors', min((tmp_path / 'val').iterdir())
    assert main(['balance', '--weights', str(weights), '--data', str(tmp_path),
                 '--output', str(balanced)]) == 0
    assert main(['predict', str(picture), '--weights', str(balanced), '-o', str(run)]) == 0
    mask = cv2.imread(str(run / 'mask' / f'{picture.stem}.png'), cv2.IMREAD_UNCHANGED)
    truth = cv2.imread(str(tmp_path / 'valannot' / f'{picture.stem}.png'), cv2.IMREAD_UNCHANGED)
    assert mask.shape == SIZE and set(np.unique(mask)) <= {0, 1, 2}
    assert (mask == truth).mean() > 0.7
