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
The network by itself: ours against straightforward PyTorch, and against the machine's limit.

Straightforward means the paper's layers as they are written: float32 (on GPUs cuDNN's TF32,
torch's default, unless ours is in float32 too), channels first, torch's own max pooling and
unpooling, batch normalisation not folded.
"""

from collections.abc import Callable
import copy
from statistics import median

import torch
from torch.nn import functional
from torch.utils.flop_counter import FlopCounterMode

from segnet_ros.bench.openvino_network import openvino_is_installed, openvino_runner
from segnet_ros.bench.plan import Plan, Size, size_name
from segnet_ros.bench.timing import milliseconds, Progress, ratio, time_in_turns
from segnet_ros.cuda_graph import CudaGraph
from segnet_ros.labels import load_label_set
from segnet_ros.networks.build import Network
from segnet_ros.networks.segnet import SegNet
from segnet_ros.onednn import onednn_has_int8
from segnet_ros.runtime import prepare


class StraightforwardSegNet(SegNet):
    """SegNet with torch's own unpooling on every device."""

    @staticmethod
    def unpool(x: torch.Tensor, indices: torch.Tensor, size: torch.Size) -> torch.Tensor:
        """Undo functional.max_pool2d as torch does."""
        return functional.max_unpool2d(x, indices, (2, 2), output_size=size)


def measure_networks(plan: Plan, progress: Progress = lambda: None) -> dict:
    """
    Time the network at each width: straightforward, ours and, if available, int8 and OpenVINO.

    They take turns with a large matrix product in the same precision, which stands for what the
    machine can do: share_of_matrix_product is our share of its FLOP/s.
    """
    return {'size': size_name(plan.network_size), 'matrix_side': plan.matrix_side,
            'widths': {f'{width:g}': _measure_width(plan, width, progress)
                       for width in plan.widths}}


def _measure_width(plan: Plan, width: float, progress: Progress) -> dict:
    torch.manual_seed(0)
    classes = len(load_label_set('camvid11'))
    plain = StraightforwardSegNet(classes, width).eval().requires_grad_(False).to(plan.device)
    own = SegNet(classes, width)
    own.load_state_dict(plain.state_dict())
    ours = prepare(own.eval(), plan.device, plan.dtype)
    flops = count_flops(plain, plan.network_size, plan.device)
    image = torch.randn(1, 3, *plan.network_size, device=plan.device)
    sides: dict[str, Callable[[], object]] = {
        'straightforward': eager_runner(plain, image, plan.device),
        'ours': own_runner(ours, image, plan)}
    if plan.device.type == 'cpu' and plan.dtype != torch.int8 and onednn_has_int8():
        sides['int8'] = own_runner(
            prepare(copy.deepcopy(plain), plan.device, torch.int8), image, plan)
    if plan.device.type == 'cpu' and openvino_is_installed():
        sides['openvino'] = openvino_runner(plain, image, plan.float_dtype)
    times = time_in_turns({**sides, 'matrix_product': matrix_product(plan)}, plan.rounds, progress)
    own_rate = flops / median(times['ours'])
    peak_rate = 2 * plan.matrix_side**3 / median(times['matrix_product'])
    return {
        'parameters': sum(p.numel() for p in plain.parameters()), 'flops': flops,
        **{f'{side}_ms': milliseconds(times[side]) for side in times},
        'speedup': ratio(times['straightforward'], times['ours']),
        **{name: ratio(times[of], times[to]) if of in sides and to in sides else None
           for name, of, to in (('int8_speedup', 'straightforward', 'int8'),
                                ('openvino_ratio', 'openvino', 'ours'))},
        'matrix_product_flops_per_second': peak_rate,
        'share_of_matrix_product': own_rate / peak_rate}


def eager_runner(network: Network, image: torch.Tensor,
                 device: torch.device) -> Callable[[], torch.Tensor]:
    """Return a function that runs the network as it is and returns its logits when done."""
    @torch.inference_mode()
    def run():
        logits = network(image)
        if device.type == 'cuda':
            torch.cuda.synchronize(device)
        return logits
    return run


def own_runner(network: Network, image: torch.Tensor,
               plan: Plan) -> Callable[[], torch.Tensor]:
    """Return a function that runs a prepared network as the segmenter does: on CUDA as a graph."""
    dtype = next(network.parameters()).dtype  # int8 networks take images in floating point
    ready = image.to(dtype).contiguous(memory_format=torch.channels_last)
    if plan.device.type != 'cuda':
        return eager_runner(network, ready, plan.device)
    kept: list = []

    def stage():
        # Keeps image and network too: the graph reads their memory.
        kept[:] = [network(ready), ready, network]

    with torch.inference_mode():
        graph = CudaGraph(stage, plan.device)

    @torch.inference_mode()
    def run():
        graph.run(lambda: None, lambda: None)
        return kept[0]
    return run


def network_runner(plan: Plan, size: Size) -> Callable[[], torch.Tensor]:
    """Return a function that runs the plan's network, bare, on one image of this size."""
    network = prepare(plan.info.build(), plan.device, plan.dtype)
    return own_runner(network, torch.randn(1, 3, *size, device=plan.device), plan)


def count_flops(network: Network, size: Size, device: torch.device) -> int:
    """Return the floating point operations for one image; a multiply-add is two."""
    with torch.inference_mode(), FlopCounterMode(display=False) as counter:
        network(torch.zeros(1, 3, *size, device=device))
    return counter.get_total_flops()


def matrix_product(plan: Plan) -> Callable[[], torch.Tensor]:
    """Return a function that multiplies two large matrices in the network's floating point."""
    side = plan.matrix_side
    a, b = (torch.randn(side, side, device=plan.device).to(plan.float_dtype)
            for _ in range(2))
    product = torch.empty_like(a)

    @torch.inference_mode()
    def multiply():
        torch.mm(a, b, out=product)
        if plan.device.type == 'cuda':
            torch.cuda.synchronize(plan.device)
        return product
    return multiply
