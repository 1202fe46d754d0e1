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


"""Check that a bag is segmented whole, in order, with its stamps, and resumes after a kill."""

from dataclasses import replace
import errno
import fcntl
from itertools import islice
import os
from pathlib import Path
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from types import SimpleNamespace
from unittest.mock import MagicMock

import numpy as np
import pytest
from rendered_pictures import picture
from rosbags.rosbag2 import Reader, StoragePlugin, Writer
from rosbags.typesys import get_types_from_msg, get_typestore, Stores
from small_network import write_small_checkpoint
import torch

from segnet_ros.bags import folder as bag_folder, segmentation as bag_segmentation
from segnet_ros.bags.cameras import camera_topics, result_prefixes
from segnet_ros.bags.folder import find_jobs, is_folder_of_bags, segment_bags
from segnet_ros.bags.reading import (
    bag_topics, COMPRESSED, decode_message, IMAGE, RawMessage, read_messages, TYPES)
from segnet_ros.bags.segmentation import BagOptions, segment_bag
from segnet_ros.bags.split_bag import OutTopic, SplitBag
from segnet_ros.bags.writing import make_header, write_bag
from segnet_ros.extras import install_extra
from segnet_ros.frames import Frame
from segnet_ros.labels import load_label_set
from segnet_ros.predictor import Predictor
from segnet_ros.sources import open_frames
from segnet_ros.tools.cli import main

torch.set_num_threads(1)
SIZE = (48, 64)
STORE = get_typestore(Stores.ROS2_JAZZY)
STORE.register({
    **get_types_from_msg('uint16 class_id\nstring class_name', 'vision_msgs/msg/VisionClass'),
    **get_types_from_msg('std_msgs/Header header\nvision_msgs/VisionClass[] class_map\n'
                         'float32 threshold', 'vision_msgs/msg/LabelInfo'),
    **get_types_from_msg('float64 pressure\nown_msgs/Tyre[2] rest', 'own_msgs/msg/Car'),
    **get_types_from_msg('string name', 'own_msgs/msg/Tyre')})


@pytest.fixture(scope='module')
def weights(tmp_path_factory):
    return write_small_checkpoint(
        tmp_path_factory.mktemp('weights') / 'tiny.safetensors', 1 / 16, SIZE)


@pytest.fixture(scope='module')
def predictor(weights):
    return Predictor(weights, 'cpu', 'float32')


def drive(count, size=SIZE):
    """Yield frames that cycle through ten pictures, with distinctive stamps and frame_ids."""
    for index in range(count):
        yield Frame(index, 1_700_000_000_123_456_789 + index * 66_666_667, f'cam{index % 3}',
                    str(index), picture(index % 10, size))


@pytest.fixture
def bag(tmp_path):
    write_bag(drive(7), tmp_path / 'in', '/front/image_raw')
    return tmp_path / 'in'


def contents(path):
    return {file.relative_to(path): file.read_bytes() for file in sorted(path.rglob('*'))
            if file.is_file()}


def messages(path, topic):
    """Return (record time, message) of each message on a topic."""
    return [(m.record_ns, STORE.deserialize_cdr(m.cdr, m.type_name))
            for m in read_messages(path, [topic])]


def stamp_ns(msg):
    return msg.header.stamp.sec * 10**9 + msg.header.stamp.nanosec


def run(source, out, weights, *options):
    """Run `segnet segment-bag`; return its exit code."""
    return main(['segment-bag', *map(str, (source, out, *options)), '--weights', str(weights),
                 '--device', 'cpu', '--precision', 'float32'])


@pytest.mark.parametrize('storage', ['mcap', 'sqlite3'])
@pytest.mark.parametrize('image_format', ['raw', 'png'])
def test_every_image_comes_out_in_order_with_its_stamp(tmp_path, predictor, storage,
                                                       image_format):
    write_bag(drive(7), tmp_path / 'in', '/front/image_raw', storage, image_format)
    results = ('mask', 'color_mask', 'overlay', 'confidence', 'statistics')
    outcome = segment_bag(tmp_path / 'in', tmp_path / 'out', predictor,
                          BagOptions(results, storage=storage, file_frames=3))
    assert (outcome.frames, outcome.left_out, outcome.resumed) == (7, 0, 0)
    originals = list(read_messages(tmp_path / 'in'))
    assert [m for m in read_messages(tmp_path / 'out') if m.topic == '/front/image_raw'] \
        == originals
    expected = list(drive(7))
    palette = load_label_set('camvid11').palette()
    made = {name: messages(tmp_path / 'out', f'/front/segmentation/{name}') for name in results}
    for found in made.values():
        assert [record for record, _ in found] == [m.record_ns for m in originals]
        assert [(stamp_ns(msg), msg.header.frame_id) for _, msg in found] \
            == [(frame.stamp_ns, frame.frame_id) for frame in expected]
    for index, frame in enumerate(expected):
        truth = predictor.segment(frame.image)
        msg = {name: found[index][1] for name, found in made.items()}
        mask = msg['mask'].data.reshape(SIZE)
        assert (msg['mask'].encoding, msg['mask'].step) == ('mono8', SIZE[1])
        np.testing.assert_array_equal(mask, truth.label_map)
        assert (msg['color_mask'].encoding, msg['color_mask'].step) == ('rgb8', 3 * SIZE[1])
        np.testing.assert_array_equal(msg['color_mask'].data.reshape(*SIZE, 3), palette[mask])
        np.testing.assert_array_equal(msg['overlay'].data.reshape(*SIZE, 3), truth.overlay)
        np.testing.assert_array_equal(msg['confidence'].data.reshape(SIZE), truth.confidence)
        counts = [int(s.values[1].value) for s in msg['statistics'].status]
        assert counts == np.bincount(mask.ravel(), minlength=11).tolist()


