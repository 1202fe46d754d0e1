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

"""Check that a checkpoint round-trips, and that a bad file gives one clear error."""

from dataclasses import replace
import json
import os
import threading

import pytest
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from small_network import shake_batch_norms
import torch

from segnet_ros import checkpoint as checkpoint_module
from segnet_ros.checkpoint import (
    CheckpointError, find_weights, load_checkpoint, ModelInfo, read_info, save_checkpoint)
from segnet_ros.labels import LabelSet, load_label_set, VOID
from segnet_ros.networks.build import ARCHITECTURES
from segnet_ros.runtime import prepare
from segnet_ros.sample_drive.drive import SampleDrive
from segnet_ros.segmenter import Segmenter

torch.set_num_threads(1)
LABELS = LabelSet('own', ('road', 'car', 'other'), ((1, 2, 3), (4, 5, 6), (7, 8, 9)), (9, 9, 9), 7)
INFO = ModelInfo(LABELS, 'segnet', 1 / 16, (96, 128), (0.1, 0.2, 0.3), (0.4, 0.5, 0.6),
                 {'val': {'miou': 0.5, 'per_class_iou': [0.5, 0.25, 0.75]}}, {'lr': 1e-3})


def trained(info=INFO):
    """Return a network whose tensors, norm statistics included, all differ from a new one's."""
    torch.manual_seed(0)
    network = info.build().eval()
    shake_batch_norms(network)
    return network


@pytest.fixture
def weights(tmp_path):
    path = tmp_path / 'weights.safetensors'
    save_checkpoint(path, trained(), INFO)
    return path


def rewrite(path, tensors=None, **metadata):
    """Write the file again with other tensors or metadata."""
    with safe_open(path, 'pt') as file:
        kept = file.metadata()
    save_file(load_file(path) if tensors is None else tensors, path, {**kept, **metadata})


def changed_info(path, **changes):
    with safe_open(path, 'pt') as file:
        return json.dumps({**json.loads(file.metadata()['info']), **changes})


def test_round_trip(weights):
    network, info = load_checkpoint(weights)
    assert info == INFO
    assert read_info(weights) == INFO
    assert not network.training
    before, after = trained().state_dict(), network.state_dict()
    assert before.keys() == after.keys()
    for name, tensor in before.items():
        if 'num_batches_tracked' in name:
            continue
        assert after[name].dtype == torch.float32
        if tensor.ndim == 4:
            # Half precision keeps 11 bits; below 6e-5 its steps are 6e-8.
            torch.testing.assert_close(after[name], tensor, rtol=2**-11, atol=1e-7)
        else:
            assert torch.equal(after[name], tensor), name


def test_round_trip_gives_the_same_picture(weights):
    image = torch.randn(1, 3, 96, 128)
    with torch.no_grad():
        before, after = trained()(image).argmax(1), load_checkpoint(weights)[0](image).argmax(1)
    assert (before == after).float().mean() > 0.98


@pytest.mark.parametrize('made_by, score', [
    ({'split': 'train', 'val_split': 'val', 'hold_out': '', 'init': ''}, 0.5),
    ({'split': 'train+val', 'val_split': 'val', 'hold_out': ''}, None),
    ({'split': 'train+val:0016E5', 'val_split': 'val', 'hold_out': ''}, None),
    ({'split': 'train', 'val_split': 'train:0006R0', 'hold_out': ''}, None),
    ({'split': 'train+val', 'val_split': 'val+test', 'hold_out': ''}, None),
    ({'split': 'train+val', 'val_split': 'val', 'hold_out': '0006R0'}, 0.5),
    ({'split': 'train', 'val_split': 'val', 'hold_out': '', 'init': 'fitted'}, None),
    ({}, 0.5)])
def test_a_score_counts_where_its_frames_were_not_trained_on(made_by, score):
    info = replace(INFO, made_by=made_by)
    assert info.unseen_miou() == score
    assert replace(info, scores={}).unseen_miou() is None


