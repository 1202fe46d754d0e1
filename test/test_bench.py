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

"""Check what `segnet bench` measures, with fake clocks, planted leaks and a tiny network."""

from contextlib import nullcontext
from dataclasses import replace
import json
import subprocess
import sys
import time
from types import SimpleNamespace

from matplotlib.figure import Figure
import numpy as np
import pytest
from ros_domain import free_domain
from small_network import write_small_checkpoint
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from segnet_ros.bench import segmenters, timing
from segnet_ros.bench.environment import describe
from segnet_ros.bench.networks import count_flops, matrix_product, measure_networks
from segnet_ros.bench.openvino_network import ExportableNetwork
from segnet_ros.bench.plan import make_plan, Plan, QUICK, street
from segnet_ros.bench.plot import PANELS
from segnet_ros.bench.report import headline, report, table
from segnet_ros.extras import pip_install
from segnet_ros.networks.build import build_network
from segnet_ros.onednn import onednn_has_int8
from segnet_ros.resources import share_directory
from segnet_ros.ros import bench_node, bench_peer
from segnet_ros.ros.bench_delivery import deliver
from segnet_ros.ros.bench_node import (
    measure_cameras, measure_dds, measure_input, measure_latency, measure_node, measure_start,
    node_and_peer)
from segnet_ros.ros.bench_peer import Peer
from segnet_ros.ros.large_images import PROFILE_VARIABLES
from segnet_ros.tools import bench, cli

CAMERA = (48, 64)
HEADLINE = {'full_width_speedup', 'full_width_default_speedup', 'openvino_ratio',
            'node_throughput_ratio', 'node_default_ratio',
            'latency_p99_over_p50', 'delivered_720p30'}


@pytest.fixture(scope='module')
def weights(tmp_path_factory) -> str:
    return write_small_checkpoint(tmp_path_factory.mktemp('bench') / 'small.safetensors')


@pytest.fixture
def plan(weights, tmp_path) -> Plan:
    return replace(make_plan(weights, 'cpu', tmp_path, quick=True), camera_sizes=(CAMERA,),
                   main_size=CAMERA, network_size=(32, 64), widths=(1 / 32,), matrix_side=64)


@pytest.fixture
def own_domain(monkeypatch):
    """Set the environment that the measured nodes need, for this test only."""
    monkeypatch.setenv('ROS_DOMAIN_ID', free_domain())
    profile = str(share_directory() / 'config' / 'fastdds_large_images.xml')
    for name in PROFILE_VARIABLES:
        monkeypatch.setenv(name, profile)


def test_sides_take_turns_and_have_their_own_times(monkeypatch):
    now, order = [0.0], []
    monkeypatch.setattr(timing.time, 'perf_counter', lambda: now[0])

    def side(name, seconds):
        waits = iter(seconds)

        def run():
            order.append(name)
            now[0] += next(waits)
        return run

    times = timing.time_in_turns({'slow': side('slow', [9, 3, 4, 20]),
                                  'fast': side('fast', [9, 1, 2, 2])}, rounds=3)
    assert order == ['slow', 'fast'] * 4
    assert times == {'slow': [3, 4, 20], 'fast': [1, 2, 2]}, 'the first run is not measured'
    assert timing.milliseconds(times['slow']) == 4000
    assert timing.ratio(times['slow'], times['fast']) == 2


def test_latency_percentiles():
    summary = timing.latency_summary([ms / 1000 for ms in range(101)])
    assert summary == pytest.approx({'p50_ms': 50, 'p95_ms': 95, 'p99_ms': 99,
                                     'p99_over_p50': 1.98})


def test_flops_are_two_for_each_multiply_add_of_the_convolutions():
    network = build_network('segnet', 11, 1 / 16).eval()
    counted = []
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            module.register_forward_hook(lambda conv, _, out: counted.append(
                2 * out.numel() * conv.weight[0].numel()))
    assert count_flops(network, (32, 64), torch.device('cpu')) == sum(counted) > 0


