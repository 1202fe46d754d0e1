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

"""`segnet bench`: measure the network, the segmenter and the whole node on this machine."""

import argparse
from collections.abc import Callable, Iterator
import json
from pathlib import Path
import tempfile

from segnet_ros.extras import pip_install
from segnet_ros.own_domain import enter_domain
from segnet_ros.tools.arguments import (
    add_device_argument, add_domain_argument, add_precision_argument, keep_stdout_for)
from segnet_ros.whole_file import is_stream, write_whole

SECTIONS = ('network', 'segment', 'node', 'cameras', 'input', 'latency', 'dds', 'start')


def add_arguments(parser: argparse.ArgumentParser):
    """Declare the verb's arguments."""
    parser.add_argument('--json', type=Path, metavar='OUT', help='write all results')
    parser.add_argument('--plot', type=Path, metavar='OUT.png', help='plot the results')
    parser.add_argument('--only', nargs='+', choices=SECTIONS, default=SECTIONS, metavar='PART',
                        help=f"some of {', '.join(SECTIONS)}; network and segment need no ROS")
    parser.add_argument('--quick', action='store_true',
                        help='a few frames each: to check that it runs, not to measure')
    add_device_argument(parser)
    add_precision_argument(parser)
    parser.add_argument('--weights', help='weights that segmenters and nodes run, by name or path '
                                          '(default: random ones of half width)')
    parser.add_argument('--soak', type=int, metavar='N',
                        help='only segment N frames, and fail if memory grows')
    add_domain_argument(parser)


def main(args: argparse.Namespace) -> int:
    """Measure, print the tables, write the files; fail if a soak found memory growing."""
    if args.soak is not None and args.soak < 2:
        raise ValueError(f'--soak {args.soak}: give at least 2, the first of which is a warm-up')
    if args.plot:
        # Fail before measuring if the picture could not be drawn afterwards.
        try:
            from segnet_ros.bench.plot import PANELS, save_plot
        except ModuleNotFoundError as error:
            raise ValueError(f'--plot: {error}; {pip_install("matplotlib")}, or leave it '
                             'out') from error
        if args.soak or not {*PANELS} & {*args.only}:
            raise ValueError(f'--plot draws {", ".join(PANELS)}, and none of them is measured')
    enter_domain(args.domain)
    from segnet_ros.bench.environment import describe
    from segnet_ros.bench.plan import make_plan
    from segnet_ros.bench.report import headline, report
    with tempfile.TemporaryDirectory() as scratch, keep_stdout_for(args.json, args.plot):
        plan = make_plan(args.weights, args.device, Path(scratch), args.quick,
                         args.precision)
        results = {'environment': describe(plan)}
        parts = _soak(plan, args.soak) if args.soak else _measure(plan, args.only)
        for name, measured in parts:
            results[name] = measured
            results['headline'] = headline(results)
            # An interrupted run keeps its results so far.
            if args.json and not is_stream(args.json):
                _write(results, args.json)
        if args.json and is_stream(args.json):
            _write(results, args.json)
        print(report(results))
        if args.json:
            print(args.json)
        if args.plot:
            save_plot(results, args.plot)
            print(args.plot)
    return 0 if results.get('soak', {}).get('passed', True) else 1


def _write(results: dict, path: Path):
    write_whole(path, (json.dumps(results, indent=2) + '\n').encode())


def _soak(plan, frames: int) -> Iterator[tuple[str, dict]]:
    from segnet_ros.bench.segmenters import soak_segmenter
    from tqdm import tqdm
    with tqdm(total=frames, desc='soak', unit='frame') as bar:
        yield 'soak', soak_segmenter(plan, frames, bar.update)


def _measure(plan, only: tuple[str, ...]) -> Iterator[tuple[str, dict]]:
    from tqdm import tqdm
    bar = tqdm([name for name in SECTIONS if name in only], unit='part')
    for name in bar:
        bar.set_description(name)
        steps = 0

        def progress():
            nonlocal steps
            steps += 1
            bar.set_postfix_str(f'step {steps}')

        yield name, _measure_of(name)(plan, progress)


def _measure_of(section: str) -> Callable:
    """Return the function that measures a section; those with nodes import ROS."""
    if section == 'network':
        from segnet_ros.bench.networks import measure_networks
        return measure_networks
    if section == 'segment':
        from segnet_ros.bench.segmenters import measure_segmenters
        return measure_segmenters
    from segnet_ros.ros import bench_node
    return getattr(bench_node, f'measure_{section}')
