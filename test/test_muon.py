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

"""Check that Muon orthogonalises its updates, in a precision that the device supports."""

import pytest
import torch

from segnet_ros.training import muon

torch.set_num_threads(1)


@pytest.mark.parametrize('has_bfloat16', [True, False])
def test_muon_steps_in_the_precision_of_the_device(monkeypatch, has_bfloat16):
    monkeypatch.setattr(muon, 'computes_in_bfloat16', lambda device: has_bfloat16)
    updates = [torch.randn(8, 4, 3, 3), torch.randn(8, 4, 3, 3)]
    parameters = [torch.nn.Parameter(torch.zeros_like(update)) for update in updates]
    optimizer = muon.DeviceMuon([{'params': parameters, 'use_muon': True, 'lr': 1.0,
                                  'momentum': 0.0, 'nesterov': False, 'weight_decay': 0.0}])
    steps = optimizer._orthogonalize(optimizer.param_groups[0], updates)
    dtype = torch.bfloat16 if has_bfloat16 else torch.float32
    assert [step.dtype for step in steps] == [dtype, dtype]
    for parameter, update in zip(parameters, updates, strict=True):
        parameter.grad = update.clone()
    optimizer.step()
    for parameter, update in zip(parameters, updates, strict=True):
        # All singular directions of the update count about equally, and none is rotated.
        u, _, v = torch.linalg.svd(update.flatten(1), full_matrices=False)
        along = -u.T @ parameter.detach().flatten(1) @ v.T
        scale = along.diagonal()
        assert scale.min() > 0 and scale.max() / scale.min() < 2
        assert (along - scale.diag()).abs().max() < 0.1 * scale.max()
