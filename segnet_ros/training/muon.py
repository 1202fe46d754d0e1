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

"""Muon in a precision that the device supports."""

from pytorch_optimizer import Muon
from pytorch_optimizer.optimizer.utils.matrix import zero_power_via_newton_schulz_5
import torch

from segnet_ros.runtime import computes_in_bfloat16


class DeviceMuon(Muon):
    """
    pytorch_optimizer's Muon, with its Newton-Schulz iterations in float32 if that is faster.

    The library always iterates in bfloat16. A CPU without bfloat16 emulates it: a 256x2304 matrix
    took 1.34 s on an AVX2 machine, 0.04 s in float32, so Muon took most of a training step.
    """

    @staticmethod
    def _orthogonalize(group: dict, updates: list[torch.Tensor]) -> list[torch.Tensor]:
        """Return each update, (out, ...) of any rank above one, orthogonalised as (out, rest)."""
        if all(computes_in_bfloat16(update.device) for update in updates):
            return Muon._orthogonalize(group, updates)
        return [zero_power_via_newton_schulz_5(update.flatten(1), group['ns_steps'],
                                               weights=group['ns_coeffs'], dtype=torch.float32)
                for update in updates]
