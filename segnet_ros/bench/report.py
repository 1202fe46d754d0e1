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

"""The printed report: tables and the headline's ratios. Plain numbers in, text out."""

from collections.abc import Iterable

MAIN = '1280x720'


def headline(results: dict) -> dict[str, float | None]:
    """
    Return the headline numbers; None for what was not measured.

    full_width_speedup: our network's over straightforward PyTorch, in our fastest precision here;
    full_width_default_speedup: the same in the precision of the run, usually `auto`.
    openvino_ratio: OpenVINO's time over ours. node_throughput_ratio: frames a second of the node
    with two frames in work at a time over the bare network's; node_default_ratio: the same with
    one frame at a time, the default.
    latency_p99_over_p50: from image to mask at half the highest rate. delivered_720p30: share of
    raw frames that arrive with the package's settings, the worse of best effort and reliable.
    """
    dds = results.get('dds', {})
    speedups = [_find(results, 'network', 'widths', '1', key)
                for key in ('speedup', 'int8_speedup')]
    delivered = [dds[key]['share'] for key in dds if key.startswith('large_images')]
    return {
        'full_width_speedup': max(filter(None, speedups), default=None),
        'full_width_default_speedup': speedups[0],
        'openvino_ratio': _find(results, 'network', 'widths', '1', 'openvino_ratio'),
        'node_throughput_ratio': _find(results, 'node', MAIN, 'parallel_per_network'),
        'node_default_ratio': _find(results, 'node', MAIN, 'node_per_network'),
        'latency_p99_over_p50': _find(results, 'latency', 'p99_over_p50'),
        'delivered_720p30': min(delivered, default=None)}


def _find(tree: dict, *path: str):
    for key in path:
        if key not in tree:
            return None
        tree = tree[key]
    return tree


def report(results: dict) -> str:
    """Return all tables as text."""
    parts = [_environment(results['environment'])]
    for name, describe in _SECTIONS.items():
        if name in results:
            parts.append(describe(results[name]))
    rows = [[name, '-' if value is None else f'{value:.3f}']
            for name, value in results['headline'].items()]
    parts.append(table('Headline', ['', 'measured'], rows))
    return '\n\n'.join(parts)


def table(title: str, head: list[str], rows: Iterable[list[str]]) -> str:
    """Return a table as text, the first column left-aligned and the others right-aligned."""
    lines = [head, *rows]
    widths = [max(len(line[i]) for line in lines) for i in range(len(head))]
    text = ['  ' + '  '.join([line[0].ljust(widths[0]),
                              *(c.rjust(w) for c, w in zip(line[1:], widths[1:], strict=True))])
            for line in lines]
    return '\n'.join([title, *text])


def _environment(facts: dict) -> str:
    versions = ', '.join(f'{name} {facts[name]}' for name in
                         ('torch', 'numpy', 'cv2', 'openvino', 'rclpy') if facts[name])
    lines = [f"{facts['device']} in {facts['precision']}; {facts['cpu']}, {facts['cores']} cores",
             versions,
             f"segmenters and nodes run {facts['network']}"]
    if facts['busy']:
        lines.append(f"WARNING: the machine was busy (load average {facts['load_average']:.1f} on "
                     f"{facts['cores']} cores): trust the ratios little, the times not at all")
    return '\n'.join(lines)


def _networks(result: dict) -> str:
    rows = [[width, f"{r['parameters'] / 1e6:.1f}", f"{r['flops'] / 1e9:.0f}",
             *(f'{r[key]:.1f}' if key in r else '-'
               for key in ('straightforward_ms', 'ours_ms', 'int8_ms', 'openvino_ms')),
             f"{r['speedup']:.2f}", f"{r['int8_speedup']:.2f}" if r['int8_speedup'] else '-',
             f"{r['matrix_product_flops_per_second'] / 1e9:.0f}",
             f"{100 * r['share_of_matrix_product']:.0f}"] for width, r in result['widths'].items()]
    return table(
        f"Network at {result['size']}, beside a product of matrices {result['matrix_side']} wide",
        ['width', 'M parameters', 'GFLOP', 'straightforward ms', 'ours ms', 'int8 ms',
         'OpenVINO ms', 'speedup', 'of int8', 'product GFLOP/s', '% of them by ours'], rows)


def _segments(result: dict) -> str:
    stages = list(next(iter(result.values()))['stages_ms'])
    rows = [[name, *(f"{r[f'{name}_ms']:.2f}" for r in result.values())]
            for name in ('network', 'segment')]
    rows += [['  ' + stage, *(f"{r['stages_ms'][stage]:.2f}" for r in result.values())]
             for stage in stages]
    return table('segment() with all outputs, and its stages one by one (ms)',
                 ['camera', *result], rows)


def _node(result: dict) -> str:
    rows = [[size, r['network_size'],
             *(f"{r[f'{side}_fps']:.2f}" for side in ('network', 'segment', 'node', 'parallel')),
             *(f"{r[f'{side}_per_network']:.3f}" for side in ('node', 'parallel'))]
            for size, r in result.items()]
    return table('Node, images in, all results out (frames a second)',
                 ['camera', 'network at', 'network', 'segment()', 'node', 'parallel_frames 2',
                  'node/network', 'parallel/network'], rows)


def _cameras(result: dict) -> str:
    rows = [[count, f"{r['total_fps']:.2f}", f"{r['per_one_camera']:.3f}"]
            for count, r in result.items()]
    return table('Several cameras, one node',
                 ['cameras', 'frames a second', 'of one camera'], rows)


def _input(result: dict) -> str:
    rows = [['raw', f"{result['raw_fps']:.2f}"], ['jpeg', f"{result['compressed_fps']:.2f}"]]
    return table('Input', ['', 'frames a second'], rows)


def _latency(result: dict) -> str:
    rows = [[f"{result['rate']:.2f}", *(f"{result[p + '_ms']:.1f}" for p in ('p50', 'p95', 'p99')),
             f"{result['p99_over_p50']:.2f}", f"{result['lost']} of {result['sent']}"]]
    return table('From image to mask at half the highest rate',
                 ['frames a second', 'p50 ms', 'p95 ms', 'p99 ms', 'p99/p50', 'lost'], rows)


def _dds(result: dict) -> str:
    rows = [[name.replace('_', ' '), f"{100 * r['share']:.1f}",
             f"{r['age_ms']:.1f}" if r.get('age_ms') else '-'] for name, r in result.items()]
    return table('Raw frames that arrive at 30 Hz', ['', '%', 'median age ms'], rows)


def _start(result: dict) -> str:
    rows = [[what, f"{result[key + '_s']:.2f}"] for key, what in (
        ('help', '`segnet --help`'), ('imports', 'imports of rclpy, torch and OpenCV alone'),
        ('ready', 'node, until its topics are found'),
        ('first_frame', "node, until the first frame's results"))]
    return table('From the start of the process', ['', 'seconds'], rows)


def _soak(result: dict) -> str:
    return (f"Soak: {result['start_mib']:.0f} MiB held, after {result['frames']} frames "
            f"{result['end_mib']:.0f} MiB; {'passed' if result['passed'] else 'FAILED'} "
            f"(margin {result['margin_mib']:.0f} MiB)")


_SECTIONS = {'network': _networks, 'segment': _segments, 'node': _node, 'cameras': _cameras,
             'input': _input, 'latency': _latency, 'dds': _dds, 'start': _start, 'soak': _soak}
