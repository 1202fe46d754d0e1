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

"""The segmenter against plain NumPy and torch, on a small network with random weights."""

from concurrent.futures import ThreadPoolExecutor
import copy
from dataclasses import replace
from pathlib import Path
import platform
import re
import subprocess
import sys
import tracemalloc

import numpy as np
import pytest
import torch
from torch.nn import functional

from segnet_ros import runtime
from segnet_ros.checkpoint import find_weights, load_checkpoint, ModelInfo
from segnet_ros.labels import load_label_set, VOID
from segnet_ros.networks.build import ARCHITECTURES
from segnet_ros.onednn import cpu_has, onednn_is_available, PackedConvolution
from segnet_ros.runtime import (
    choose_device, choose_precision, computes_in_bfloat16, prepare)
from segnet_ros.sample_drive.drive import SampleDrive
from segnet_ros.segmentation import region_window
from segnet_ros.segmenter import ALL_OUTPUTS, fit_input_size, OUTPUTS, Segmenter
from segnet_ros.segmenter_batch import SegmenterBatch

SIZES = [(48, 64), (47, 61), (120, 200), (20, 24)]


@pytest.fixture(scope='module')
def info():
    return ModelInfo(label_set=load_label_set('camvid11'), width=1 / 16, input_size=(48, 64))


def build_network(info, seed=0):
    """Return a network whose batch normalisation has statistics worth folding."""
    torch.manual_seed(seed)
    network = info.build()
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.2)
            module.running_var.uniform_(0.5, 2)
            module.weight.data.uniform_(0.5, 2)
            module.bias.data.normal_(0, 0.3)
    return network.eval()


def build_segmenter(info, camera_size, **kwargs):
    network = prepare(build_network(info), torch.device('cpu'), torch.float32)
    return Segmenter(network, info, camera_size, **kwargs)


