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
Measure the whole node from outside: images in over DDS, all its results out over DDS.

The node runs in its own process, as on a robot. What it is compared with runs in this process, in
turns with the node.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from statistics import median
import subprocess
import sys
import time

from diagnostic_msgs.msg import DiagnosticArray
import rclpy

from segnet_ros.bench.networks import network_runner
from segnet_ros.bench.plan import Plan, Size, size_name, street
from segnet_ros.bench.timing import latency_summary, Progress, time_in_turns
from segnet_ros.processes import check_alive, running
from segnet_ros.ros.bench_delivery import deliver, RATE
from segnet_ros.ros.bench_peer import Peer
from segnet_ros.ros.large_images import use_large_image_profile
from segnet_ros.ros.parameters import quoted

CAMERAS = ('front', 'rear', 'left', 'right')


@contextmanager
def node_and_peer(plan: Plan, name: str, cameras: tuple[str, ...] = ('',),
                  compressed: bool = False, diagnostics_period: float = 0.0,
                  parallel_frames: int = 1) -> Iterator[Peer]:
    """Start a node in the namespace /bench/NAME; yield a peer that has discovered it."""
    use_large_image_profile()
    namespace = f'/bench/{name}'
    command = [
        sys.executable, '-m', 'segnet_ros.ros.main', '--ros-args', '--log-level', 'error',
        '-r', f'__ns:={namespace}', '-r', '/diagnostics:=diagnostics',  # a robot has its own
        '-p', f'weights:={quoted(str(plan.weights))}',
        '-p', f'device:={plan.device}', '-p', f'precision:={plan.precision}',
        '-p', f'camera_names:={list(cameras)}',
        '-p', f'input_transport:={"compressed" if compressed else "raw"}',
        '-p', f'diagnostics_period:={diagnostics_period}',
        '-p', f'parallel_frames:={parallel_frames}']
    context = rclpy.Context()
    rclpy.init(context=context)
    try:
        with running(command) as process:
            peer = Peer(context, namespace, cameras, compressed, parallel_frames,
                        lambda: check_alive(process))
            try:
                yield peer
            finally:
                peer.destroy()
    finally:
        rclpy.try_shutdown(context=context)


def measure_node(plan: Plan, progress: Progress = lambda: None) -> dict:
    """
    Measure frames a second of the bare network, segment() and two nodes, for each camera size.

    The network runs at the nodes' network size; segment() and the nodes compute all outputs.
    'node' processes one frame at a time, the default, which gives each frame the whole machine;
    'parallel' processes two at a time, so that the work around the network runs alongside it.
    """
    results = {}
    with (node_and_peer(plan, 'node') as node,
          node_and_peer(plan, 'parallel', parallel_frames=2) as parallel):
        for size in plan.camera_sizes:
            results[size_name(size)] = _nodes_at(
                plan, {'node': node, 'parallel': parallel}, size, progress)
    return results


