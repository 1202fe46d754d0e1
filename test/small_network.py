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

"""Narrow networks with random weights, which tests can run in milliseconds."""

import torch
from torch import nn

from segnet_ros.checkpoint import ModelInfo, save_checkpoint
from segnet_ros.labels import load_label_set


def write_small_checkpoint(path, width=1 / 32, input_size=(48, 64), seed=0) -> str:
    """Write the checkpoint, the same each time; return its path as text."""
    torch.manual_seed(seed)
    info = ModelInfo(load_label_set('camvid11'), width=width, input_size=input_size)
    save_checkpoint(path, info.build(), info)
    return str(path)


def shake_batch_norms(network: nn.Module):
    """Give batch normalisation random statistics and scales, so that it has an effect."""
    torch.manual_seed(1)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.uniform_(module.bias, -0.3, 0.3)
            nn.init.uniform_(module.running_mean, -0.3, 0.3)
            nn.init.uniform_(module.running_var, 0.5, 1.5)