def random_image(size, seed=0):
    rng = np.random.default_rng(seed)
    small = rng.integers(0, 256, (5, 7, 3), np.uint8)
    rows, columns = (np.arange(n) * k // n for n, k in zip(size, small.shape, strict=False))
    noise = rng.integers(0, 20, (*size, 3), np.uint8)
    return small[rows][:, columns] // 2 + noise


def reference(info, image, network_size, output_size):
    """Return label map and confidence as plain torch computes them."""
    x = torch.from_numpy(image).permute(2, 0, 1)[None]
    x = functional.interpolate(x, network_size, mode='bilinear', antialias=True)
    mean, std = (torch.tensor(v).view(1, 3, 1, 1) for v in (info.mean, info.std))
    with torch.no_grad():
        probabilities = build_network(info)((x / 255 - mean) / std).softmax(1)
    best, label = probabilities[0].max(0)
    rows, columns = (((np.arange(o) + 0.5) * n / o).astype(int)
                     for n, o in zip(network_size, output_size, strict=True))
    return label.numpy()[rows][:, columns], best.numpy()[rows][:, columns]


@pytest.mark.parametrize('size', SIZES)
def test_label_map_and_confidence_equal_plain_torch(info, size):
    segmenter = build_segmenter(info, size)
    image = random_image(size)
    result = segmenter.segment(image)
    label, best = reference(info, image, segmenter.network_size, size)
    assert len(np.unique(label)) > 3, 'the random network is too dull to test with'
    assert (result.label_map == label).mean() > 0.999
    assert np.abs(result.confidence - 255 * best).max() <= 0.51, 'rounded, not truncated'


@torch.inference_mode()
def test_a_pixel_at_the_threshold_is_not_below_it(info):
    segmenter = build_segmenter(info, (48, 64))
    segmenter.set_confidence_threshold(1.0)
    certain = torch.zeros(11, *segmenter.network_size)
    certain[4] = 200
    segmenter._classify(certain)
    assert (segmenter._label == 4).all()
    certain[5, 0, 0] = 199
    segmenter._classify(certain)
    assert segmenter._label[0, 0] == VOID and (segmenter._label[1:] == 4).all()


@pytest.mark.parametrize('size', SIZES)
@pytest.mark.parametrize('threshold', [0.0, 0.4])
def test_statistics_describe_the_label_map_exactly(info, size, threshold):
    segmenter = build_segmenter(info, size)
    segmenter.set_confidence_threshold(threshold)
    result = segmenter.segment(random_image(size))
    statistics, label_map = result.statistics, result.label_map
    assert statistics.pixel_counts.sum() + statistics.void_count == label_map.size
    assert statistics.void_count == (label_map == VOID).sum()
    assert (statistics.void_count > 0) == (threshold > 0)
    for class_id in range(11):
        y, x = np.nonzero(label_map == class_id)
        assert statistics.pixel_counts[class_id] == len(y)
        assert statistics.fractions[class_id] == len(y) / label_map.size
        if not len(y):
            assert not statistics.bounding_boxes[class_id].any()
            assert np.isnan(statistics.centroids[class_id]).all()
            continue
        box = (x.min(), y.min(), x.max() - x.min() + 1, y.max() - y.min() + 1)
        assert tuple(statistics.bounding_boxes[class_id]) == box
        assert statistics.centroids[class_id] == pytest.approx((x.mean(), y.mean()))
        mean = result.confidence[label_map == class_id].mean() / 255
        assert statistics.mean_confidence[class_id] == pytest.approx(mean)


@pytest.mark.parametrize('size', SIZES)
def test_statistics_of_a_region_are_those_of_its_pixels(info, size):
    """They follow a new region at once, in the same buffers."""
    segmenter = build_segmenter(info, size)
    image = random_image(size)
    wanted = ('label_map', 'confidence', 'statistics', 'region_statistics')
    for region in [(0.1, 0.3, 0.55, 0.6), (0.5, 0.0, 0.5, 1.0), (0.34, 0.4, 0.001, 0.001), None]:
        segmenter.set_region(region)
        result = segmenter.segment(image, wanted)
        top, left, bottom, right = region_window(region or (0, 0, 1, 1), size)
        label_map = result.label_map[top:bottom, left:right]
        found = result.region_statistics
        assert found.pixel_counts.sum() + found.void_count == label_map.size
        for class_id in range(11):
            y, x = np.nonzero(label_map == class_id)
            assert found.pixel_counts[class_id] == len(y)
            if not len(y):
                assert not found.bounding_boxes[class_id].any()
                assert np.isnan(found.centroids[class_id]).all()
                continue
            box = (left + x.min(), top + y.min(), np.ptp(x) + 1, np.ptp(y) + 1)
            assert tuple(found.bounding_boxes[class_id]) == box
            assert found.centroids[class_id] == pytest.approx((left + x.mean(), top + y.mean()))
            confidence = result.confidence[top:bottom, left:right][label_map == class_id]
            assert found.mean_confidence[class_id] == pytest.approx(confidence.mean() / 255)
        assert result.statistics.pixel_counts.sum() == size[0] * size[1]  # those of the whole stay


@pytest.mark.parametrize('size', [(1, 1), (1, 7), (2, 900), (1080, 1920)])
def test_cameras_of_any_size(info, size):
    result = build_segmenter(info, size).segment(random_image(size))
    assert result.label_map.shape == result.confidence.shape == size
    assert result.color_mask.shape == result.overlay.shape == (*size, 3)
    counts = np.bincount(result.label_map.ravel(), minlength=11)
    assert (result.statistics.pixel_counts == counts).all()


def test_color_mask_and_overlay_follow_palette_and_alpha(info):
    segmenter = build_segmenter(info, (60, 80))
    image = random_image((60, 80))
    palette = np.random.default_rng(1).integers(0, 256, (256, 3), np.uint8)
    segmenter.set_palette(palette)
    for alpha in (0.0, 0.25, 1.0):
        segmenter.set_overlay_alpha(alpha)
        result = segmenter.segment(image)
        assert (result.color_mask == palette[result.label_map]).all()
        expected = (1 - alpha) * image + alpha * result.color_mask.astype(float)
        assert np.abs(result.overlay - expected).max() <= 1


def test_an_overlay_is_half_image_and_half_mask_unless_told_otherwise(info):
    image = random_image((60, 80))
    result = build_segmenter(info, (60, 80)).segment(image)
    assert np.abs(result.overlay - (image.astype(float) + result.color_mask) / 2).max() <= 1


def test_a_region_of_an_output_of_another_size_is_a_share_of_it(info):
    segmenter = build_segmenter(info, (60, 80), output_size=(33, 41))
    segmenter.set_region((0.5, 0.0, 0.5, 1.0))
    result = segmenter.segment(random_image((60, 80)), ('label_map', 'region_statistics'))
    counts = np.bincount(result.label_map[:, 20:].ravel(), minlength=11)
    assert (result.region_statistics.pixel_counts == counts).all()


def test_pixels_below_the_threshold_are_void_and_painted_so(info):
    segmenter = build_segmenter(info, (60, 80))
    image = random_image((60, 80))
    sure = segmenter.segment(image).label_map.copy()
    segmenter.set_confidence_threshold(0.3)
    result = segmenter.segment(image)
    unsure = result.confidence < round(0.3 * 255)
    assert unsure.any() and not unsure.all()
    assert (result.label_map[unsure] == VOID).all()
    near = np.abs(result.confidence.astype(int) - 0.3 * 255) <= 1
    assert (result.label_map[~unsure & ~near] == sure[~unsure & ~near]).all()
    assert (result.color_mask[result.label_map == VOID] == info.label_set.void_color).all()


def test_output_sizes(info):
    image = random_image((60, 80))
    for output in [(60, 80), (30, 40), (33, 41), (120, 160)]:
        segmenter = build_segmenter(info, (60, 80), network_size=(48, 64), output_size=output)
        result = segmenter.segment(image)
        label, _ = reference(info, image, (48, 64), output)
        assert result.label_map.shape == result.confidence.shape == output
        assert result.color_mask.shape == result.overlay.shape == (*output, 3)
        assert (result.label_map == label).mean() > 0.999
        assert result.statistics.pixel_counts.sum() == output[0] * output[1]


def test_only_what_is_asked_for_comes_out(info):
    segmenter = build_segmenter(info, (48, 64))
    image = random_image((48, 64))
    result = segmenter.segment(image)
    assert result.region_statistics is None  # unless asked for
    # Copies, since the results are views of the buffers.
    everything = {name: getattr(result, name).copy() for name in OUTPUTS if name != 'statistics'}
    for name in ALL_OUTPUTS:
        segmenter.segment(random_image((48, 64), 1))  # nothing of this frame may be left
        alone = segmenter.segment(image, (name,))
        assert [n for n in ALL_OUTPUTS if getattr(alone, n) is not None] == [name]
        if 'statistics' in name:
            assert (getattr(alone, name).pixel_counts == result.statistics.pixel_counts).all()
        else:
            assert (getattr(alone, name) == everything[name]).all()


def test_buffers_stay_where_they_are(info):
    segmenter = build_segmenter(info, (48, 64))
    addresses = set()
    for seed in range(100):
        result = segmenter.segment(random_image((48, 64), seed))
        addresses.add(tuple(getattr(result, name).ctypes.data for name in OUTPUTS[:4]))
    assert len(addresses) == 1


def test_stages_allocate_nothing(info):
    segmenter = build_segmenter(info, (120, 200))
    segmenter.segment(random_image((120, 200)))
    with torch.inference_mode():
        logits = segmenter.network(segmenter._input.permute(2, 0, 1)[None])
    segmenter.network = lambda _: logits  # excludes the network, which allocates its maps
    with torch.profiler.profile(profile_memory=True) as profiler:
        segmenter.segment(random_image((120, 200), 1))
    smallest_map = 48 * 64
    held = [(e.name, e.cpu_parent.name if e.cpu_parent else '', e.self_cpu_memory_usage)
            for e in profiler.events() if e.self_cpu_memory_usage >= smallest_map]
    # torch's antialiased resize frees its own scratch memory; no other operator may need any.
    assert {parent for _, parent, _ in held} <= {'aten::_upsample_bilinear2d_aa'}, held


def test_frames_leave_no_memory_behind(info):
    segmenter = build_segmenter(info, (120, 200))
    images = [random_image((120, 200), seed) for seed in range(2)]

    def held_after(frames: int) -> int:
        for frame in range(frames):
            segmenter.segment(images[frame % 2])
        return tracemalloc.get_traced_memory()[0]

    tracemalloc.start()
    try:
        growth = -held_after(100) + held_after(200)
    finally:
        tracemalloc.stop()
    # Not zero: threads of earlier tests, such as a web server's, take memory meanwhile.
    assert growth < 200 * 160, 'far less than a map (48 x 64) for each of 200 frames'


def test_frames_with_strides_and_the_caller_s_memory_left_alone(info):
    segmenter = build_segmenter(info, (48, 64))
    padded = np.zeros((48, 70, 3), np.uint8)
    padded[:, :64] = random_image((48, 64))
    copy = padded.copy()
    strided = segmenter.segment(padded[:, :64]).label_map.copy()
    assert (padded == copy).all()
    assert (strided == segmenter.segment(np.ascontiguousarray(copy[:, :64])).label_map).all()


@pytest.mark.parametrize('image', [np.zeros((48, 65, 3), np.uint8), np.zeros((48, 64), np.uint8),
                                   np.zeros((48, 64, 3), np.float32),
                                   np.zeros((48, 64, 3), np.uint16)])
def test_another_shape_or_type_is_refused_in_words(info, image):
    with pytest.raises(ValueError, match=r'this segmenter takes \(48, 64, 3\) uint8'):
        build_segmenter(info, (48, 64)).segment(image)


def test_input_size_keeps_shape_and_pixels():
    assert fit_input_size((360, 480), (360, 480)) == (360, 480)
    assert fit_input_size((360, 480), (480, 640)) == (360, 480)
    assert fit_input_size((360, 480), (720, 1280)) == (312, 552)  # 38.97 and 69.3 times 8
    for camera in [(720, 1280), (1080, 1920), (300, 1200), (2160, 3840), (1, 1)]:
        height, width = fit_input_size((360, 480), camera)
        assert height % 8 == width % 8 == 0
        assert height * width == pytest.approx(360 * 480, rel=0.06)
        assert width / height == pytest.approx(camera[1] / camera[0], rel=0.06)


def test_folding_changes_nothing_but_rounding(info):
    x = torch.randn(1, 3, 33, 45)
    network = build_network(info)
    with torch.no_grad():
        before = network(x)
        after = prepare(network, torch.device('cpu'), torch.float32)(x)
    assert torch.allclose(before, after, atol=1e-4)
    assert not any(isinstance(m, torch.nn.BatchNorm2d) for m in network.modules())


@pytest.mark.parametrize('dtype', [torch.float32, torch.bfloat16])
@pytest.mark.parametrize('architecture', ARCHITECTURES)
def test_packed_convolutions_compute_the_same(info, architecture, dtype, monkeypatch):
    if not onednn_is_available(dtype):
        pytest.skip(f'oneDNN has no {dtype} on this CPU')
    network = build_network(replace(info, architecture=architecture))
    packed = prepare(copy.deepcopy(network), torch.device('cpu'), dtype)
    assert any(isinstance(m, PackedConvolution) for m in packed.modules())
    assert not any(isinstance(m, torch.nn.Conv2d) for m in packed.modules())
    monkeypatch.setattr(runtime, 'onednn_is_available', lambda _: False)
    plain = prepare(network, torch.device('cpu'), dtype)
    assert any(isinstance(m, torch.nn.Conv2d) for m in plain.modules())
    for size in SIZES:
        x = torch.randn(1, 3, *size).to(dtype).contiguous(memory_format=torch.channels_last)
        with torch.inference_mode():
            expected = plain(x)
            atol = 0.0
            if dtype == torch.float32:
                # PSPNet's logits are larger.
                atol = 1e-5 * float(expected.abs().max()) if architecture == 'pspnet' else 1e-4
            torch.testing.assert_close(packed(x), expected, rtol=0, atol=atol)


@pytest.mark.skipif(platform.machine() != 'x86_64', reason='these are flags of x86 CPUs')
def test_torch_finds_what_the_kernel_says_that_the_cpu_has():
    flags = re.search(r'^flags\s*:(.*)$', Path('/proc/cpuinfo').read_text(), re.M)[1].split()
    for feature in ('avx2', 'avx512_bf16', 'amx_tile'):
        assert cpu_has(feature) == (feature in flags)
    assert computes_in_bfloat16(torch.device('cpu')) == (
        'avx512_bf16' in flags or 'amx_tile' in flags)


def test_bfloat16_runs_on_every_cpu(info, monkeypatch):
    """If oneDNN refuses it, as with AVX2 alone, torch's own convolutions are used."""
    monkeypatch.setattr(torch.ops.mkldnn, '_is_mkldnn_bf16_supported', lambda: False)
    network = prepare(build_network(info), torch.device('cpu'), torch.bfloat16)
    assert not any(isinstance(m, PackedConvolution) for m in network.modules())
    x = torch.randn(1, 3, 33, 45).bfloat16().contiguous(memory_format=torch.channels_last)
    with torch.inference_mode():
        assert network(x).isfinite().all()
    Segmenter(network, info, (33, 45)).segment(random_image((33, 45)))


def test_freed_memory_is_kept():
    program = """
import resource, sys
import torch
from segnet_ros.memory import keep_freed_memory
if sys.argv[1] == 'keep':
    keep_freed_memory()
faults = []
for _ in range(40):
    torch.zeros(40 * 2**20, dtype=torch.uint8)
    faults.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt)
print(faults[-1] - faults[-10])  # by then it has settled
"""
    faults = {mode: int(subprocess.check_output([sys.executable, '-c', program, mode]))
              for mode in ('keep', 'default')}
    assert faults['keep'] < 100 < 1000 < faults['default']


def test_device_and_precision_names():
    assert choose_device('cpu') == torch.device('cpu')
    for name in ('gpu', f'cuda:{torch.cuda.device_count()}', 'mps'):
        with pytest.raises(ValueError, match=name):
            choose_device(name)
    assert choose_precision('bfloat16', torch.device('cpu')) == torch.bfloat16
    assert choose_precision('auto', torch.device('cuda')) == torch.float16
    with pytest.raises(ValueError, match='int4'):
        choose_precision('int4', torch.device('cpu'))


def check_batch(network, info, same):
    """Segment three frames together, twice; compare with each alone."""
    sizes = [(48, 64), (96, 128), (48, 64)]
    together, alone = ([Segmenter(network, info, size) for size in sizes] for _ in range(2))
    for segmenter in (*together, *alone):
        segmenter.set_region((0.25, 0.5, 0.5, 0.5))
    batch = SegmenterBatch(*together)
    outputs = [OUTPUTS, ('label_map', 'statistics', 'region_statistics'), ('overlay',)]
    for seed in range(2):
        images = [random_image(size, seed + i) for i, size in enumerate(sizes)]
        for result, segmenter, image, its_outputs in zip(
                batch.segment(images, outputs), alone, images, outputs, strict=True):
            expected = segmenter.segment(image, its_outputs)
            for name in set(OUTPUTS) - {'statistics'}:
                array = getattr(result, name)
                assert (array is None) == (name not in its_outputs)
                if array is not None:
                    assert (array == getattr(expected, name)).mean() >= same
            for name in its_outputs:
                if name.endswith('statistics'):
                    found, wanted = (getattr(r, name) for r in (result, expected))
                    difference = np.abs(found.pixel_counts - wanted.pixel_counts)
                    assert difference.sum() <= 2 * (1 - same) * image.size
                    assert found.pixel_counts.sum() + found.void_count == (
                        wanted.pixel_counts.sum() + wanted.void_count)


def test_a_batch_computes_what_its_frames_alone_give(info):
    network = prepare(build_network(info), torch.device('cpu'), torch.float32)
    check_batch(network, info, 0.999)


def test_a_batch_refuses_what_cannot_share_a_network(info):
    one, other = build_segmenter(info, (48, 64)), build_segmenter(info, (48, 64))
    with pytest.raises(ValueError, match='one network'):
        SegmenterBatch(one, other)
    with pytest.raises(ValueError, match='one network size'):
        SegmenterBatch(one, Segmenter(one.network, info, (60, 100)))
    with pytest.raises(ValueError, match='camera|takes'):
        SegmenterBatch(one).segment([random_image((20, 24))], [OUTPUTS])


def test_an_overlay_on_fractions_of_colours_is_rounded_not_truncated(info):
    """On a GPU, what the network sees is in floating point."""
    segmenter = build_segmenter(info, (96, 128), output_size=(48, 64))
    segmenter.set_overlay_alpha(0)
    assert segmenter._under is segmenter._small, 'this image is what the network sees'
    segmenter._under = torch.full((48, 64, 3), 99.6)
    with torch.inference_mode():
        segmenter._overlay()
    assert (segmenter._arrays['overlay'] == 100).all()


@pytest.mark.skipif(not torch.cuda.is_available(), reason='needs a CUDA device')
@pytest.mark.parametrize('output_size', [(48, 64), (96, 128), (40, 50)])
def test_overlays_of_a_scaled_image_are_the_cpu_s_on_cuda(info, output_size):
    image = random_image((96, 128))
    found = []
    for device in ('cuda', 'cpu'):
        network = prepare(build_network(info), torch.device(device), torch.float32)
        segmenter = Segmenter(network, info, (96, 128), output_size=output_size)
        segmenter.set_overlay_alpha(0)
        found.append(segmenter.segment(image).overlay.astype(int))
    assert abs((found[0] - found[1]).mean()) < 0.1 and np.abs(found[0] - found[1]).max() <= 1


@pytest.mark.skipif(not torch.cuda.is_available(), reason='needs a CUDA device')
def test_one_thread_segments_while_another_captures_on_cuda(info):
    network = prepare(build_network(info), torch.device('cuda'), torch.float16)
    segmenter, image = Segmenter(network, info, (48, 64)), random_image((48, 64))
    expected = segmenter.segment(image).label_map.copy()
    with ThreadPoolExecutor(1) as pool:
        building = pool.submit(lambda: [Segmenter(network, info, (48 + n, 64)) for n in range(5)])
        runs = 0
        while not building.done():
            assert (segmenter.segment(image).label_map == expected).all()
            runs += 1
        building.result()
    assert runs


@pytest.mark.skipif(not torch.cuda.is_available(), reason='needs a CUDA device')
def test_a_batch_is_one_graph_on_cuda(info):
    check_batch(prepare(build_network(info), torch.device('cuda'), torch.float32), info, 0.995)


@pytest.mark.skipif(not torch.cuda.is_available(), reason='needs a CUDA device')
@pytest.mark.parametrize('architecture, width', [('segnet', 1 / 16), ('segnet_basic', 0.25),
                                                 ('pspnet', 0.125)])
def test_the_graph_computes_what_the_cpu_computes(info, architecture, width):
    info = replace(info, architecture=architecture, width=width)
    size = info.input_size  # no scaling: the CPU rounds its result to uint8, the GPU does not
    image = random_image(size)
    network = prepare(build_network(info), torch.device('cuda'), torch.float32)
    on_gpu = Segmenter(network, info, size)
    on_cpu, region = build_segmenter(info, size), (0.1, 0.3, 0.55, 0.6)
    for segmenter in (on_gpu, on_cpu):
        segmenter.set_region(region)
    result, expected = (s.segment(image, ALL_OUTPUTS) for s in (on_gpu, on_cpu))
    for name in ('statistics', 'region_statistics'):
        difference = getattr(result, name).pixel_counts - getattr(expected, name).pixel_counts
        assert np.abs(difference).sum() < 0.01 * image.shape[0] * image.shape[1]
    assert (result.label_map == expected.label_map).mean() > 0.995
    same = result.label_map == expected.label_map
    np.testing.assert_array_equal(result.color_mask[same], expected.color_mask[same])
    assert np.abs(result.overlay[same].astype(int) - expected.overlay[same]).max() <= 1
    assert np.abs(result.confidence.astype(int) - expected.confidence).mean() < 1
    allocated = torch.cuda.memory_stats()['allocation.all.allocated']
    for seed in range(20):
        on_gpu.set_region((0, 0, 1, (seed + 1) / 20))
        result = on_gpu.segment(random_image(size, seed), ALL_OUTPUTS)
        counts = np.bincount(result.label_map[:round((seed + 1) / 20 * size[0])].ravel(),
                             minlength=256)
        np.testing.assert_array_equal(
            result.region_statistics.pixel_counts, counts[:len(info.label_set)])
    assert torch.cuda.memory_stats()['allocation.all.allocated'] == allocated


@pytest.mark.skipif(not torch.cuda.is_available(), reason='needs a CUDA device')
def test_the_shipped_weights_see_on_a_gpu_what_they_see_on_a_cpu():
    network, info = load_checkpoint(find_weights('segnet_quarter_camvid11'))
    image, _ = SampleDrive(seed=0, size=(720, 1280)).frame(20)
    expected = Segmenter(prepare(copy.deepcopy(network), torch.device('cpu'), torch.float32), info,
                         image.shape[:2]).segment(image)
    result = Segmenter(prepare(network, torch.device('cuda'), torch.float16), info,
                       image.shape[:2]).segment(image)
    assert (result.label_map == expected.label_map).mean() > 0.98
    assert np.abs(result.confidence.astype(int) - expected.confidence).mean() < 4