def _nodes_at(plan: Plan, peers: dict[str, Peer], size: Size, progress: Progress) -> dict:
    image, segmenter = street(size), plan.segmenter(size)
    network = network_runner(plan, segmenter.network_size)
    for peer in peers.values():
        peer.show(image)
    sides = {'network': network, 'segment': partial(segmenter.segment, image)}
    rates: dict[str, list[float]] = {side: [] for side in (*sides, *peers)}
    for _ in range(plan.node_rounds):
        for side, seconds in time_in_turns(sides, max(2, plan.node_frames // 4)).items():
            rates[side].append(1 / median(seconds))
        for name, peer in peers.items():
            rates[name].append(peer.saturate(plan.node_frames))
        progress()
    fps = {side: median(values) for side, values in rates.items()}
    return {'network_size': size_name(segmenter.network_size),
            **{f'{side}_fps': value for side, value in fps.items()},
            **{f'{name}_per_network': fps[name] / fps['network'] for name in peers}}


def measure_cameras(plan: Plan, progress: Progress = lambda: None) -> dict:
    """Measure one node's frames a second, all cameras together, with one to four sending."""
    rates: dict[int, list[float]] = {n: [] for n in range(1, len(CAMERAS) + 1)}
    with node_and_peer(plan, 'cameras', CAMERAS) as peer:
        peer.show(street(plan.main_size))
        for _ in range(plan.node_rounds):
            for count, values in rates.items():
                values.append(peer.saturate(plan.node_frames, count))
                progress()
    total = {count: median(values) for count, values in rates.items()}
    return {str(count): {'total_fps': fps, 'per_one_camera': fps / total[1]}
            for count, fps in total.items()}


def measure_input(plan: Plan, progress: Progress = lambda: None) -> dict:
    """Measure frames a second with raw and with jpeg images, on two nodes in turns."""
    rates: dict[str, list[float]] = {'raw': [], 'compressed': []}
    image = street(plan.main_size)
    with (node_and_peer(plan, 'raw') as raw,
          node_and_peer(plan, 'compressed', compressed=True) as compressed):
        peers = {'raw': raw, 'compressed': compressed}
        for peer in peers.values():
            peer.show(image)
        for _ in range(plan.node_rounds):
            for name, peer in peers.items():
                rates[name].append(peer.saturate(plan.node_frames))
                progress()
    fps = {name: median(values) for name, values in rates.items()}
    return {'raw_fps': fps['raw'], 'compressed_fps': fps['compressed']}


def measure_latency(plan: Plan, progress: Progress = lambda: None) -> dict:
    """
    Measure milliseconds from sending an image to receiving its mask, at half the peak rate.

    Lost frames have no latency; they are counted.
    """
    with node_and_peer(plan, 'latency') as peer:
        peer.show(street(plan.main_size))
        peak = median(peer.saturate(plan.node_frames) for _ in range(plan.node_rounds))
        progress()
        stream = peer.pace(plan.latency_frames, peak / 2)
        progress()
    return {'peak_fps': peak, 'rate': peak / 2, 'sent': plan.latency_frames, 'lost': stream.lost,
            **latency_summary(stream.mask_latencies)}


def measure_start(plan: Plan, progress: Progress = lambda: None) -> dict:
    """
    Measure median start-up times in seconds.

    These are of `segnet --help`; of the imports that every node needs, for comparison; and of a
    node until its topics are discovered, and until all results of the first frame have arrived.
    """
    image = street(plan.main_size)
    seconds: dict[str, list[float]] = {'help': [], 'imports': [], 'ready': [], 'first_frame': []}
    for _ in range(plan.node_rounds):
        for name, arguments in (('help', ['-m', 'segnet_ros.tools.cli', '--help']),
                                ('imports', ['-c', 'import rclpy, sensor_msgs.msg, torch, cv2'])):
            begun = time.monotonic()
            # In a group of its own, as in bench_delivery.
            subprocess.run([sys.executable, *arguments], check=True, stdout=subprocess.DEVNULL,
                           process_group=0)
            seconds[name].append(time.monotonic() - begun)
        begun = time.monotonic()
        with node_and_peer(plan, 'start') as peer:
            seconds['ready'].append(time.monotonic() - begun)
            peer.send_first(image)
            seconds['first_frame'].append(time.monotonic() - begun)
        progress()
    return {f'{name}_s': median(values) for name, values in seconds.items()}


def measure_dds(plan: Plan, progress: Progress = lambda: None) -> dict:
    """
    Measure the share of raw frames that arrive and their median age, by settings and reliability.

    The receiver is a process that does nothing else and, last, the node while it segments.
    """
    results = {}
    for settings in ('large_images', 'defaults'):
        for reliability in ('best_effort', 'reliable'):
            results[f'{settings} {reliability}'] = deliver(
                settings, reliability, plan.main_size, round(RATE * plan.seconds))
            progress()
    results['node, large_images reliable'] = measure_reception(plan)
    progress()
    return results


def measure_reception(plan: Plan) -> dict:
    """
    Measure the share of frames that reach a busy node, by the count in its diagnostics.

    The node segments what it can and drops the rest; dropped frames count as received.
    """
    counts = []
    sent = round(RATE * plan.seconds)
    with node_and_peer(plan, 'reception', diagnostics_period=0.5) as peer:
        peer.node.create_subscription(
            DiagnosticArray, 'diagnostics', lambda msg: counts.append(_received(msg)), 10)
        peer.show(street(plan.main_size))
        peer.hear_next(counts)
        before = counts[-1]
        peer.pace(sent, RATE)
        # One message may already be on its way; the second was made after the last frame.
        peer.hear_next(counts, 2)
    received = counts[-1] - before
    return {'sent': sent, 'received': received, 'share': received / sent}


def _received(msg: DiagnosticArray) -> int:
    return int(next(v.value for v in msg.status[0].values if v.key == 'received'))