def test_networks(plan):
    measured = measure_networks(plan)['widths']['0.03125']
    assert measured['speedup'] == pytest.approx(
        measured['straightforward_ms'] / measured['ours_ms'])
    assert (measured['int8_speedup'] is not None) == onednn_has_int8()
    with FlopCounterMode(display=False) as product:
        matrix_product(plan)()
    peak_rate = product.get_total_flops() / measured['matrix_product_ms'] * 1e3
    assert measured['matrix_product_flops_per_second'] == pytest.approx(peak_rate)
    assert measured['share_of_matrix_product'] == pytest.approx(
        measured['flops'] / measured['ours_ms'] * 1e3 / peak_rate)


def test_the_network_that_is_exported_is_the_same():
    torch.manual_seed(0)
    network = build_network('segnet', 11, 1 / 16).eval()
    # Flat areas give ties: an inexact unpooling would write the maximum to all four places.
    image = torch.randn(1, 3, 8, 16).repeat_interleave(8, 2).repeat_interleave(8, 3)
    with torch.inference_mode():
        assert torch.equal(ExportableNetwork(network)(image), network(image))


def test_a_slow_stage_shows_and_the_segmenter_is_left_as_it_was(plan):
    segmenter, image = plan.segmenter(CAMERA), street(CAMERA)
    paint = segmenter._paint

    def slow_paint():
        segmenters.time.sleep(0.05)
        paint()

    before = segmenter.segment(image).color_mask.copy()
    segmenter._paint = slow_paint
    own = dict(vars(segmenter))
    stages = segmenters.stage_times(segmenter, image, rounds=2)
    assert vars(segmenter) == own
    assert stages.pop('paint') > 50
    assert set(stages) == {'copy in', 'preprocess', 'network', 'classify', 'count', 'spread',
                           'overlay', 'statistics', 'other'}
    assert all(ms > 0 for ms in stages.values()), stages
    assert np.array_equal(segmenter.segment(image).color_mask, before)


@pytest.mark.parametrize('leaking', [False, True])
def test_soak_finds_a_leak(leaking):
    kept = []

    def step():
        kept.append(b'x' * 3 * 2**20)
        if not leaking:
            kept.clear()

    result = segmenters.soak(step, 60)
    assert result['passed'] is not leaking
    assert (result['end_mib'] - result['start_mib'] > result['margin_mib']) is leaking


def test_soak_s_verdict_is_the_exit_code(weights, monkeypatch, capsys):
    monkeypatch.setitem(QUICK, 'main_size', CAMERA)
    arguments = ['bench', '--quick', '--soak', '30', '--weights', weights, '--device', 'cpu',
                 '--domain', free_domain()]
    assert cli.main(arguments) == 0
    assert 'after 30 frames' in capsys.readouterr().out
    monkeypatch.setattr(segmenters, 'soak_segmenter', lambda plan, frames, progress: {
        'frames': frames, 'start_mib': 1, 'end_mib': 99, 'margin_mib': 16, 'passed': False})
    assert cli.main(arguments) == 1
    assert 'FAILED' in capsys.readouterr().out


@pytest.mark.parametrize('frames', ['-5', '0', '1'])
def test_a_soak_that_would_compare_nothing_is_refused(capsys, frames):
    assert cli.main(['bench', '--soak', frames]) == 1
    assert f'--soak {frames}: give at least 2' in capsys.readouterr().err


def test_a_soak_counts_the_memory_of_gpus(monkeypatch):
    held = iter([[10, 20], [10, 20 + segmenters.SOAK_MARGIN + 1]])
    monkeypatch.setattr(segmenters, 'resident_bytes', lambda: 100)
    monkeypatch.setattr(segmenters, 'torch', SimpleNamespace(cuda=SimpleNamespace(
        is_initialized=lambda: True, device_count=lambda: 2,
        memory_reserved=lambda device: gpus[device])))

    def step():
        nonlocal gpus
        gpus = next(held)
    gpus = []
    assert not segmenters.soak(step, 2)['passed']


