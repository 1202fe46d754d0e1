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

"""Check `segnet evaluate` on the sample drive: scores, sizes, pictures, robustness, errors."""

from dataclasses import replace
import json
import os
import shutil

import cv2
from labelled_folder import write_split
import numpy as np
import pytest
import torch
from torch.nn import functional
from torchmetrics.classification import MulticlassJaccardIndex

from segnet_ros.checkpoint import CheckpointError, find_weights, load_checkpoint, save_checkpoint
from segnet_ros.labels import LabelSet, load_label_set, VOID
from segnet_ros.runtime import choose_precision, prepare
from segnet_ros.sample_drive.drive import SampleDrive
from segnet_ros.segmenter import fit_input_size
from segnet_ros.tools.cli import main
from segnet_ros.tools.evaluate import parse_size
from segnet_ros.training.corruptions import CORRUPTIONS
from segnet_ros.training.evaluate import evaluate, predict_function, score_frames
from segnet_ros.training.plots import confusion_figure, frames_figure, save_plots

torch.set_num_threads(1)
SIZE = (96, 128)
CAMVID = load_label_set('camvid11')
KEYS = {'miou', 'global_accuracy', 'class_average_accuracy', 'per_class_iou', 'boundary_f1',
        'calibration_error', 'confusion_matrix', 'class_names', 'frames', 'size', 'weights',
        'data', 'split', 'precision'}


@pytest.fixture(scope='module')
def data(tmp_path_factory):
    """Write four frames as split `val`; a band of each is void."""
    folder = tmp_path_factory.mktemp('data')
    frames = {}
    for index in range(4):
        image, label_map = SampleDrive(seed=index, size=SIZE).frame(0)
        label_map[:, :8] = VOID
        frames[f'{index}.png'] = image, label_map
    write_split(folder, 'val', frames)
    return folder


@pytest.fixture(scope='module')
def weights(tmp_path_factory):
    """Save the shipped quarter-width weights at the data's size: good enough to be scored."""
    network, info = load_checkpoint(find_weights('segnet_quarter_camvid11'))
    path = tmp_path_factory.mktemp('weights') / 'w.safetensors'
    save_checkpoint(path, network, replace(info, input_size=SIZE))
    return path


def frames_of(data):
    for path in sorted((data / 'val').iterdir()):
        image = cv2.cvtColor(cv2.imread(str(path)), cv2.COLOR_BGR2RGB)
        truth = cv2.imread(str(data / 'valannot' / path.name), cv2.IMREAD_UNCHANGED)
        yield image, np.where(truth == 11, VOID, truth)


def plain_logits(weights, image, size=SIZE):
    """Return logits at the image's size from plain float32 PyTorch, without folding."""
    network, info = load_checkpoint(weights)
    x = torch.from_numpy(image).permute(2, 0, 1)[None] / 255
    x = functional.interpolate(x, size, mode='bilinear', antialias=True)
    mean, std = (torch.tensor(v).view(1, 3, 1, 1) for v in (info.mean, info.std))
    with torch.no_grad():
        return functional.interpolate(network((x - mean) / std), image.shape[:2], mode='bilinear')


@pytest.fixture(scope='module')
def evaluation(weights, data):
    return evaluate(weights, data)


def test_json_has_all_scores(weights, data, tmp_path, capsys):
    path = tmp_path / 'new' / 'scores.json'
    assert main(['evaluate', '--weights', str(weights), '--data', str(data), '--split', 'val',
                 '--json', str(path)]) == 0
    found = json.loads(path.read_text(), parse_constant=pytest.fail)
    assert found.keys() == KEYS
    assert found['frames'] == 4 and found['size'] == list(SIZE)
    assert found['weights'] == str(weights) and found['split'] == 'val'
    assert found['precision'] in ('float32', 'bfloat16')  # what auto is on this CPU
    assert tuple(found['class_names']) == tuple(found['per_class_iou']) == CAMVID.class_names
    printed = capsys.readouterr().out
    assert f'{100 * found["miou"]:.1f}' in printed and 'bicyclist' in printed


def test_frames_of_another_shape_are_scaled_as_in_the_node(weights, data, tmp_path):
    network, info = load_checkpoint(weights)
    save_checkpoint(tmp_path / 'square.safetensors', network, replace(info, input_size=(64, 64)))
    found = evaluate(tmp_path / 'square.safetensors', data).result
    size = fit_input_size((64, 64), SIZE)
    assert found['size'] == list(size) != [64, 64]
    assert found['confusion_matrix'] == evaluate(weights, data, size=size).result[
        'confusion_matrix']


def test_a_size_is_height_by_width():
    assert parse_size('360x480') == (360, 480)


