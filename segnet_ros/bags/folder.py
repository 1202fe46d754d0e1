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
Segment a folder of bags, several at a time through ray, on one machine or a cluster.

Each bag is one task, so its frames stay in order and a killed run resumes bag by bag.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
import logging
import os
from pathlib import Path
from typing import Any

import torch

from segnet_ros.bags.reading import is_bag
from segnet_ros.bags.segmentation import BagOptions, BagOutcome, segment_bag
from segnet_ros.checkpoint import find_weights
from segnet_ros.extras import install_extra
from segnet_ros.predictor import Predictor


@dataclass(frozen=True)
class BagJob:
    """One bag to segment; `model` holds Predictor's arguments by name."""

    source: Path
    out: Path
    model: dict
    options: BagOptions


@dataclass(frozen=True)
class BagReport:
    """
    The result of one bag.

    :param outcome: None if the bag could not be segmented.
    :param errors: why it could not be, or which images were left out.
    """

    job: BagJob
    outcome: BagOutcome | None
    errors: list[str]


def is_folder_of_bags(path: str | Path) -> bool:
    """Tell whether this is a folder of bags, not itself a bag (after a crash just one file)."""
    path = Path(path)
    if not path.is_dir() or (path / 'metadata.yaml').is_file():
        return False
    bags = _bags(path)
    return len(bags) != 1 or bags[0].is_dir()


def find_jobs(folder: str | Path, out: str | Path, model: dict,
              options: BagOptions) -> list[BagJob]:
    """
    Return jobs for the bags in a folder, sorted by name; each makes one of that name in `out`.

    :raises ValueError: if there are no bags, two share a name, or `out` is the folder itself.
    :raises CheckpointError: if there are no such weights.
    """
    if os.path.realpath(folder) == os.path.realpath(out):
        raise ValueError(f'{out}: write the new bags to a different folder')
    bags = [bag.absolute() for bag in _bags(Path(folder))]
    find_weights(model['weights'])
    # Workers on a cluster have their own working directories.
    if (weights := Path(model['weights']).expanduser()).is_file():
        model = {**model, 'weights': str(weights.absolute())}
    targets = [Path(out).absolute() / (b.stem if b.is_file() else b.name) for b in bags]
    if not bags:
        raise ValueError(f'{folder} is not a rosbag2 and contains none')
    if len(set(targets)) < len(targets):
        raise ValueError(f'{folder}: two of its bags have the same name')
    return [BagJob(bag, target, model, options)
            for bag, target in zip(bags, targets, strict=True)]


def segment_bags(jobs: list[BagJob], workers: int = 1) -> Iterator[BagReport]:
    """
    Segment bags, yielding a report as each finishes; a failed bag does not stop the others.

    Bags that an earlier run completed with the same options are not segmented again.

    :param workers: how many bags at a time; above 1 they run through ray, on this machine or on
        the cluster that RAY_ADDRESS names, whose machines must all see the bags' folders.
    :raises ValueError: if ray is needed but not installed.
    """
    return map(run_job, jobs) if workers == 1 else _through_ray(jobs, workers)


def run_job(job: BagJob, threads: int | None = None) -> BagReport:
    """Segment one bag; errors are in the report."""
    errors: list[str] = []
    if threads is not None:
        torch.set_num_threads(threads)
    try:
        outcome = segment_bag(job.source, job.out, _predictor(**job.model), job.options,
                              lambda error: errors.append(str(error)))
    except (ValueError, OSError) as error:
        return BagReport(job, None, [*errors, str(error)])
    except Exception as error:
        logging.getLogger(__name__).exception('%s', job.source)  # it may be a bug
        _predictor.cache_clear()  # releases the buffers too
        return BagReport(job, None, [*errors, f'{job.source}: {type(error).__name__}: {error}'])
    return BagReport(job, outcome, errors)


@lru_cache(maxsize=1)
def _predictor(**model) -> Predictor:
    """Return a Predictor, the same one for bag after bag."""
    return Predictor(**model)


def _bags(folder: Path) -> list[Path]:
    return sorted(p for p in folder.iterdir() if is_bag(p) and p.suffix != '.partial')


def _through_ray(jobs: list[BagJob], workers: int) -> Iterator[BagReport]:
    ray = _start_ray()
    try:
        have = ray.cluster_resources()
        cpus, gpus = (have.get(kind, 0) / workers for kind in ('CPU', 'GPU'))
        # A task cannot span machines.
        cpus = min(cpus, max(node['Resources'].get('CPU', 0) for node in ray.nodes()))
        threads = max(1, int(cpus))
        # Ray hides the GPUs from a task that asks for none.
        task = ray.remote(num_cpus=min(threads, cpus), num_gpus=min(1, gpus))(run_job)
        waiting = list(reversed(jobs))
        running: dict[Any, BagJob] = {}
        while waiting or running:
            while waiting and len(running) < workers:
                job = waiting.pop()
                running[task.remote(job, threads)] = job
            ended, _ = ray.wait(list(running))
            yield _report(ray, ended[0], running.pop(ended[0]))
    finally:
        ray.shutdown()


def _start_ray() -> Any:
    # Otherwise ray sends usage statistics to its developers.
    os.environ.setdefault('RAY_USAGE_STATS_ENABLED', '0')
    try:
        import ray
    except ImportError as error:
        raise ValueError(f"more than one worker needs ray: {install_extra('ray')}, or leave out "
                         '--workers') from error
    try:
        ray.init(include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
    except (ConnectionError, RuntimeError) as error:
        raise ValueError(f'ray cannot be started or joined: {error}') from error
    return ray


def _report(ray: Any, ended: Any, job: BagJob) -> BagReport:
    try:
        return ray.get(ended)
    except ray.exceptions.RayError as error:  # e.g. a worker killed when out of memory
        return BagReport(job, None, [str(error)])