def test_no_picture_is_promised_without_what_draws_it(monkeypatch, capsys, tmp_path):
    for name in ('matplotlib', 'matplotlib.axes'):
        monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.delitem(sys.modules, 'segnet_ros.bench.plot', raising=False)
    monkeypatch.setattr(bench, '_measure', lambda *_: pytest.fail('measured in vain'))
    assert cli.main(['bench', '--plot', str(tmp_path / 'bench.png')]) == 1
    assert pip_install('matplotlib') in capsys.readouterr().err


@pytest.mark.parametrize('what', [['--only', 'start'], ['--soak', '3']])
def test_no_picture_is_promised_of_what_is_not_drawn(monkeypatch, capsys, tmp_path, what):
    for name in ('_measure', '_soak'):
        monkeypatch.setattr(bench, name, lambda *_: pytest.fail('measured in vain'))
    assert cli.main(['bench', '--plot', str(tmp_path / 'bench.png'), *what]) == 1
    assert '--plot draws network, segment' in capsys.readouterr().err


def test_headline_is_taken_from_where_it_was_measured():
    results = {
        'network': {'widths': {'1': {'speedup': 3.3, 'int8_speedup': 5.1, 'openvino_ratio': 1.1},
                               '0.5': {'speedup': 2.0, 'openvino_ratio': 0.9}}},
        'node': {'640x480': {'parallel_per_network': 0.5, 'node_per_network': 0.4},
                 '1280x720': {'parallel_per_network': 0.92, 'node_per_network': 0.8}},
        'latency': {'p99_over_p50': 1.2},
        'dds': {'large_images best_effort': {'share': 0.98}, 'large_images reliable': {'share': 1},
                'defaults best_effort': {'share': 0.1}, 'node, large_images': {'share': 0.5}}}
    assert headline(results) == {
        'full_width_speedup': 5.1, 'full_width_default_speedup': 3.3, 'openvino_ratio': 1.1,
        'node_throughput_ratio': 0.92, 'node_default_ratio': 0.8,
        'latency_p99_over_p50': 1.2, 'delivered_720p30': 0.98}
    assert headline({}) == dict.fromkeys(HEADLINE)
    without_int8 = {'network': {'widths': {'1': {'speedup': 2.0, 'int8_speedup': None}}}}
    assert headline(without_int8)['full_width_speedup'] == 2.0


def test_the_command_writes_numbers_and_picture_and_prints_a_table(weights, tmp_path, capsys,
                                                                   monkeypatch):
    monkeypatch.setitem(QUICK, 'camera_sizes', (CAMERA,))
    out, picture = tmp_path / 'new' / 'bench.json', tmp_path / 'bench.pic'
    assert cli.main(['bench', '--quick', '--only', 'segment', '--weights', weights, '--device',
                     'cpu', '--json', str(out), '--plot', str(picture), '--domain',
                     free_domain()]) == 0
    results = json.loads(out.read_text())
    assert set(results) == {'environment', 'segment', 'headline'}
    assert set(results['headline']) == HEADLINE
    assert {'device', 'precision', 'cpu', 'cores', 'torch', 'numpy', 'cv2', 'rclpy',
            'load_average', 'busy'} <= set(results['environment'])
    assert picture.read_bytes().startswith(b'\x89PNG')
    printed = capsys.readouterr().out
    assert f"{results['segment']['64x48']['segment_ms']:.2f}" in printed
    assert f"torch {results['environment']['torch']}" in printed


@pytest.mark.parametrize('goes_to', ['a pipe', 'a file', 'the file named'])
def test_json_on_standard_output_is_all_that_is_there(weights, tmp_path, goes_to):
    out = tmp_path / 'out.json'
    named = str(out) if goes_to == 'the file named' else '/dev/stdout'
    program = f"""
import sys
from segnet_ros.tools import bench, cli
bench._measure = lambda *_: iter([('first', {{}}), ('second', {{}})])
sys.exit(cli.main(['bench', '--quick', '--weights', {weights!r}, '--device', 'cpu',
                   '--json', {named!r}]))
"""
    with out.open('w') as file:
        done = subprocess.run([sys.executable, '-c', program], text=True, stderr=subprocess.PIPE,
                              stdout=subprocess.PIPE if goes_to == 'a pipe' else file)
    results = json.loads(done.stdout if goes_to == 'a pipe' else out.read_text())
    assert results.keys() == {'environment', 'first', 'second', 'headline'}
    assert 'torch ' in done.stderr, 'the report'
    assert [path.name for path in tmp_path.iterdir()] == ['out.json']