def test_frames_of_several_shapes_have_no_common_size(weights, tmp_path, capsys):
    frames = {'a.png': SampleDrive(0, SIZE).frame(0), 'b.png': SampleDrive(1, (64, 64)).frame(0)}
    frames['c.png'] = frames['a.png'][0], np.full(SIZE, 3, np.uint8)  # all road: no boundary
    write_split(tmp_path, 'val', frames)
    assert main(['evaluate', '--weights', str(weights), '--data', str(tmp_path), '--precision',
                 'bfloat16', '--device', 'cpu', '--json', str(tmp_path / 's.json')]) == 0
    found = json.loads((tmp_path / 's.json').read_text())
    assert (found['size'], found['precision']) == (None, 'bfloat16')
    assert found['data'] == str(tmp_path) and found['boundary_f1'] > 0
    assert "network input of each frame's own shape, bfloat16" in capsys.readouterr().out


@pytest.mark.parametrize('size', [None, (64, 80), (121, 153)])
def test_scores_agree_with_torchmetrics_at_label_resolution(weights, data, size):
    result = evaluate(weights, data, size=size, device='cpu').result
    metric = MulticlassJaccardIndex(11, ignore_index=VOID)
    for image, truth in frames_of(data):
        metric(plain_logits(weights, image, size or SIZE).argmax(1),
               torch.from_numpy(truth)[None].long())
    assert result['miou'] > 0.2
    # In bfloat16, more pixels change class.
    exact = choose_precision('auto', torch.device('cpu')) == torch.float32
    assert result['miou'] == pytest.approx(float(metric.compute()), abs=3e-4 if exact else 0.01)
    assert result['size'] == list(size or SIZE)
    # The confusion matrix counts every labelled pixel of the annotations and no void one.
    assert np.sum(result['confusion_matrix']) == 4 * 96 * 120


def test_logits_are_scaled_up_bilinearly(weights, data):
    network, info = load_checkpoint(weights)
    prepared = prepare(network, torch.device('cpu'), torch.float32)
    predict = predict_function(prepared, info, (24, 32))
    for image, _ in frames_of(data):
        expected = plain_logits(weights, image, (24, 32)).argmax(1)[0].numpy()
        assert (predict(image)[0] == expected).mean() > 0.999


def test_rows_of_the_confusion_matrix_are_the_truth(evaluation, data):
    labelled = np.concatenate([t[t != VOID] for _, t in frames_of(data)])
    rows = np.array(evaluation.result['confusion_matrix']).sum(1)
    assert rows.tolist() == np.bincount(labelled, minlength=11).tolist()


def test_confidence_is_the_rounded_probability(evaluation, weights, data):
    image, _ = next(frames_of(data))
    label_map, confidence = evaluation.predict(image)
    assert label_map.shape == confidence.shape == SIZE
    assert label_map.dtype == confidence.dtype == np.uint8
    expected = plain_logits(weights, image).softmax(1).amax(1)[0].numpy() * 255
    assert np.abs(confidence - expected).mean() < 1.5


def test_perfect_and_hopeless_predictions(data):
    frames = list(frames_of(data))
    truths = iter([t for _, t in frames])

    def perfect(image):
        truth = next(truths)
        return np.where(truth == VOID, 3, truth), np.full(SIZE, 255, np.uint8)

    result, mious = score_frames(perfect, frames, CAMVID.class_names)
    assert result['miou'] == result['global_accuracy'] == result['boundary_f1'] == 1.0
    assert result['calibration_error'] == 0 and (mious == 1).all()

    def all_fence(image):
        return np.full(SIZE, 7, np.uint8), np.full(SIZE, 255, np.uint8)

    result, _ = score_frames(all_fence, frames, CAMVID.class_names)
    fence = np.mean(np.concatenate([t[t != VOID] for _, t in frames]) == 7)
    assert result['global_accuracy'] == pytest.approx(fence)
    assert result['calibration_error'] == pytest.approx(1 - fence)
    assert result['boundary_f1'] == 0


def test_one_matrix_over_all_frames_not_a_mean_of_frames():
    """A class that is small in one frame and large in the other counts by its pixels."""
    frames = [(np.zeros((10, 10, 3), np.uint8), np.zeros((10, 10), np.uint8)) for _ in range(2)]
    frames[0][1][:1] = 1
    frames[1][1][:9] = 1
    predictions = iter([np.zeros((10, 10), np.uint8), frames[1][1]])
    result, mious = score_frames(lambda image: (next(predictions), np.zeros((10, 10), np.uint8)),
                                 frames, ('a', 'b'))
    assert result['per_class_iou'] == {'a': pytest.approx(100 / 110), 'b': pytest.approx(0.9)}
    assert mious.tolist() == [pytest.approx(0.45), 1.0]


