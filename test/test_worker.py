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

"""Check what a worker does with frames it takes together, without a node or a network."""

from contextlib import nullcontext
import gc
from itertools import permutations
import subprocess
import sys
import threading
import time
from types import SimpleNamespace
from unittest.mock import MagicMock
import weakref

import numpy as np
import pytest
import torch

from segnet_ros.ros import worker as worker_module
from segnet_ros.ros.worker import Worker

IMAGE = np.zeros((2, 2, 3), np.uint8)


class Camera:
    """A camera whose frames are already images; None is a bad frame."""

    def __init__(self, name: str, network_size=(2, 2)):
        self.name, self.monitor = name, MagicMock()
        self.segmenter = MagicMock(network='one', network_size=network_size)
        self.published: list = []

    def decode(self, image, received, settings):
        return None if image is None else SimpleNamespace(image=image, wanted=())

    def lend_segmenter(self, frame, settings):
        return nullcontext(self.segmenter)

    def publish(self, frame, segmentation, segmented, settings):
        self.published.append(segmentation)

    def log_error(self, trouble, where):
        pass


class Made(list):
    """The batches that were created, each as the tuple of its segmenters."""

    trouble: Exception | None = None  # raised on creation if a MemoryError, else by segment()


@pytest.fixture
def batches(monkeypatch):
    """Replace SegmenterBatch with a fake, and return the batches that are created."""
    made = Made()

    class Batch:

        def __init__(self, *segmenters):
            made.append(segmenters)
            if isinstance(made.trouble, MemoryError):
                raise made.trouble

        def segment(self, images, outputs):
            if made.trouble:
                raise made.trouble
            return ['together'] * len(images)
    monkeypatch.setattr(worker_module, 'SegmenterBatch', Batch)
    return made


def take(*cameras, image=IMAGE):
    return [(camera, (image, 0.0)) for camera in cameras]


def test_cameras_are_one_batch_in_whatever_order_they_waited(batches):
    cameras = [Camera(name) for name in ('rear', 'left', 'front')]
    worker = Worker(MagicMock(), MagicMock(), together=3)
    for order in permutations(cameras):
        worker.process(take(*order), None)
    assert len(batches) == 1
    assert all(camera.published == ['together'] * 6 for camera in cameras)


def test_frames_of_one_batch_are_segmented_at_one_time(batches):
    cameras, begun = [Camera('front'), Camera('rear')], time.monotonic()
    for camera in cameras:
        camera.publish = MagicMock()
    Worker(MagicMock(), MagicMock(), together=2).process(take(*cameras), None)
    one, other = (camera.publish.call_args.args[2] for camera in cameras)
    assert begun <= one == other <= time.monotonic()


def test_a_part_of_the_cameras_is_no_batch(batches):
    cameras = [Camera(name) for name in ('front', 'left', 'rear')]
    worker = Worker(MagicMock(), MagicMock(), together=3)
    worker.process([*take(*cameras[:2]), *take(cameras[2], image=None)], None)
    assert not batches
    assert [len(camera.published) for camera in cameras] == [1, 1, 0]


def test_cameras_that_cannot_be_a_batch_are_taken_one_by_one(batches):
    cameras = [Camera('front'), Camera('rear', network_size=(4, 4))]
    asked = []
    frames = MagicMock()
    rounds = iter([take(*cameras), take(cameras[0]), take(cameras[1]), []])
    frames.take = lambda together: asked.append(together) or next(rounds)
    node = SimpleNamespace(enabled=True, settings=None)
    threads = torch.get_num_threads()
    Worker(node, frames, together=2).run(threads)
    assert asked == [2, 0, 0, 0] and not batches
    assert [len(camera.published) for camera in cameras] == [2, 2]


def test_a_batch_that_cannot_be_made_leaves_the_cameras_taking_turns(batches):
    cameras, node = [Camera('front'), Camera('rear')], MagicMock()
    batches.trouble = MemoryError('CUDA out of memory')
    worker = Worker(node, MagicMock(), together=2)
    for _ in range(3):
        worker.process(take(*cameras), None)
    assert [len(camera.published) for camera in cameras] == [3, 3]
    assert not any(camera.monitor.count.called for camera in cameras)
    assert not worker._fit  # so that run() takes one frame at a time
    assert 'CUDA out of memory' in node.get_logger().warning.call_args[0][0]


def test_a_batch_that_fails_is_every_cameras_failure(batches):
    cameras = [Camera('front'), Camera('rear')]
    batches.trouble = ValueError('a batch like no other')
    Worker(MagicMock(), MagicMock(), together=2).process(take(*cameras), None)
    for camera in cameras:
        camera.monitor.count.assert_called_once_with('failed', repr(batches.trouble))