def test_a_run_that_is_cut_off_keeps_what_it_has(weights, tmp_path, monkeypatch):
    def measure_of(section):
        if section == 'segment':
            raise KeyboardInterrupt
        return lambda plan, progress: {'widths': {}}

    monkeypatch.setattr(bench, '_measure_of', measure_of)
    out = tmp_path / 'bench.json'
    assert cli.main(['bench', '--only', 'network', 'segment', '--weights', weights, '--device',
                     'cpu', '--json', str(out), '--domain', free_domain()]) == 130
    results = json.loads(out.read_text())
    assert results.keys() == {'environment', 'network', 'headline'}
    assert results['network'] == {'widths': {}}


def test_a_busy_machine_is_told(weights, tmp_path, monkeypatch):
    from segnet_ros.bench import environment
    for load, busy in ((50.0, True), (0.0, False)):
        monkeypatch.setattr(environment.os, 'getloadavg', lambda value=load: (value, 0, 0))
        facts = environment.describe(make_plan(weights, 'cpu', tmp_path))
        assert ('WARNING' in report({'environment': facts, 'headline': {}})) is busy


def test_table_lines_up():
    assert table('T', ['name', 'ms'], [['a', '1.5'], ['long name', '10.25']]).splitlines() == [
        'T', '  name          ms', '  a            1.5', '  long name  10.25']


class FakePeer:
    """A stand-in for a node and its peer: returns the given rates in turn."""

    def __init__(self, rates=()):
        self.rates, self.shown = list(rates), []
        self.show = self.shown.append

    def saturate(self, frames):
        return self.rates.pop(0)


def test_the_node_is_measured_beside_the_bare_network(plan, monkeypatch):
    started = {}

    def start(plan, name, **arguments):
        started[name] = arguments
        return nullcontext({'node': FakePeer([9, 20, 30]),
                            'parallel': FakePeer([25, 70, 40])}[name])

    monkeypatch.setattr(bench_node, 'node_and_peer', start)
    measured = measure_node(replace(plan, node_rounds=3))['64x48']
    assert started == {'node': {}, 'parallel': {'parallel_frames': 2}}
    assert measured['network_size'] == '64x48'
    assert (measured['node_fps'], measured['parallel_fps']) == (20, 40)
    assert measured['network_fps'] > 0 and measured['segment_fps'] > 0
    for node in ('node', 'parallel'):
        assert measured[f'{node}_per_network'] == pytest.approx(
            measured[f'{node}_fps'] / measured['network_fps'])


def test_int8_is_measured_beside_floating_point(plan):
    plan = replace(plan, dtype=torch.int8, widths=(1 / 32,))
    assert matrix_product(plan)().is_floating_point()
    assert 'int8_ms' not in measure_networks(plan)['widths']['0.03125']


@pytest.fixture
def fake_nodes(monkeypatch):
    """Replace nodes by peers whose frames a second tell what was asked of them."""
    def start(plan, name, cameras=('',), compressed=False):
        return nullcontext(SimpleNamespace(
            show=lambda image: None,
            saturate=lambda frames, count=None: 10.0 * (count or len(cameras)) + 5 * compressed,
            pace=lambda frames, rate: SimpleNamespace(
                lost=2, mask_latencies=[1 / rate] * (frames - 2))))

    monkeypatch.setattr(bench_node, 'node_and_peer', start)


def test_cameras_count_together(plan, fake_nodes):
    assert measure_cameras(plan) == {
        str(n): {'total_fps': 10 * n, 'per_one_camera': n} for n in (1, 2, 3, 4)}