def test_all_void_is_an_error():
    frame = np.zeros((8, 8, 3), np.uint8), np.full((8, 8), VOID, np.uint8)
    with pytest.raises(ValueError, match='no labelled pixels'):
        score_frames(lambda image: (frame[1] * 0, frame[1]), [frame], ('a', 'b'))


def test_robustness_is_scored_and_printed(weights, data, tmp_path, capsys):
    path = tmp_path / 'scores.json'
    assert main(['evaluate', '--weights', str(weights), '--data', str(data), '--json', str(path),
                 '--robustness']) == 0
    found = json.loads(path.read_text())
    assert found.keys() == KEYS | {'robustness'}
    assert list(found['robustness']) == ['none', *CORRUPTIONS]
    assert found['robustness']['none']['miou'] == found['miou']
    assert evaluate(weights, data, robustness=True).result['robustness'] == found['robustness']
    assert len({r['miou'] for r in found['robustness'].values()}) == 1 + len(CORRUPTIONS)
    printed = capsys.readouterr().out
    assert all(name in printed for name in CORRUPTIONS)


@pytest.mark.parametrize('name', CORRUPTIONS)
def test_corruption_is_the_same_every_time(name):
    frame = SampleDrive(seed=1, size=SIZE).frame(0)
    kept = [array.copy() for array in frame]
    image, label_map = CORRUPTIONS[name](*frame, np.random.default_rng(5))
    again, _ = CORRUPTIONS[name](*frame, np.random.default_rng(5))
    assert np.array_equal(image, again)
    assert image.dtype == label_map.dtype == np.uint8
    assert image.shape == (*SIZE, 3) and label_map.shape == SIZE
    assert np.abs(image.astype(int) - frame[0]).mean() > 1
    assert all(np.array_equal(a, b) for a, b in zip(frame, kept, strict=True))
    if name != 'tilt 15 degrees':
        assert np.array_equal(label_map, frame[1])


def test_night_is_dark_and_tilt_turns_the_labels_along():
    image, label_map = SampleDrive(seed=1, size=SIZE).frame(0)
    dark, _ = CORRUPTIONS['night'](image, label_map, np.random.default_rng(0))
    assert dark.mean() < 0.6 * image.mean()
    # An image that encodes its labels still does after the tilt, except at seams.
    telling = np.repeat(label_map[..., None] * 20, 3, 2)
    tilted, turned = CORRUPTIONS['tilt 15 degrees'](telling, label_map, np.random.default_rng(0))
    inside = turned != VOID
    assert 0.03 < 1 - inside.mean() < 0.4
    assert (tilted[..., 0][inside] == turned[inside] * 20).mean() > 0.75
    assert not np.array_equal(turned, label_map)


def test_names_that_are_no_text_are_read_too(weights, data, tmp_path):
    odd = os.fsencode(tmp_path) + b'/caf\xe9'
    shutil.copytree(data, os.fsdecode(odd))
    assert evaluate(weights, os.fsdecode(odd)).result['miou'] == \
        evaluate(weights, data).result['miou']


def test_plots_are_written(weights, data, tmp_path):
    assert main(['evaluate', '--weights', str(weights), '--data', str(data),
                 '--plots', str(tmp_path / 'plots')]) == 0
    for name in ('confusion_matrix.png', 'frames.png'):
        assert cv2.imread(str(tmp_path / 'plots' / name)).shape[0] > 400


def test_plots_show_each_frame_once_best_first(evaluation, data):
    figure = frames_figure(evaluation)
    titles = [axes.get_title() for axes in figure.axes]
    order = [evaluation.frames[i][0].name for i in np.argsort(-evaluation.frame_mious)]
    assert titles[::3] == [*(f'best: {n}' for n in order[:3]), f'worst: {order[3]}']
    palette, frames = CAMVID.palette(), list(frames_of(data))
    for row, title in enumerate(titles[::3]):
        image, truth = frames[int(title.partition(': ')[2].partition('.')[0])]
        prediction = np.where(truth == VOID, VOID, evaluation.predict(image)[0])
        shown = [axes.get_images()[0].get_array() for axes in figure.axes[3 * row:3 * row + 3]]
        for picture, expected in zip(shown, (image, palette[truth], palette[prediction]),
                                     strict=True):
            np.testing.assert_array_equal(picture, expected)


def test_confusion_is_plotted_in_percent_of_the_truth():
    axes = confusion_figure({'confusion_matrix': [[8, 2, 0], [3, 9, 0], [0, 0, 0]], 'miou': 0.6,
                             'class_names': ['car', 'tree', 'sky']}).axes[0]
    # A text's position is (column, row).
    assert {text.get_position(): text.get_text() for text in axes.texts} \
        == {(0, 0): '80', (1, 0): '20', (0, 1): '25', (1, 1): '75'}
    np.testing.assert_array_equal(axes.get_images()[0].get_array(),
                                  [[80, 20, 0], [25, 75, 0], [0, 0, 0]])
    assert (axes.get_xlabel(), axes.get_ylabel()) == ('predicted', 'truth')
    for labels in (axes.get_xticklabels(), axes.get_yticklabels()):
        assert [label.get_text() for label in labels] == ['car', 'tree', 'sky']