def test_file_is_half_precision(weights):
    assert weights.stat().st_size < 2.3 * sum(p.numel() for p in trained().parameters())


def test_a_full_disk_is_told_with_the_file_and_leaves_the_older_weights(weights, full_disk):
    with full_disk(), pytest.raises(OSError) as failed:
        save_checkpoint(weights, trained(), INFO)
    assert failed.value.filename == str(weights)
    assert read_info(weights) == INFO
    assert [path.name for path in weights.parent.iterdir()] == [weights.name]


def test_weights_may_go_through_a_pipe(weights, tmp_path):
    pipe, received = tmp_path / 'pipe', []
    os.mkfifo(pipe)
    reader = threading.Thread(target=lambda: received.append(pipe.read_bytes()), daemon=True)
    reader.start()
    save_checkpoint(pipe, trained(), INFO)
    reader.join(10)
    assert pipe.is_fifo() and len(received[0]) == weights.stat().st_size
    weights.write_bytes(received[0])
    assert load_checkpoint(weights)[1] == INFO


@pytest.mark.parametrize('architecture', ARCHITECTURES)
def test_every_architecture_round_trips(tmp_path, architecture):
    info = replace(INFO, architecture=architecture)
    save_checkpoint(tmp_path / 'w.safetensors', trained(info), info)
    assert load_checkpoint(tmp_path / 'w.safetensors')[1].architecture == architecture


@pytest.mark.parametrize('kept', [0, 4, 100, 0.5, 0.999])
def test_truncated(weights, kept):
    content = weights.read_bytes()
    size = kept if isinstance(kept, int) else int(kept * len(content))
    weights.write_bytes(content[:size])
    refused(weights, 'not a complete .safetensors file', 'again')


def test_missing_file(tmp_path):
    refused(tmp_path / 'none.safetensors', 'none.safetensors')


def test_folder(tmp_path):
    refused(tmp_path, 'cannot be read: Is a directory')


def test_a_file_that_this_user_may_not_read_is_not_called_damaged(weights, monkeypatch):
    """The library itself writes files that only their owner may read."""
    def deny(path, mode):
        raise PermissionError(13, 'Permission denied', path)
    monkeypatch.setattr(checkpoint_module, 'open', deny, raising=False)
    refused(weights, 'cannot be read: Permission denied')


def test_not_safetensors(tmp_path):
    path = tmp_path / 'notes.txt'
    path.write_text('These are the weights. ' * 50)
    refused(path, 'not a complete .safetensors file')