def test_label_info_comes_once_before_the_first_mask_and_is_latched(bag, tmp_path, predictor):
    segment_bag(bag, tmp_path / 'out', predictor, BagOptions(file_frames=2))
    order = [m.topic for m in read_messages(tmp_path / 'out')]
    info, mask = '/front/segmentation/label_info', '/front/segmentation/mask'
    assert order.count(info) == 1 and order.index(info) < order.index(mask)
    msg = messages(tmp_path / 'out', info)[0][1]
    assert [(c.class_id, c.class_name) for c in msg.class_map] \
        == list(enumerate(load_label_set('camvid11').class_names))
    topics = {t.name: t for t in bag_topics(tmp_path / 'out')}
    assert [q.durability.name for q in topics[info].qos] == ['TRANSIENT_LOCAL']
    assert [q.durability.name for q in topics[mask].qos] == ['VOLATILE']
    assert topics[mask].count == 7
    assert msg.threshold == 0  # no pixel is void for its confidence


def test_results_have_the_quality_of_service_of_the_node_s(bag, tmp_path, predictor):
    segment_bag(bag, tmp_path / 'out', predictor, BagOptions(results_only=True))
    qos = {topic.name.rpartition('/')[2]: topic.qos for topic in bag_topics(tmp_path / 'out')}
    assert {name: [(q.reliability.name, q.depth) for q in offered]
            for name, offered in qos.items()} == {
        'label_info': [('RELIABLE', 1)], 'mask': [('RELIABLE', 1)],
        'statistics': [('RELIABLE', 10)]}


def test_originals_keep_their_quality_of_service(bag, tmp_path, predictor):
    segment_bag(bag, tmp_path / 'info', predictor, BagOptions(('mask',)))
    [latched] = [t.qos for t in bag_topics(tmp_path / 'info') if t.name.endswith('info')]
    _copy(bag, tmp_path / 'latched', qos=latched)
    segment_bag(tmp_path / 'latched', tmp_path / 'out', predictor)
    assert {t.name: t.qos for t in bag_topics(tmp_path / 'out')}['/front/image_raw'] == latched


def test_results_have_their_image_s_record_time(tmp_path, predictor):
    write_bag([replace(f, record_ns=f.stamp_ns + 5) for f in drive(3)], tmp_path / 'in')
    segment_bag(tmp_path / 'in', tmp_path / 'out', predictor)
    assert {m.record_ns for m in read_messages(tmp_path / 'out')} == {
        f.stamp_ns + 5 for f in drive(3)}


def test_times_of_a_bag_whose_clock_was_set_back(tmp_path):
    name = 'std_msgs/msg/Empty'
    topic = OutTopic('/a', name, TYPES.generate_msgdef(name, ros_version=2)[0],
                     TYPES.hash_rihs01(name))
    with SplitBag(tmp_path / 'out', [topic], {}) as bag:
        for times in ((50, 60), (10, 20)):
            for time_ns in times:
                bag.write('/a', time_ns, b'\0\1\0\0\0')
            bag.end_file({})
        bag.complete()
    with Reader(tmp_path / 'out') as reader:
        assert (reader.start_time, reader.end_time, reader.message_count) == (10, 61, 4)


def test_statistics_are_those_of_the_node(bag, tmp_path, predictor):
    statistics = pytest.importorskip('segnet_ros.ros.statistics')
    segment_bag(bag, tmp_path / 'out', predictor)
    msg = messages(tmp_path / 'out', '/front/segmentation/statistics')[2][1]
    truth = predictor.segment(list(drive(3))[2].image).statistics
    node = statistics.class_statuses(truth, predictor.info.label_set, {}, 'segnet/front')
    assert [(s.level, s.name, s.message, s.hardware_id, [(v.key, v.value) for v in s.values])
            for s in msg.status] == \
        [(int.from_bytes(s.level, 'big'), s.name, s.message, s.hardware_id,
          [(v.key, v.value) for v in s.values]) for s in node]


@pytest.mark.parametrize('storage', ['mcap', 'sqlite3'])
def test_twice_gives_the_same_bytes(bag, tmp_path, predictor, weights, storage):
    options = BagOptions(storage=storage, file_frames=3)
    segment_bag(bag, tmp_path / 'one' / 'out', predictor, options)
    segment_bag(bag, tmp_path / 'two' / 'out', Predictor(weights, 'cpu', 'float32'), options)
    assert contents(tmp_path / 'one' / 'out') == contents(tmp_path / 'two' / 'out')


COMMAND = 'import sys; from segnet_ros.tools.cli import main; sys.exit(main(sys.argv[1:]))'