def test_the_picture_of_many_classes_stays_small():
    names = [f'c{n}' for n in range(254)]
    figure = confusion_figure({'confusion_matrix': np.eye(254, dtype=int).tolist(), 'miou': 1.0,
                               'class_names': names})
    assert figure.get_figwidth() == figure.get_figheight() <= 30
    assert not figure.axes[0].texts


def test_label_set_of_the_annotations(weights, data, tmp_path):
    labels = CAMVID.to_dict()
    labels['void']['file_id'] = 200
    path = tmp_path / 'labels.yaml'
    path.write_text(json.dumps(labels))
    with pytest.raises(ValueError, match=r'ids \[11\].*void 200'):
        evaluate(weights, data, label_set=path)
    labels['classes'][0]['name'] = 'heaven'
    path.write_text(json.dumps(labels))
    with pytest.raises(ValueError, match='heaven.*must be the same'):
        evaluate(weights, data, label_set=path)


@pytest.mark.parametrize('changes, words', [
    ({'--weights': 'nothing_there'}, "no file 'nothing_there'"),
    ({'--weights': __file__}, 'not a complete .safetensors file'),
    ({'--data': '/no/where'}, 'in /no/where/val; --data needs'),
    ({'--split': 'test'}, 'needs a folder with test/'),
])
def test_command_tells_what_is_wrong(weights, data, capsys, changes, words):
    arguments = {'--weights': str(weights), '--data': str(data), **changes}
    assert main(['evaluate', *(a for pair in arguments.items() for a in pair)]) == 1
    assert words in capsys.readouterr().err


@pytest.mark.parametrize('size', ['360', '360x', 'x480', '0x480', '3.5x7', 'axb'])
def test_size_must_be_height_x_width(weights, data, capsys, size):
    with pytest.raises(SystemExit):
        main(['evaluate', '--weights', str(weights), '--data', str(data), '--size', size])
    assert 'is not HxW' in capsys.readouterr().err


def test_missing_weights_are_a_checkpoint_error(data):
    with pytest.raises(CheckpointError):
        evaluate(os.devnull + 'x', data)


@pytest.mark.filterwarnings('error::UserWarning')
def test_plots_take_any_name_and_many_classes(tmp_path, evaluation):
    def named(count):
        names = ('a$_$b', *(f'class {number}' for number in range(1, count)))
        return LabelSet('many', names, tuple((n, n, n) for n in range(count)))

    image, mask = evaluation.frames[0]
    renamed = tmp_path / (os.fsdecode(b'\xe9$x_$') + image.name)
    renamed.write_bytes(image.read_bytes())
    many = replace(evaluation, label_set=named(150), frames=[(renamed, mask)],
                   frame_mious=np.array([0.5]))
    figure = frames_figure(many)
    figure.draw_without_rendering()  # warns if axes collapse
    assert min(axes.get_window_extent().height for axes in figure.axes) > 100
    few = replace(many, label_set=named(12), result={
        **evaluation.result, 'confusion_matrix': np.eye(12, dtype=int).tolist(),
        'class_names': list(named(12).class_names)})
    for path in save_plots(few, tmp_path):
        assert path.stat().st_size > 1000


def test_frames_that_were_trained_on_are_told(weights, data, tmp_path, caplog):
    network, info = load_checkpoint(weights)
    first = tmp_path / 'first.safetensors'
    save_checkpoint(first, network, replace(
        info, made_by={'split': 'train+val', 'data': str(data)}))
    second = tmp_path / 'second.safetensors'
    save_checkpoint(second, network, replace(
        info, made_by={'split': 'train', 'data': 'other', 'init': str(first)}))
    for made_by, told in (({'split': 'train', 'data': str(data)}, False),
                          ({'split': 'train+val', 'data': 'other'}, False),
                          ({'split': 'train', 'data': 'other', 'init': 'camvid'}, False),
                          ({'split': 'train', 'data': 'other', 'init': str(first)}, True),
                          ({'split': 'train', 'data': 'other', 'init': str(second)}, True),
                          ({'split': 'train+val', 'data': f'/elsewhere/{data.name}'}, True),
                          ({'split': 'train+val', 'data': data.name.upper()}, True)):
        caplog.clear()
        save_checkpoint(tmp_path / 'w.safetensors', network, replace(info, made_by=made_by))
        evaluate(tmp_path / 'w.safetensors', data / 'val' / '..', 'val', device='cpu')
        assert ("frames of 'val' may be among those that these weights were trained on"
                in caplog.text) == told