@pytest.mark.parametrize('step', ['decode', 'lend_segmenter', 'publish'])
@pytest.mark.parametrize('together', [0, 2])
def test_one_cameras_trouble_is_not_the_others(batches, step, together):
    cameras = [Camera('front'), Camera('rear')]
    setattr(cameras[0], step, MagicMock(side_effect=ValueError('a frame like no other')))
    Worker(MagicMock(), MagicMock(), together).process(take(*cameras), None)
    cameras[0].monitor.count.assert_called_once_with('failed', repr(ValueError(
        'a frame like no other')))
    assert not cameras[1].monitor.count.called and len(cameras[1].published) == 1


def test_other_sizes_are_given_another_try(batches):
    cameras = [Camera('front'), Camera('rear', network_size=(4, 4))]
    worker = Worker(MagicMock(), MagicMock(), together=2)
    worker.process(take(*cameras), None)
    cameras[1].segmenter.network_size = (2, 2)
    worker.process(take(cameras[1], image=np.zeros((4, 4, 3), np.uint8)), None)
    assert worker._fit  # so that run() takes them together again
    worker.process([*take(cameras[0]), *take(cameras[1], image=np.zeros((4, 4, 3), np.uint8))],
                   None)
    assert len(batches) == 1 and worker._fit


@pytest.mark.parametrize('error, lost', [
    (RuntimeError('CUDA error: an illegal memory access was encountered'), True),
    (RuntimeError('CUDA error: out of memory'), False),
    (torch.OutOfMemoryError('CUDA out of memory.'), False),
    (ValueError('a frame like no other'), False)])
def test_a_gpu_that_is_lost_is_told_to_the_node(error, lost):
    camera, node = Camera('front'), MagicMock()
    camera.segmenter.segment.side_effect = error
    Worker(node, MagicMock()).process(take(camera), None)
    camera.monitor.count.assert_called_once_with('failed', repr(error))
    assert node.lose_device.call_args_list == ([((error,),)] if lost else [])


def test_where_it_went_wrong_is_told():
    camera, trouble = Camera('front'), ValueError('a frame like no other')
    camera.log_error = MagicMock()
    camera.segmenter.segment.side_effect = trouble
    Worker(MagicMock(), MagicMock()).process(take(camera), None)
    [((told, where), _)] = camera.log_error.call_args_list
    assert told == f'frame dropped: {trouble!r}'
    assert where.startswith('Traceback') and 'segmenter.segment' in where


def test_a_batch_of_a_size_that_is_gone_is_let_go(batches):
    cameras = [Camera('front'), Camera('rear')]
    worker = Worker(MagicMock(), MagicMock(), together=2)
    kept = []
    for image in (IMAGE, np.zeros((4, 4, 3), np.uint8)):
        for camera in cameras:
            camera.segmenter = MagicMock(network='one', network_size=(2, 2))
        worker.process(take(*cameras, image=image), None)
        kept.append(weakref.ref(cameras[0].segmenter))
    batches.clear()  # which holds the segmenters too
    gc.collect()
    old, new = kept
    assert old() is None and new() is not None


def test_a_batch_of_a_size_that_is_gone_is_let_go_even_if_none_follows(batches):
    cameras = [Camera('front'), Camera('rear')]
    worker = Worker(MagicMock(), MagicMock(), together=2)
    worker.process(take(*cameras), None)
    old = weakref.ref(cameras[0].segmenter)
    batches.clear()  # which holds the segmenters too
    for camera, size in zip(cameras, ((4, 4), (6, 6)), strict=True):
        camera.segmenter = MagicMock(network='one', network_size=size)
    worker.process(take(*cameras, image=np.zeros((4, 4, 3), np.uint8)), None)
    gc.collect()
    assert old() is None and not batches


def test_a_worker_computes_with_the_threads_that_it_is_given():
    before, found, frames = torch.get_num_threads(), [], MagicMock()
    frames.take = lambda together: found.append(torch.get_num_threads()) or []
    for threads in (before + 1, before + 2):
        worker = threading.Thread(target=Worker(MagicMock(), frames).run, args=(threads,))
        worker.start()
        worker.join()
    torch.set_num_threads(before)  # a worker's are also those of new threads
    assert found == [before + 1, before + 2]


def test_workers_share_out_what_the_process_had_before_them():
    program = """
import threading, torch
from segnet_ros.ros.worker import cpu_threads
torch.set_num_threads(4)
assert cpu_threads() == 4
worker = threading.Thread(target=lambda: torch.set_num_threads(2))
worker.start(); worker.join()
found = []
other = threading.Thread(target=lambda: found.extend((torch.get_num_threads(), cpu_threads())))
other.start(); other.join()
print(found)
"""
    assert subprocess.check_output([sys.executable, '-c', program], text=True) == '[2, 4]\n'