def test_killed_and_resumed_gives_the_same_bytes(tmp_path, predictor, weights):
    write_bag(drive(40), tmp_path / 'in')
    arguments = ['segment-bag', str(tmp_path / 'in'), str(tmp_path / 'killed' / 'out'),
                 '--weights', str(weights), '--device', 'cpu', '--precision', 'float32',
                 '--file-frames', '2']
    process = subprocess.Popen([sys.executable, '-c', COMMAND, *arguments],
                               stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    partial = tmp_path / 'killed' / 'out.partial'
    while not (partial / 'out_2.part.yaml').exists() and process.poll() is None:
        time.sleep(0.001)
    process.kill()
    assert process.wait() == -signal.SIGKILL, 'it must be killed before its end'
    assert not (tmp_path / 'killed' / 'out').exists()
    options = BagOptions(file_frames=2)
    outcome = segment_bag(tmp_path / 'in', tmp_path / 'killed' / 'out', predictor, options)
    assert outcome.frames == 40 and 6 <= outcome.resumed < 40
    segment_bag(tmp_path / 'in', tmp_path / 'whole' / 'out', predictor, options)
    assert contents(tmp_path / 'killed' / 'out') == contents(tmp_path / 'whole' / 'out')
    assert not partial.exists()


@pytest.fixture(scope='module')
def uncut(tmp_path_factory, predictor):
    """Return the bytes that segmenting `bag` in files of three frames gives."""
    folder = tmp_path_factory.mktemp('uncut')
    write_bag(drive(7), folder / 'in', '/front/image_raw')
    segment_bag(folder / 'in', folder / 'out', predictor, BagOptions(file_frames=3))
    return contents(folder / 'out')


class Stop(BaseException):
    """Acts like a kill at a chosen point, as far as the files go."""


@pytest.mark.parametrize('step', range(1, 12))
def test_it_goes_on_wherever_a_step_of_its_files_was_cut(bag, tmp_path, predictor,
                                                         monkeypatch, step, uncut):
    options = BagOptions(file_frames=3)
    left = step

    def cutting(original):
        def cut(path, *arguments, **keywords):
            nonlocal left
            left -= str(path).startswith(str(tmp_path / 'cut'))
            if left == 0:
                raise Stop
            return original(path, *arguments, **keywords)
        return cut
    with monkeypatch.context() as patch:
        for name in ('rename', 'unlink'):
            patch.setattr(Path, name, cutting(getattr(Path, name)))
        with pytest.raises(Stop):
            segment_bag(bag, tmp_path / 'cut' / 'out', predictor, options)
    outcome = segment_bag(bag, tmp_path / 'cut' / 'out', predictor, options)
    assert outcome.frames == 7
    assert contents(tmp_path / 'cut' / 'out') == uncut


def test_a_partial_bag_goes_on_by_its_own_recipe_only(bag, tmp_path, predictor):
    def fail(error):
        raise Stop
    damaged = tmp_path / 'damaged' / 'in'
    _copy_with_damage(bag, damaged, at=5)
    with pytest.raises(Stop):
        segment_bag(damaged, tmp_path / 'out', predictor, BagOptions(file_frames=2), fail)
    with pytest.raises(ValueError, match=r'out\.partial was started with a different input'):
        segment_bag(damaged, tmp_path / 'out', predictor, BagOptions(file_frames=3))
    left_out = []
    outcome = segment_bag(damaged, tmp_path / 'out', predictor, BagOptions(file_frames=2),
                          left_out.append)
    assert (outcome.frames, outcome.left_out, outcome.resumed) == (6, 1, 4)
    assert '/front/image_raw' in str(left_out[0]) and 'but data has 100' in str(left_out[0])
    assert len(messages(tmp_path / 'out', '/front/image_raw')) == 7


def _copy(bag, out, *empty_topics, qos=()):
    """Copy a bag of images, offered with this quality of service, and add empty image topics."""
    with Writer(out, version=9, storage_plugin=StoragePlugin.MCAP) as writer:
        images = writer.add_connection('/front/image_raw', IMAGE, typestore=TYPES,
                                       offered_qos_profiles=qos)
        for name in empty_topics:
            writer.add_connection(name, IMAGE, typestore=TYPES)
        for message in read_messages(bag):
            writer.write(images, message.record_ns, message.cdr)


def _copy_with_damage(bag, out, at):
    """Copy a bag of images, and truncate the data of the image at index `at`."""
    with Writer(out, version=9, storage_plugin=StoragePlugin.MCAP) as writer:
        connection = writer.add_connection('/front/image_raw', IMAGE, typestore=TYPES)
        for index, message in enumerate(read_messages(bag)):
            msg = TYPES.deserialize_cdr(message.cdr, IMAGE)
            if index == at:
                msg = replace(msg, data=msg.data[:100])
            writer.write(connection, message.record_ns, TYPES.serialize_cdr(msg, IMAGE))


def test_a_partial_bag_goes_on_with_its_own_source_and_precision_only(bag, tmp_path, weights,
                                                                      predictor, monkeypatch):
    write_bag(drive(5), tmp_path / 'another' / 'in', '/front/image_raw')
    with monkeypatch.context() as patch:
        patch.setattr(SplitBag, 'complete', MagicMock(side_effect=Stop))
        with pytest.raises(Stop):
            segment_bag(bag, tmp_path / 'out', predictor)
    for source, model in ((tmp_path / 'another' / 'in', predictor),
                          (bag, Predictor(weights, 'cpu', 'bfloat16'))):
        with pytest.raises(ValueError, match=r'out\.partial was started with a different input'):
            segment_bag(source, tmp_path / 'out', model)
    assert segment_bag(bag, tmp_path / 'out', predictor).resumed == 7


def test_a_bag_whose_images_are_all_damaged_is_not_segmented(tmp_path, weights, capsys):
    write_bag(drive(1), tmp_path / 'one', '/front/image_raw')
    _copy_with_damage(tmp_path / 'one', tmp_path / 'in', at=0)
    assert run(tmp_path / 'in', tmp_path / 'out', weights) == 1
    assert 'in: none of its images could be read' in capsys.readouterr().err
    assert not (tmp_path / 'out').exists()


def test_two_bags_of_one_name_are_refused(folder, tmp_path, weights, capsys):
    shutil.copy(next((folder / 'b0.x').glob('*.mcap')), folder / 'b0.x.mcap')
    assert run(folder, tmp_path / 'out', weights) == 1
    assert 'two of its bags have the same name' in capsys.readouterr().err


def test_what_an_earlier_run_left_unfinished_is_no_bag_to_segment(folder, tmp_path, weights):
    shutil.copytree(folder / 'b0.x', folder / 'b2.partial')
    jobs = find_jobs(folder, tmp_path / 'out', {'weights': str(weights)}, BagOptions())
    assert [job.source.name for job in jobs] == ['b0.x', 'b1.x']


def test_a_bag_of_several_files_is_no_folder_of_bags(bag, tmp_path, predictor):
    segment_bag(bag, tmp_path / 'split', predictor, BagOptions(file_frames=3))
    assert not is_folder_of_bags(tmp_path / 'split') and is_folder_of_bags(tmp_path)
    (bag / 'metadata.yaml').unlink()  # a crash
    assert not is_folder_of_bags(bag)


def test_ray_sends_nothing_to_its_developers(monkeypatch):
    told = []
    monkeypatch.setitem(sys.modules, 'ray', SimpleNamespace(
        init=lambda **_: told.append(os.environ.get('RAY_USAGE_STATS_ENABLED'))))
    monkeypatch.setattr(os, 'environ', {})
    bag_folder._start_ray()
    os.environ['RAY_USAGE_STATS_ENABLED'] = '1'  # who wants to may
    bag_folder._start_ray()
    assert told == ['0', '1']


def test_what_is_complete_stays_and_what_is_foreign_is_refused(bag, tmp_path, predictor):
    segment_bag(bag, tmp_path / 'out', predictor)
    before = contents(tmp_path / 'out')
    assert segment_bag(bag, tmp_path / 'out', predictor).resumed == 7
    with pytest.raises(ValueError, match='already exists'):
        segment_bag(bag, tmp_path / 'out', predictor, BagOptions(('mask',)))
    assert contents(tmp_path / 'out') == before
    with pytest.raises(ValueError, match='already exists'):
        segment_bag(bag, bag, predictor)
    (tmp_path / 'link').symlink_to('nowhere')
    with pytest.raises(ValueError, match='link already exists'):
        segment_bag(bag, tmp_path / 'link', predictor)


def test_weights_that_were_trained_anew_make_another_bag(bag, tmp_path, predictor, weights):
    segment_bag(bag, tmp_path / 'out', predictor)
    (tmp_path / 'new').mkdir()
    new = write_small_checkpoint(tmp_path / 'new' / Path(weights).name, 1 / 8, SIZE)
    with pytest.raises(ValueError, match='already exists'):
        segment_bag(bag, tmp_path / 'out', Predictor(new, 'cpu', 'float32'))


def test_two_writers_do_not_meet(bag, tmp_path, predictor):
    write_bag(drive(2), tmp_path / 'other')
    damaged = tmp_path / 'damaged' / 'in'
    _copy_with_damage(bag, damaged, at=3)

    def meanwhile(error):
        with pytest.raises(ValueError, match='another process is writing to it'):
            segment_bag(tmp_path / 'other', tmp_path / 'out', predictor)
    assert segment_bag(damaged, tmp_path / 'out', predictor, on_error=meanwhile).frames == 6


def test_a_folder_that_cannot_be_locked_is_written(bag, tmp_path, predictor, monkeypatch):
    def refuse(*_):  # as NFS does, which locks only files
        raise OSError(errno.EBADF, 'Bad file descriptor')
    monkeypatch.setattr(fcntl, 'flock', refuse)
    assert segment_bag(bag, tmp_path / 'out', predictor).is_whole


@pytest.fixture
def mixed(tmp_path):
    """Return a bag of two cameras of different sizes, depth, old results and a foreign type."""
    path = tmp_path / 'mixed'
    with Writer(path, version=9, storage_plugin=StoragePlugin.MCAP) as writer:
        def topic(name, type_name):
            return writer.add_connection(name, type_name, typestore=STORE)
        left, right = topic('/left/image_raw', IMAGE), topic('/right/image/compressed', COMPRESSED)
        depth, old = topic('/depth/image', IMAGE), topic('/old/segmentation/mask', IMAGE)
        car = topic('/car', 'own_msgs/msg/Car')
        header = make_header(1_000_000_002, 'cam')
        raw, own = STORE.types[IMAGE], STORE.types['own_msgs/msg/Car']
        tyre = STORE.types['own_msgs/msg/Tyre']
        write_bag(drive(4, (32, 96)), tmp_path / 'right', '/r', image_format='png')
        pictures = [m.cdr for m in read_messages(tmp_path / 'right')]
        for index, frame in enumerate(drive(4)):
            data = frame.image.reshape(-1)
            for connection, msg in (
                    (car, own(1.5, [tyre('a'), tyre('b')])),
                    (left, raw(header, *SIZE, 'rgb8', 0, 3 * SIZE[1], data)),
                    (depth, raw(header, 2, 2, '16UC1', 0, 4, np.zeros(8, np.uint8))),
                    (old, raw(header, *SIZE, 'mono8', 0, SIZE[1], data[:SIZE[0] * SIZE[1]]))):
                writer.write(connection, index, STORE.serialize_cdr(msg, connection.msgtype))
            writer.write(right, index, pictures[index])
    return path


def test_cameras_of_different_sizes_and_all_that_is_beside_them(mixed, tmp_path, predictor):
    outcome = segment_bag(mixed, tmp_path / 'out', predictor, BagOptions(file_frames=3))
    assert (outcome.frames, outcome.left_out) == (8, 0)
    results = {m.topic for m in read_messages(tmp_path / 'out')} \
        - {m.topic for m in read_messages(mixed)}
    assert results == {f'/{side}/segmentation/{name}' for side in ('left', 'right')
                       for name in ('mask', 'statistics', 'label_info')}
    for side, size in (('left', SIZE), ('right', (32, 96))):
        for _, msg in messages(tmp_path / 'out', f'/{side}/segmentation/mask'):
            assert (msg.height, msg.width) == size
    copied = [m for m in read_messages(tmp_path / 'out') if m.topic not in results]
    assert copied == list(read_messages(mixed))
    assert messages(tmp_path / 'out', '/car')[0][1].rest[1].name == 'b'
    with Reader(mixed) as old, Reader(tmp_path / 'out') as new:
        definitions = {c.topic: (c.msgdef, c.digest) for c in new.connections}
        assert all(definitions[c.topic] == (c.msgdef, c.digest) for c in old.connections)


def test_topics_chosen_and_results_only(mixed, tmp_path, predictor):
    options = BagOptions(('mask',), ('/left/image_raw',), results_only=True)
    assert segment_bag(mixed, tmp_path / 'out', predictor, options).frames == 4
    assert [t.name for t in bag_topics(tmp_path / 'out')] \
        == ['/left/segmentation/label_info', '/left/segmentation/mask']
    with pytest.raises(ValueError, match='has no image topic /car; image topics there: /depth'):
        segment_bag(mixed, tmp_path / 'other', predictor, BagOptions(topics=('/car',)))


def test_a_camera_of_an_encoding_that_is_not_known_is_named(tmp_path, weights, capsys):
    image = next(drive(1)).image
    header = make_header(1_000_000_002, 'cam')
    with Writer(tmp_path / 'in', version=9, storage_plugin=StoragePlugin.MCAP) as writer:
        for encoding in ('rgb8', '8UC3', '32FC1', 'cmyk8', '16UC3'):
            camera = writer.add_connection(f'/{encoding}/image', IMAGE, typestore=TYPES)
            msg = TYPES.types[IMAGE](header, *SIZE, encoding, 0, 3 * SIZE[1], image.reshape(-1))
            writer.write(camera, 1, TYPES.serialize_cdr(msg, IMAGE))
        depth = writer.add_connection('/depth/image/compressed', COMPRESSED, typestore=TYPES)
        msg = TYPES.types[COMPRESSED](header, '16UC1; png compressed ', np.zeros(9, np.uint8))
        writer.write(depth, 1, TYPES.serialize_cdr(msg, COMPRESSED))
    for _ in range(2):  # the second run finds it complete, and reports the same
        assert run(tmp_path / 'in', tmp_path / 'out', weights, '--write', 'mask') == 3
        told = capsys.readouterr()
        left_out = [line for line in told.err.splitlines() if 'left out' in line]
        assert len(left_out) == 2
        for encoding, line in zip(('16UC3', 'cmyk8'), left_out, strict=True):
            assert f"/{encoding}/image: encoding '{encoding}' is not" in line
        assert '2 images segmented' in told.out
    assert {t.name for t in bag_topics(tmp_path / 'out') if t.name.endswith('mask')} \
        == {'/rgb8/segmentation/mask', '/8UC3/segmentation/mask'}
    errors = []
    assert not list(open_frames(tmp_path / 'in', topic='/depth/image/compressed',
                                on_error=errors.append))
    assert 'depth image' in str(errors[0])


def test_why_no_camera_can_be_read_is_told(tmp_path, weights, capsys):
    header = make_header(1_000_000_002, 'cam')
    with Writer(tmp_path / 'in', version=9, storage_plugin=StoragePlugin.MCAP) as writer:
        camera = writer.add_connection('/image', IMAGE, typestore=TYPES)
        msg = TYPES.types[IMAGE](header, 2, 2, 'cmyk8', 0, 8, np.zeros(16, np.uint8))
        writer.write(camera, 1, TYPES.serialize_cdr(msg, IMAGE))
    assert run(tmp_path / 'in', tmp_path / 'out', weights) == 1
    assert "/image: encoding 'cmyk8' is not supported" in capsys.readouterr().err


def test_results_there_already_are_refused(bag, tmp_path, predictor):
    segment_bag(bag, tmp_path / 'out', predictor)
    with pytest.raises(ValueError, match='/front/segmentation/mask'):
        segment_bag(tmp_path / 'out', tmp_path / 'again', predictor)
    again = segment_bag(tmp_path / 'out', tmp_path / 'again', predictor,
                        BagOptions(results_only=True))
    assert again.frames == 7


@pytest.mark.parametrize(('topics', 'prefixes'), [
    (['/image'], ['']),
    (['/image/compressed'], ['']),
    (['/camera/image_raw', '/rear/image'], ['/camera', '/rear']),
    (['/camera/left', '/camera/right', '/rear/image'],
     ['/camera/left', '/camera/right', '/rear']),
    (['/image', '/image/compressed'], ['/image', '/image/compressed']),
    (['/image', '/image_raw', '/image/seen'], ['/image', '/image_raw', '/image/seen']),
    (['/a/b', '/a/c', '/a/b/d', '/e/f'], ['/a/b', '/a/c', '/a/b/d', '/e/f']),
])
def test_prefixes(topics, prefixes):
    assert list(result_prefixes(topics).values()) == [p + '/segmentation' for p in prefixes]


def test_one_file_without_its_folder(bag, tmp_path, predictor):
    assert segment_bag(next(bag.glob('*.mcap')), tmp_path / 'out', predictor).frames == 7
    assert len(messages(tmp_path / 'out', '/front/segmentation/mask')) == 7


@pytest.fixture
def folder(tmp_path):
    for number, count in enumerate((3, 5)):
        write_bag(islice(drive(9), number, number + count), tmp_path / 'bags' / f'b{number}.x')
    return tmp_path / 'bags'


@pytest.fixture
def reference(folder, tmp_path, predictor):
    """Return the bytes of the folder's bags, each segmented by itself."""
    for name in ('b0.x', 'b1.x'):
        segment_bag(folder / name, tmp_path / 'reference' / name, predictor)
    return contents(tmp_path / 'reference')


def test_a_folder_of_bags_with_a_broken_one(folder, reference, tmp_path, weights, capsys):
    (folder / 'broken.mcap').write_bytes(b'no bag')
    assert run(folder, tmp_path / 'out', weights) == 3
    assert contents(tmp_path / 'out') == reference
    assert 'broken.mcap cannot be read' in capsys.readouterr().err
    assert run(folder, tmp_path / 'out', weights) == 3
    assert '3 images segmented, 3 of them by an earlier run' in capsys.readouterr().out


def test_a_folder_with_a_broken_image_is_not_whole_at_a_second_run_either(bag, tmp_path, weights):
    _copy_with_damage(bag, tmp_path / 'bags' / 'b0', at=3)
    assert [run(tmp_path / 'bags', tmp_path / 'out', weights) for _ in range(2)] == [3, 3]


def test_a_folder_of_bags_through_ray(folder, reference, tmp_path, weights):
    model = {'weights': str(weights), 'device': 'cpu', 'precision': 'float32'}
    jobs = find_jobs(folder, tmp_path / 'out', model, BagOptions())
    reports = list(segment_bags(jobs, workers=2))
    assert [report.errors for report in reports] == [[], []]
    assert sorted(report.outcome.frames for report in reports) == [3, 5]
    assert contents(tmp_path / 'out') == reference


def test_jobs_find_their_weights_from_any_folder(folder, tmp_path, weights, monkeypatch):
    monkeypatch.chdir(Path(weights).parent)
    for given, found in ((Path(weights).name, weights), ('segnet_half_camvid11',) * 2):
        jobs = find_jobs(folder, tmp_path / 'out', {'weights': given}, BagOptions())
        assert {job.model['weights'] for job in jobs} == {found}


def test_what_the_command_refuses(bag, tmp_path, weights, monkeypatch, capsys):
    out, empty = tmp_path / 'out', tmp_path / 'empty'
    empty.mkdir()
    for source, target, words in ((tmp_path / 'no', out, 'does not exist'), (
            bag, bag, 'already exists'), (bag, '/', '/ already exists'), (
            empty, out, 'is not a rosbag2 and contains none')):
        assert run(source, target, weights) == 1
        assert words in capsys.readouterr().err
    monkeypatch.setitem(sys.modules, 'ray', None)
    assert run(tmp_path, out, weights, '--workers', 2) == 1
    assert f"{install_extra('ray')}, or" in capsys.readouterr().err


def test_images_decode_to_what_was_recorded(bag):
    """The comparisons above rely on this."""
    for message, frame in zip(read_messages(bag), drive(7), strict=True):
        np.testing.assert_array_equal(decode_message(message)[2], frame.image)


def message(topic, size=10):
    return RawMessage(topic, '', 0, bytes(size))


@pytest.mark.parametrize('others', [0, 1, 20])
def test_images_are_decoded_ahead_whatever_lies_between_them(monkeypatch, others):
    monkeypatch.setattr(bag_segmentation, 'decode_message', lambda message: message)
    messages = [m for _ in range(30) for m in (message('image'), *[message('imu')] * others)]
    begun, done = [], []
    pool = SimpleNamespace(submit=lambda function, m: begun.append(m) or m)
    for got, image in bag_segmentation._decode_ahead(messages, {'image'}, pool):
        done.append(got)
        if image is not None and len(begun) < 30:
            seen = sum(m.topic == 'image' for m in done)
            assert len(begun) == seen + bag_segmentation.DECODED_AHEAD
    assert done == messages


def test_what_lies_ahead_has_a_bound(monkeypatch):
    monkeypatch.setattr(bag_segmentation, 'BYTES_AHEAD', 10 * (90 + bag_segmentation.OVERHEAD))
    read = []
    messages = (read.append(1) or message('lidar', 90) for _ in range(100))
    ahead = bag_segmentation._decode_ahead(messages, {'image'}, None)
    for number in range(1, 80):
        next(ahead)
        assert len(read) - number == 10


def test_damage_ends_a_bag_and_what_was_read_is_kept(bag, tmp_path, weights, capsys):
    metadata = bag / 'metadata.yaml'
    metadata.write_text(metadata.read_text().replace('message_count: 7', 'message_count: 9'))
    assert run(bag, tmp_path / 'out', weights) == 3
    said = capsys.readouterr()
    assert '2 of /front/image_raw' in said.err
    assert '7 images segmented, 0 could not be read, of a damaged bag' in said.out
    assert len(messages(tmp_path / 'out', '/front/segmentation/mask')) == 7
    assert run(bag, tmp_path / 'out', weights) == 3  # finding it done does not make it whole
    assert '7 of them by an earlier run, 0 could not be read, of a damaged' in (
        capsys.readouterr().out)


def test_a_camera_left_out_is_remembered(bag, tmp_path, predictor):
    with Writer(tmp_path / 'two', version=9, storage_plugin=StoragePlugin.MCAP) as writer:
        good = writer.add_connection('/front/image_raw', IMAGE, typestore=TYPES)
        odd = writer.add_connection('/odd', IMAGE, typestore=TYPES)
        for message in read_messages(bag):
            writer.write(good, message.record_ns, message.cdr)
        msg = TYPES.types[IMAGE](make_header(1, ''), 1, 1, 'lab8', 0, 3, np.zeros(3, np.uint8))
        writer.write(odd, message.record_ns, TYPES.serialize_cdr(msg, IMAGE))
    for _ in range(2):
        outcome = segment_bag(tmp_path / 'two', tmp_path / 'out', predictor)
        assert (outcome.frames, outcome.cameras_left_out, outcome.is_whole) == (7, 1, False)


def test_images_left_out_at_the_end_are_remembered(bag, tmp_path, predictor):
    _copy_with_damage(bag, tmp_path / 'damaged', at=6)
    options = BagOptions(results_only=True, file_frames=3)
    for resumed in (0, 6):
        outcome = segment_bag(tmp_path / 'damaged', tmp_path / 'out', predictor, options)
        assert (outcome.frames, outcome.left_out, outcome.resumed) == (6, 1, resumed)
        assert not outcome.is_whole


def test_a_camera_that_lost_its_images_is_not_the_others_trouble(bag, tmp_path, predictor):
    _copy(bag, tmp_path / 'two', '/gone')
    metadata = tmp_path / 'two' / 'metadata.yaml'
    metadata.write_text(metadata.read_text().replace('message_count: 0', 'message_count: 2'))
    errors = []
    outcome = segment_bag(tmp_path / 'two', tmp_path / 'out', predictor, on_error=errors.append)
    assert (outcome.frames, outcome.damaged) == (7, True) and '2 of /gone' in str(errors[0])


def test_topics_without_images_have_no_results(bag, tmp_path, predictor):
    _copy(bag, tmp_path / 'two', '/off/image_raw')
    segment_bag(tmp_path / 'two', tmp_path / 'out', predictor)
    assert [t.name for t in bag_topics(tmp_path / 'out') if t.name.startswith('/off')] == [
        '/off/image_raw']


def test_a_camera_is_known_by_its_first_image_that_is_one(tmp_path):
    empty = TYPES.types[IMAGE](make_header(0, ''), 0, 0, '', 0, 0, np.zeros(0, np.uint8))
    images = {name: TYPES.types[IMAGE](make_header(1, ''), 1, 1, encoding, 0, step,
                                       np.zeros(step, np.uint8))
              for name, encoding, step in (('/color', 'rgb8', 3), ('/depth', '16UC1', 2))}
    with Writer(tmp_path / 'bag', version=9, storage_plugin=StoragePlugin.MCAP) as writer:
        for name, image in images.items():
            connection = writer.add_connection(name, IMAGE, typestore=TYPES)
            writer.write(connection, 0, b'\0\1\0\0')  # damaged
            writer.write(connection, 1, TYPES.serialize_cdr(empty, IMAGE))  # the driver starts
            writer.write(connection, 2, TYPES.serialize_cdr(image, IMAGE))
    topics, errors = camera_topics(tmp_path / 'bag')
    assert [topic.name for topic in topics] == ['/color'] and not errors


def test_images_left_out_are_not_among_those_segmented_before(bag, tmp_path, predictor,
                                                              monkeypatch):
    _copy_with_damage(bag, tmp_path / 'damaged', at=1)
    options = BagOptions(file_frames=3)
    with monkeypatch.context() as patch:
        patch.setattr(bag_segmentation.SplitBag, 'complete', MagicMock(side_effect=Stop))
        with pytest.raises(Stop):
            segment_bag(tmp_path / 'damaged', tmp_path / 'out', predictor, options)
    outcome = segment_bag(tmp_path / 'damaged', tmp_path / 'out', predictor, options)
    assert (outcome.frames, outcome.left_out, outcome.resumed) == (6, 1, 6)


def test_ctrl_c_twice_amid_a_decoder_ends_it_without_a_word(bag, tmp_path, weights):
    """Python would abort, were a thread still within OpenCV when it ends."""
    code = """if True:
        import os, signal, sys
        import cv2, numpy as np
        from segnet_ros.bags import segmentation
        from segnet_ros.tools.cli import main

        def decode(_):
            for _ in range(8):
                os.kill(os.getpid(), signal.SIGINT)
                cv2.GaussianBlur(np.zeros((1000, 1000, 3), np.uint8), (0, 0), 30)
            raise ValueError('nothing')
        segmentation.decode_message = decode
        sys.exit(main(['segment-bag', *sys.argv[1:]]))"""
    ended = subprocess.run(
        [sys.executable, '-c', code, bag, tmp_path / 'out', '--weights', weights, '--device',
         'cpu'], capture_output=True, text=True, timeout=60)
    assert ended.returncode == 130 and 'Traceback' not in ended.stderr, ended.stderr
    assert 'terminate' not in ended.stderr


def test_a_topic_that_is_named_twice_is_one(bag, tmp_path, predictor):
    options = BagOptions(topics=('/front/image_raw',) * 2)
    assert segment_bag(bag, tmp_path / 'out', predictor, options).frames == 7
    assert len(messages(tmp_path / 'out', '/front/segmentation/mask')) == 7


def test_the_command_writes_the_storage_and_topics_asked_for(bag, tmp_path, weights):
    out = tmp_path / 'out'
    assert run(bag, out, weights, '--results-only', '--storage', 'sqlite3', '--write', 'mask') == 0
    assert not list(out.glob('*.mcap')) and list(out.glob('*.db3'))
    assert [topic.name for topic in bag_topics(out)] == [
        '/front/segmentation/label_info', '/front/segmentation/mask']


def test_a_result_that_is_asked_for_twice_is_one(bag, tmp_path, weights):
    assert run(bag, tmp_path / 'out', weights, '--write', 'mask', 'mask') == 0
    assert len(messages(tmp_path / 'out', '/front/segmentation/mask')) == 7


@pytest.mark.parametrize('content', [
    b'', b'\xff', b'[', b'{}', b'rosbag2_bagfile_information:\n  versio',
    b'rosbag2_bagfile_information:\n  version: 9'])
def test_a_part_that_a_power_cut_left_empty_is_done_again(bag, tmp_path, predictor,
                                                          content):
    options = BagOptions(file_frames=3)

    def fail(error):
        raise Stop
    _copy_with_damage(bag, tmp_path / 'damaged' / 'in', at=6)
    with pytest.raises(Stop):
        segment_bag(tmp_path / 'damaged' / 'in', tmp_path / 'cut' / 'out', predictor, options,
                    fail)
    part = tmp_path / 'cut' / 'out.partial' / 'out_1.part.yaml'
    assert part.exists()
    part.write_bytes(content)
    outcome = segment_bag(tmp_path / 'damaged' / 'in', tmp_path / 'cut' / 'out', predictor,
                          options)
    assert (outcome.frames, outcome.left_out, outcome.resumed) == (6, 1, 3)


def test_a_full_disk_is_told_in_one_line(bag, tmp_path, weights, monkeypatch, capsys):
    def full(*_):
        raise sqlite3.OperationalError('database or disk is full')
    monkeypatch.setattr('rosbags.rosbag2.writer.Writer.write', full)
    for arguments in (['segment-bag', str(bag), str(tmp_path / 'out'), '--weights', str(weights),
                       '--device', 'cpu'], ['record-bag', str(bag), str(tmp_path / 'out')]):
        assert main([*arguments, '--storage', 'sqlite3']) == 1
        assert f'{tmp_path}/out' in (told := capsys.readouterr().err.splitlines()[-1])
        assert told.endswith(': database or disk is full')


def test_a_disk_too_full_to_abort_does_not_hide_why(bag, tmp_path, predictor, monkeypatch):
    for step, trouble in (('write', 'first'), ('abort', 'second')):
        monkeypatch.setattr(f'rosbags.rosbag2.writer.Writer.{step}', MagicMock(
            side_effect=OSError(errno.ENOSPC, trouble)))
    with pytest.raises(OSError, match='first') as failed:
        segment_bag(bag, tmp_path / 'out', predictor)
    assert failed.value.filename == str(tmp_path / 'out.partial')


def test_one_bag_s_trouble_of_any_kind_is_not_the_others(folder, reference, tmp_path, weights,
                                                         monkeypatch, capsys):
    real = bag_folder.segment_bag

    def segment(source, *arguments):
        if source.name == 'b2':
            raise RuntimeError('CUDA out of memory')
        return real(source, *arguments)
    monkeypatch.setattr(bag_folder, 'segment_bag', segment)
    built = []
    monkeypatch.setattr(bag_folder, 'Predictor',
                        lambda **model: built.append(1) or Predictor(**model))
    bag_folder._predictor.cache_clear()
    shutil.copytree(folder / 'b0.x', folder / 'b2')
    assert run(folder, tmp_path / 'out', weights) == 3
    assert f'{folder}/b2: RuntimeError: CUDA out of memory' in capsys.readouterr().err
    assert contents(tmp_path / 'out') == reference
    assert len(built) == 1, 'one network for all'


def test_a_folder_s_results_go_elsewhere_and_its_weights_are_looked_for_first(folder, tmp_path,
                                                                              weights, capsys):
    assert run(folder, folder, weights) == 1
    assert 'write the new bags to a different folder' in capsys.readouterr().err
    (tmp_path / 'loop').symlink_to('loop')
    assert run(folder, tmp_path / 'loop', weights) == 1
    assert 'Too many levels of symbolic links' in capsys.readouterr().err
    assert run(folder, tmp_path / 'out', 'nosuch') == 1
    assert capsys.readouterr().err.count('nosuch') == 1


def test_which_bag_an_image_was_of_is_told(bag, tmp_path, weights, capsys):
    for name in ('one', 'two'):
        _copy_with_damage(bag, tmp_path / 'bags' / name, at=3)
    assert run(tmp_path / 'bags', tmp_path / 'out', weights) == 3
    told = capsys.readouterr().err
    for name in ('one', 'two'):
        assert f'left out: {tmp_path}/bags/{name}: /front/image_raw, message at time' in told


def test_no_task_of_ray_asks_for_more_than_a_machine_has(monkeypatch):
    asked = {}

    def remote(**resources):
        asked.update(resources)
        return lambda function: SimpleNamespace(remote=function)
    ray = SimpleNamespace(
        cluster_resources=lambda: {'CPU': 24.0}, remote=remote, shutdown=lambda: None,
        nodes=lambda: [{'Resources': {'CPU': 8.0}}, {'Resources': {'CPU': 16.0}}, {
            'Resources': {}}], wait=lambda running: (running[:1], running[1:]), get=lambda x: x)
    monkeypatch.setattr(bag_folder, '_start_ray', lambda: ray)
    monkeypatch.setattr(bag_folder, 'run_job', lambda job, threads: threads)
    assert list(segment_bags(['job'], workers=2)) == [12]
    assert asked['num_cpus'] == 12
    ray.nodes = lambda: [{'Resources': {'CPU': 8.0}}] * 3
    assert list(segment_bags(['job'], workers=2)) == [8]
    assert asked['num_cpus'] == 8