def test_raw_images_are_measured_beside_jpegs(plan, fake_nodes):
    assert measure_input(plan) == {'raw_fps': 10, 'compressed_fps': 15}


def test_latency_is_that_at_half_the_highest_rate(plan, fake_nodes):
    assert measure_latency(plan) == pytest.approx({
        'peak_fps': 10, 'rate': 5, 'sent': plan.latency_frames, 'lost': 2,
        'p50_ms': 200, 'p95_ms': 200, 'p99_ms': 200, 'p99_over_p50': 1})


def test_delivery_is_measured_with_and_without_the_profile(plan, monkeypatch):
    monkeypatch.setattr(bench_node, 'deliver', lambda *asked: asked)
    monkeypatch.setattr(bench_node, 'measure_reception', lambda plan: 'the node')
    assert measure_dds(plan) == {
        **{f'{settings} {reliability}': (settings, reliability, CAMERA, 30)
           for settings in ('large_images', 'defaults')
           for reliability in ('best_effort', 'reliable')},
        'node, large_images reliable': 'the node'}


def test_every_part_is_printed_and_drawn(plan, tmp_path):
    results = {
        'environment': describe(plan), 'headline': {},
        'network': {'size': '480x352', 'matrix_side': 4096, 'widths': {'1': {
            'parameters': 29.4e6, 'flops': 208e9, 'straightforward_ms': 1300.0, 'ours_ms': 520.0,
            'int8_ms': 260.0, 'speedup': 2.5, 'int8_speedup': 5.0,
            'matrix_product_flops_per_second': 400e9, 'share_of_matrix_product': 1.01}}},
        'segment': {'640x480': {'network_ms': 13.0, 'segment_ms': 14.0,
                                'stages_ms': {'network': 12.0, 'paint': 0.5}}},
        'node': {'640x480': {'network_size': '480x360', 'network_fps': 8.0, 'segment_fps': 7.0,
                             'node_fps': 6.0, 'parallel_fps': 6.4, 'node_per_network': 0.75,
                             'parallel_per_network': 0.8}},
        'cameras': {'2': {'total_fps': 6.5, 'per_one_camera': 1.1}},
        'input': {'raw_fps': 6.25, 'compressed_fps': 5.75},
        'latency': {'rate': 3.0, 'p50_ms': 150.0, 'p95_ms': 170.0, 'p99_ms': 190.0,
                    'p99_over_p50': 1.27, 'lost': 1, 'sent': 300},
        'dds': {'large_images reliable': {'share': 0.99, 'age_ms': 6.2},
                'node, large_images reliable': {'share': 0.5}}}
    printed = [' '.join(line.split()) for line in report(results).splitlines()]
    for row in ('1 29.4 208 1300.0 520.0 260.0 - 2.50 5.00 400 101', 'segment 14.00', 'paint 0.50',
                '640x480 480x360 8.00 7.00 6.00 6.40 0.750 0.800', '2 6.50 1.100', 'raw 6.25',
                'jpeg 5.75', '3.00 150.0 170.0 190.0 1.27 1 of 300',
                'large images reliable 99.0 6.2', 'node, large images reliable 50.0 -'):
        assert row in printed
    heights = {}
    for name, draw in PANELS.items():
        axes = Figure().add_subplot()
        draw(axes, results[name])
        heights[name] = [round(bar.get_height(), 2) for bar in axes.patches]
    assert heights == {'network': [1300, 520, 260], 'segment': [0.5], 'node': [8, 7, 6, 6.4],
                       'cameras': [6.5], 'latency': [150, 170, 190], 'dds': [99, 50]}