class Trap:
    """An object whose pickle runs code when it is loaded."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (open, (str(self.path), 'w'))


def test_pickle_is_refused_and_not_run(tmp_path):
    path, sprung = tmp_path / 'weights.pth', tmp_path / 'sprung'
    torch.save({'weights': torch.zeros(3), 'trap': Trap(sprung)}, path)
    refused(path, 'not a complete .safetensors file')
    assert not sprung.exists()


@pytest.mark.parametrize('metadata', [None, {'format': 'pt'}, {'format': 'segnet_ros/99'}])
def test_foreign_safetensors(tmp_path, metadata):
    path = tmp_path / 'foreign.safetensors'
    save_file({'weight': torch.zeros(3)}, path, metadata)
    refused(path, 'not from segnet_ros', 'segnet train')


@pytest.mark.parametrize('info', [
    '{', '[]', 'null', '{"label_set": 3}', '{"width": 1}',
    '{"label_set": {"name": "x", "classes": []}, "mean": [], "std": [], "input_size": []}'])
def test_damaged_metadata(weights, info):
    rewrite(weights, info=info)
    refused(weights, 'metadata is damaged')


@pytest.mark.parametrize('change', [
    {'mean': [0.5, 0.5]}, {'std': [0.5, 0.5, 0.0]}, {'input_size': [48]}, {'input_size': [0, 64]}])
def test_metadata_that_cannot_work(weights, change):
    rewrite(weights, info=changed_info(weights, **change))
    refused(weights, 'metadata is damaged')


def test_metadata_without_info(weights):
    save_file(load_file(weights), weights, {'format': 'segnet_ros/1'})
    refused(weights, 'metadata is damaged')


def test_unknown_architecture(weights):
    rewrite(weights, info=changed_info(weights, architecture='transformer'))
    refused(weights, "unknown architecture 'transformer'", 'segnet_basic')


def test_other_architecture(weights):
    rewrite(weights, info=changed_info(weights, architecture='segnet_basic'))
    refused(weights, 'do not fit segnet_basic of width 0.0625')


def test_other_width(weights):
    rewrite(weights, info=changed_info(weights, width=0.25))
    refused(weights, 'do not fit segnet of width 0.25',
            'expected (3, 16, 3, 3), found (3, 4, 3, 3)')


def test_other_classes(weights):
    labels = {**LABELS.to_dict(), 'classes': LABELS.to_dict()['classes'][:2]}
    rewrite(weights, info=changed_info(weights, label_set=labels))
    refused(weights, 'with 2 classes', "'classifier.bias', expected (2,), found (3,)")


def test_missing_tensor(weights):
    tensors = load_file(weights)
    del tensors['classifier.weight']
    rewrite(weights, tensors)
    refused(weights, '1 tensors', "'classifier.weight'", 'found None')


def test_extra_tensor(weights):
    rewrite(weights, {**load_file(weights), 'surplus': torch.zeros(3)})
    refused(weights, '1 tensors', "'surplus', expected None, found (3,)")


@pytest.mark.parametrize(('name', 'architecture', 'width', 'megabytes'), [
    ('segnet_half_camvid11', 'segnet', 0.5, 16), ('segnet_quarter_camvid11', 'segnet', 0.25, 4),
    ('segnet_basic_camvid11', 'segnet_basic', 1.0, 4), ('pspnet_camvid11', 'pspnet', 0.75, 16)])
def test_weights_in_the_box_know_a_street(name, architecture, width, megabytes):
    path = find_weights(name)
    assert path.stat().st_size < megabytes * 1e6
    network, info = load_checkpoint(path)
    assert (info.architecture, info.width) == (architecture, width)
    assert info.label_set == load_label_set('camvid11')
    network = prepare(network, torch.device('cpu'), torch.float32)
    image, truth = SampleDrive(seed=1, size=info.input_size).frame(40)
    label_map = Segmenter(network, info, info.input_size).segment(image).label_map
    right = (label_map == truth)[truth != VOID]
    assert right.mean() > 0.8


def test_find_weights(weights):
    assert find_weights(str(weights)) == weights
    with pytest.raises(CheckpointError, match='no_such_weights.*names there'):
        find_weights('no_such_weights')


def refused(path, *words):
    with pytest.raises(CheckpointError) as caught:
        load_checkpoint(path)
    message = str(caught.value)
    assert str(path) in message
    for word in words:
        assert word in message


@pytest.mark.parametrize('made_by, split, seen', [
    ({'split': 'train'}, 'val', False), ({'split': 'train'}, 'train', True),
    ({'split': 'train+val'}, 'val', True), ({'split': 'train'}, 'val+train:0006R0', True),
    ({'split': 'train', 'hold_out': '0006R0'}, 'train:0006R0', False),
    ({'split': 'train', 'hold_out': '0006R0'}, 'train:0001TP', True),
    ({'split': 'train', 'hold_out': '0006R0'}, 'train', True),
    ({'split': 'train:0001TP', 'hold_out': ''}, 'train:0001TP', True),
    ({'split': 'train:0001TP+val'}, 'train:0006R0', False),
    ({'split': 'train:0001TP'}, 'train:0001TP_0069', True),
    ({'split': 'train:0001TP'}, 'train', True),
    ({}, 'val', False)])
def test_weights_know_which_splits_they_have_seen(made_by, split, seen):
    assert replace(INFO, made_by=made_by).has_seen(split) is seen
