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
Make a trained network ready to run: device, precision, folded batch normalisation, memory layout.

Knows torch and the networks, nothing of images, labels or ROS.
"""

import torch
from torch import nn
from torch.nn.utils import fuse_conv_bn_eval

from segnet_ros.int8 import quantize
from segnet_ros.networks.build import Network
from segnet_ros.networks.layers import ConvUnit
from segnet_ros.onednn import (
    cpu_has, NO_ACTIVATION, onednn_is_available, PackedConvolution, RELU)
from segnet_ros.winograd import winograd_pays, WinogradConvolution

PRECISIONS = {'float32': torch.float32, 'bfloat16': torch.bfloat16, 'float16': torch.float16,
              'int8': torch.int8}


def choose_device(name: str = 'auto') -> torch.device:
    """
    Return the device by name: 'auto' (CUDA if there is one), 'cpu', 'cuda' or 'cuda:N'.

    :raises ValueError: for a name that is not a device, or a CUDA device that does not exist.
    """
    if name == 'auto':
        return torch.device('cuda' if torch.cuda.is_available() else 'cpu')
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise ValueError(f"device '{name}' is not one of auto, cpu, cuda, cuda:N") from error
    if device.type not in ('cpu', 'cuda'):
        raise ValueError(f"device '{name}' is not one of auto, cpu, cuda, cuda:N")
    if device.type == 'cuda' and (device.index or 0) >= torch.cuda.device_count():
        raise ValueError(f"device '{name}' does not exist: torch {torch.__version__} sees "
                         f'{torch.cuda.device_count()} CUDA devices')
    return device


def device_name(device: torch.device) -> str:
    """Return the device in words: 'cuda:0 (NVIDIA H100)', 'cpu (8 threads)'."""
    if device.type == 'cuda':
        return f'{device} ({torch.cuda.get_device_name(device)})'
    return f'cpu ({torch.get_num_threads()} threads)'


def computes_in_bfloat16(device: torch.device) -> bool:
    """Tell whether the device has native bfloat16; emulated, it is far slower than float32."""
    if device.type == 'cuda':
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return cpu_has('avx512_bf16') or cpu_has('amx_tile')


def choose_precision(name: str, device: torch.device) -> torch.dtype:
    """
    Return the dtype by name; 'auto' is float16 on CUDA, bfloat16 on CPUs that compute in it.

    :raises ValueError: for a name that is neither 'auto' nor in PRECISIONS, and for int8 on CUDA.
    """
    if name == 'int8' and device.type == 'cuda':
        raise ValueError("precision 'int8' is for CPUs; on CUDA choose float16")
    if name in PRECISIONS:
        return PRECISIONS[name]
    if name != 'auto':
        raise ValueError(f"precision '{name}' is not one of auto, {', '.join(PRECISIONS)}")
    if device.type == 'cuda':
        return torch.float16
    return torch.bfloat16 if computes_in_bfloat16(device) else torch.float32


@torch.no_grad()
def prepare(network: Network, device: torch.device, dtype: torch.dtype) -> Network:
    """
    Fold batch normalisation into the convolutions, then move and lay out the weights.

    Changes the network in place and returns it, in eval mode and without gradients. On a CPU its
    convolutions become oneDNN's or, in float32 and with many channels, Winograd's. The results
    are those of the unfolded network up to rounding. For float32 on CUDA, cuDNN's TF32 is turned
    off for the whole process.

    :param dtype: of weights and maps. int8 stands for 8-bit ones (int8.quantize); images then
        have the dtype of the first parameter, and logits are float32.
    :raises ValueError: if int8 is requested but not supported.
    """
    network.eval().requires_grad_(False)
    if device.type == 'cuda' and dtype == torch.float32:
        torch.backends.cudnn.allow_tf32 = False  # ten bits of mantissa, and on by default
    if dtype == torch.int8:
        return quantize(network, choose_precision('auto', device))
    for unit in network.modules():
        if isinstance(unit, ConvUnit):
            unit.conv = fuse_conv_bn_eval(unit.conv, unit.bn)
            unit.bn = nn.Identity()  # type: ignore[assignment]
    network.to(device, dtype, memory_format=torch.channels_last)  # type: ignore[call-overload]
    if device.type == 'cpu' and onednn_is_available(dtype):
        for parent in list(network.modules()):
            for name, unit in parent.named_children():
                if isinstance(unit, ConvUnit):
                    convolution = (WinogradConvolution if winograd_pays(unit.conv, dtype)
                                   else PackedConvolution)
                    setattr(parent, name, convolution(
                        unit.conv, RELU if hasattr(unit, 'relu') else NO_ACTIVATION))
        network.classifier = PackedConvolution(  # type: ignore[assignment]
            network.classifier, NO_ACTIVATION)
    return network