def test_a_start_is_timed_from_the_process_s_beginning(plan, monkeypatch):
    now, commands = [0.0], []
    # Three rounds, of which the median counts.
    seconds = {'help': [1, 9, 2], 'imports': [4, 3, 3], 'node': [8, 6, 50], 'first': [5, 1, 2]}

    def pass_time(what):
        now[0] += seconds[what].pop(0)

    def run(command, **_):
        commands.append(command[1:])
        pass_time('help' if command[-1] == '--help' else 'imports')

    def start(plan, name):
        pass_time('node')
        peer = FakePeer()
        peer.send_first = lambda image: pass_time('first')
        return nullcontext(peer)

    monkeypatch.setattr(bench_node, 'time', SimpleNamespace(monotonic=lambda: now[0]))
    monkeypatch.setattr(bench_node, 'subprocess', SimpleNamespace(run=run, DEVNULL=None))
    monkeypatch.setattr(bench_node, 'node_and_peer', start)
    measured = measure_start(replace(plan, node_rounds=3))
    assert measured == {'help_s': 2, 'imports_s': 3, 'ready_s': 8, 'first_frame_s': 13}
    assert commands[:2] == [['-m', 'segnet_ros.tools.cli', '--help'],
                            ['-c', 'import rclpy, sensor_msgs.msg, torch, cv2']]
    assert '13.00' in report({'environment': describe(plan), 'headline': {}, 'start': measured})


def test_the_node_is_started_with_what_is_measured(plan, own_domain, monkeypatch):
    commands, peers = [], []
    monkeypatch.setattr(bench_node, 'running',
                        lambda command: commands.append(command) or nullcontext())
    monkeypatch.setattr(bench_node, 'Peer', lambda context, *arguments: peers.append(
        arguments[:-1]) or SimpleNamespace(destroy=lambda: None))
    with node_and_peer(plan, 'n', ('left', 'right'), compressed=True, diagnostics_period=0.5,
                       parallel_frames=2):
        pass
    parameters = [word for word in commands[0] if ':=' in word]
    assert parameters == [
        '__ns:=/bench/n', '/diagnostics:=diagnostics', f'weights:="{plan.weights}"', 'device:=cpu',
        f'precision:={plan.precision}', "camera_names:=['left', 'right']",
        'input_transport:=compressed', 'diagnostics_period:=0.5', 'parallel_frames:=2']
    assert peers == [('/bench/n', ('left', 'right'), True, 2)]


def test_a_frame_that_came_before_the_node_was_ready_is_sent_again(monkeypatch):
    monkeypatch.setattr(bench_peer, 'RESEND', 0.05)
    peer = Peer.__new__(Peer)
    peer._alive, peer._spin = lambda: None, time.sleep
    stream = SimpleNamespace(last_sent=0.0, completions=[], sent=0)

    def send():
        stream.sent, stream.last_sent = stream.sent + 1, time.monotonic()
        stream.completions += [1.0] * (stream.sent == 2)
    stream.send, stream.forget = send, stream.completions.clear
    peer._send_one(stream)
    assert stream.sent == 2


def test_every_frame_is_complete_or_lost(plan, own_domain):
    with node_and_peer(plan, 'test', ('left', 'right')) as peer:
        peer.send_first(street(CAMERA))
        assert [len(s.completions) for s in peer.streams] == [1, 0]
        peer.show(street(CAMERA))
        assert peer.saturate(6) > 0
        assert [s.lost for s in peer.streams] == [0, 0], 'one of each is on the way, none more'
        assert all(len(s.completions) >= 2 for s in peer.streams), 'both had their turn'
        stream = peer.pace(8, 4.0)
        assert (len(stream.mask_latencies), stream.lost) == (8, 0)
        assert all(0 < seconds < 5 for seconds in stream.mask_latencies)
        flood = peer.pace(300, 1e5)
        assert flood.lost > 0
        assert len(flood.completions) + flood.lost == 300


def test_small_frames_are_delivered(own_domain):
    result = deliver('large_images', 'reliable', CAMERA, 15)
    # If the machine is busy for a period, a frame is overwritten: the queue depth is 1.
    assert result['sent'] == 15 and 8 <= result['received'] <= 15
    assert result['share'] == pytest.approx(result['received'] / 15, abs=1e-3)
    assert 0 < result['age_ms'] < 1000
