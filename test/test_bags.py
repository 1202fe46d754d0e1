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

"""Check that bags round-trip in both storages, and that damage gives one clear error."""

from dataclasses import replace
import errno
import os
import re
import sqlite3
import tracemalloc
from unittest.mock import MagicMock

import cv2
import numpy as np
import pytest
from rosbags.interfaces import Qos, QosDurability, QosHistory, QosLiveliness, QosReliability, \
    QosTime
from rosbags.rosbag2 import CompressionFormat, CompressionMode, StoragePlugin, Writer
import yaml

from segnet_ros.bags.cameras import copied_topics
from segnet_ros.bags.reading import (
    bag_period_ns, bag_topics, COMPRESSED, decode_message, IMAGE, image_topic, is_bag, RawMessage,
    read_messages, TYPES)
from segnet_ros.bags.writing import make_header, write_bag
from segnet_ros.encodings import SUPPORTED_ENCODINGS
from segnet_ros.frames import Frame
from segnet_ros.sources import open_frames

START = 1_700_000_000_999_999_999
HEADER = make_header(12_000_000_005, 'cam')


def recording(count=4, height=35, width=53):
    rng = np.random.default_rng(0)
    small = rng.integers(0, 256, (count, 3, 4, 3), np.uint8)
    images = [cv2.resize(image, (width, height)) for image in small]
    return [Frame(i, START + i * 40_000_000, 'front', str(i), image)
            for i, image in enumerate(images)]


def image_message(encoding, height, width, step, data):
    msg = TYPES.types[IMAGE](HEADER, height, width, encoding, 0, step, data)
    return RawMessage('/image', IMAGE, 0, bytes(TYPES.serialize_cdr(msg, IMAGE)))


@pytest.mark.parametrize('storage', ['mcap', 'sqlite3'])
@pytest.mark.parametrize('image_format', ['raw', 'png', 'jpeg'])
def test_round_trip(tmp_path, storage, image_format):
    frames = recording()
    out = tmp_path / 'bag'
    assert write_bag(frames, out, '/front/image', storage, image_format) == 4
    assert is_bag(out)
    [topic] = bag_topics(out)
    assert (topic.name, topic.count) == ('/front/image', 4)
    assert topic.type_name == (IMAGE if image_format == 'raw' else COMPRESSED)
    assert bag_period_ns(out) == 40_000_000
    [file] = [p for p in out.iterdir() if p.name != 'metadata.yaml']
    assert file.suffix == {'mcap': '.mcap', 'sqlite3': '.db3'}[storage]
    for path in (out, file):
        for frame, message in zip(frames, read_messages(path), strict=True):
            assert message.record_ns == frame.stamp_ns
            stamp_ns, frame_id, image = decode_message(message)
            assert (stamp_ns, frame_id) == (frame.stamp_ns, 'front')
            error = np.abs(image.astype(int) - frame.image)
            assert image.shape == frame.image.shape
            assert error.mean() < 6 if image_format == 'jpeg' else not error.any()


@pytest.mark.parametrize('encoding,step,size,words', [
    ('16UC1', 6, 12, "encoding '16UC1' is not supported; supported are rgb8, "),
    ('rgb8', 8, 18, '3x2 rgb8 image: a row needs at least 9 bytes, but step is 8'),
    ('rgb8', 9, 17, '3x2 rgb8 image: 2 rows of step 9 are 18 bytes, but data has 17'),
])
def test_images_that_cannot_be_read(encoding, step, size, words):
    with pytest.raises(ValueError, match=r'/image, message at time 12\.000: ' + words):
        decode_message(image_message(encoding, 2, 3, step, np.zeros(size, np.uint8)))


def test_a_bag_s_images_look_as_the_node_sees_them():
    conversions = pytest.importorskip('segnet_ros.ros.conversions')
    messages = pytest.importorskip('sensor_msgs.msg')
    data = np.random.default_rng(0).integers(0, 256, 3000, np.uint8)
    for encoding in SUPPORTED_ENCODINGS:
        fields = {'encoding': encoding, 'height': 7, 'width': 9, 'step': 80}
        expected = conversions.image_from_message(messages.Image(data=data.tobytes(), **fields))
        _, _, found = decode_message(image_message(encoding, 7, 9, 80, data))
        np.testing.assert_array_equal(found, expected, encoding)


def test_nothing_is_overwritten(tmp_path):
    out = tmp_path / 'bag'
    write_bag(recording(1), out)
    before = (out / 'bag.mcap').read_bytes()
    with pytest.raises(ValueError, match='already exists'):
        write_bag(recording(2), out)
    assert (out / 'bag.mcap').read_bytes() == before


def test_what_failed_is_removed(tmp_path):
    def failing():
        yield from recording(2)
        raise KeyboardInterrupt
    with pytest.raises(KeyboardInterrupt):
        write_bag(failing(), tmp_path / 'bag')
    with pytest.raises(ValueError, match='no frames'):
        write_bag([], tmp_path / 'bag')
    with pytest.raises(ValueError, match="'zip' is not one of mcap, sqlite3"):
        write_bag(recording(1), tmp_path / 'bag', storage='zip')
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize('step', ['open', 'close'])
def test_a_full_disk_is_told_with_the_bag(tmp_path, monkeypatch, step):
    monkeypatch.setattr(Writer, step, MagicMock(
        side_effect=sqlite3.OperationalError('database or disk is full')))
    with pytest.raises(OSError, match='database or disk is full') as failed:
        write_bag(recording(1), tmp_path / 'bag', storage='sqlite3')
    assert failed.value.filename == str(tmp_path / 'bag') and not (tmp_path / 'bag').exists()


def write_strings(path, topics):
    """Write two messages per topic, out of order: in time, each 'first' precedes each 'second'."""
    with Writer(path, version=9, storage_plugin=StoragePlugin.MCAP) as writer:
        for place, (topic, type_name) in enumerate(topics):
            connection = writer.add_connection(topic, type_name, typestore=TYPES)
            writer.write(connection, 200 + place, b'\0\1\0\0second' + bytes([place]))
            writer.write(connection, 100 + place, b'\0\1\0\0first' + bytes([place]))


def test_messages_come_in_order_of_time_as_they_are(tmp_path):
    write_strings(tmp_path / 'bag', [('/a', 'std_msgs/msg/String'), ('/b', IMAGE)])
    found = list(read_messages(tmp_path / 'bag'))
    assert [(m.topic, m.record_ns, m.cdr[4:]) for m in found] == [
        ('/a', 100, b'first\0'), ('/b', 101, b'first\1'),
        ('/a', 200, b'second\0'), ('/b', 201, b'second\1')]
    assert all(type(m.cdr) is bytes for m in found)
    assert [m.topic for m in read_messages(tmp_path / 'bag', ['/b'])] == ['/b', '/b']
    assert list(read_messages(tmp_path / 'bag', ['/c'])) == []


def test_image_topic_is_chosen_or_asked_for(tmp_path):
    write_strings(tmp_path / 'none', [('/a', 'std_msgs/msg/String')])
    write_strings(tmp_path / 'one', [('/a', 'std_msgs/msg/String'), ('/b', IMAGE)])
    write_strings(tmp_path / 'two', [('/front', IMAGE), ('/rear', COMPRESSED)])
    with Writer(tmp_path / 'silent', version=9, storage_plugin=StoragePlugin.MCAP) as writer:
        writer.add_connection('/silent', IMAGE, typestore=TYPES)
        heard = writer.add_connection('/heard', IMAGE, typestore=TYPES)
        writer.write(heard, 0, b'')
    assert image_topic(tmp_path / 'silent').name == '/heard'
    assert image_topic(tmp_path / 'one').name == '/b'
    assert image_topic(tmp_path / 'two', '/rear').name == '/rear'
    for bag, topic, words in (('none', None, 'holds no images'), ('one', '/c', "no .*'/c'.*/b"),
                              ('two', None, 'choose one with --topic: /front .*, /rear ')):
        with pytest.raises(ValueError, match=words):
            image_topic(tmp_path / bag, topic)
    with pytest.raises(ValueError, match='choose one with --camera: /front'):
        image_topic(tmp_path / 'two', option='--camera')


def test_after_a_crash(tmp_path):
    out = tmp_path / 'bag'
    write_bag(recording(), out)
    (out / 'metadata.yaml').unlink()
    assert is_bag(out) and len(list(read_messages(out))) == 4
    (out / 'bag2.mcap').write_bytes((out / 'bag.mcap').read_bytes())
    with pytest.raises(ValueError, match='2 bag files.*reindex'):
        bag_topics(out)
    # Compressed by file, all but the last one.
    (out / 'bag2.mcap').rename(out / 'bag2.mcap.zstd')
    with pytest.raises(ValueError, match='2 bag files.*unpack'):
        bag_topics(out)
    (out / 'bag.mcap').unlink()
    for path in (out, out / 'bag2.mcap.zstd'):
        assert is_bag(path)
        with pytest.raises(ValueError, match='bag2.mcap.zstd is compressed; .* zstd -d'):
            bag_topics(path)


@pytest.mark.parametrize('storage', list(StoragePlugin))
def test_messages_that_only_the_lost_metadata_call_compressed(tmp_path, storage):
    writer = Writer(tmp_path / 'bag', version=9, storage_plugin=storage)
    writer.set_compression(CompressionMode.MESSAGE, CompressionFormat.ZSTD)
    message = image_message('rgb8', 2, 2, 6, np.arange(12, dtype=np.uint8))
    with writer:
        connection = writer.add_connection('/image', IMAGE, typestore=TYPES)
        writer.write(connection, 0, message.cdr)
    assert list(read_messages(tmp_path / 'bag')) == [message]
    (tmp_path / 'bag' / 'metadata.yaml').unlink()
    assert list(read_messages(tmp_path / 'bag')) == [message]


def test_a_bag_that_does_not_fit_where_it_is_unpacked_says_where(tmp_path, monkeypatch):
    writer = Writer(tmp_path / 'bag', version=9, storage_plugin=StoragePlugin.MCAP)
    writer.set_compression(CompressionMode.FILE, CompressionFormat.ZSTD)
    with writer:
        writer.add_connection('/image', IMAGE, typestore=TYPES)
    assert bag_topics(tmp_path / 'bag')
    monkeypatch.setattr('shutil.copyfileobj', MagicMock(
        side_effect=OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))))
    with pytest.raises(OSError, match='no space is left to unpack it in .*; set TMPDIR') as failed:
        bag_topics(tmp_path / 'bag')
    assert failed.value.filename == str(tmp_path / 'bag')


def test_which_file_of_a_bag_is_damaged_is_told(tmp_path):
    write_bag(recording(), tmp_path / 'bag')
    whole = (tmp_path / 'bag' / 'bag.mcap').read_bytes()
    (tmp_path / 'bag' / 'bag_1.mcap').write_bytes(whole[:len(whole) * 2 // 3])
    metadata = tmp_path / 'bag' / 'metadata.yaml'
    metadata.write_text(metadata.read_text().replace('- bag.mcap', '- bag.mcap\n  - bag_1.mcap'))
    with pytest.raises(ValueError, match='; damaged: bag_1.mcap; its other files can be read one '
                                         'by one, by their names; `mcap recover` may'):
        bag_topics(tmp_path / 'bag')
    (tmp_path / 'bag' / 'bag_1.mcap').unlink()
    with pytest.raises(ValueError, match='missing.*; its other files .* by their names$'):
        bag_topics(tmp_path / 'bag')
    assert len(list(read_messages(tmp_path / 'bag' / 'bag.mcap'))) == 4


@pytest.mark.parametrize('storage,name', [('mcap', 'bag.mcap'), ('sqlite3', 'bag.db3')])
def test_damage_is_told(tmp_path, storage, name):
    out = tmp_path / 'bag'
    write_bag(recording(), out, storage=storage)
    file = out / name
    whole = file.read_bytes()
    for damaged in (whole[:len(whole) * 2 // 3], b'?' * 5000, b''):
        file.write_bytes(damaged)
        with pytest.raises(ValueError, match='bag cannot be read as a rosbag2'):
            list(read_messages(out))
    file.unlink()
    with pytest.raises(ValueError, match='missing'):
        bag_topics(out)


@pytest.mark.parametrize('named', ['bag', 'bag/bag.db3'])
def test_definitions_that_rosbags_does_not_know_are_no_damage(tmp_path, named):
    """As rosbag2 leaves them for the hidden topics of actions."""
    write_bag(recording(), tmp_path / 'bag', storage='sqlite3')
    with sqlite3.connect(tmp_path / 'bag' / 'bag.db3') as database:
        database.execute("UPDATE message_definitions SET encoding = ''")
    with pytest.raises(ValueError, match="definition of encoding ''") as caught:
        bag_topics(tmp_path / named)
    assert 'damage' not in str(caught.value)
    command = re.search(r"sqlite3 FILE '(.*)'", str(caught.value))[1]
    with sqlite3.connect(tmp_path / 'bag' / 'bag.db3') as database:
        database.execute(command)
    assert len(list(read_messages(tmp_path / named))) == 4


@pytest.mark.parametrize('definition', ['b_msgs/Lost part\n', 'bool data\n---\nbool success\n'])
def test_a_definition_that_cannot_be_read_is_no_damage(tmp_path, definition):
    with Writer(tmp_path / 'bag', version=9, storage_plugin=StoragePlugin.MCAP) as writer:
        connection = writer.add_connection('/event', 'a_msgs/msg/Whole', msgdef=definition,
                                           rihs01='RIHS01_0')
        writer.write(connection, 0, b'')
    with pytest.raises(ValueError, match='/event cannot be copied .*use --results-only') as caught:
        copied_topics(tmp_path / 'bag' / 'bag.mcap')
    assert 'recover' not in str(caught.value)


def test_topics_of_several_types_have_none(tmp_path):
    write_strings(tmp_path / 'bag', [('/a', 'std_msgs/msg/String'), ('/b', IMAGE),
                                     ('/a', 'std_msgs/msg/Int32')])
    assert [(t.name, t.type_name, t.count) for t in bag_topics(tmp_path / 'bag')] == [
        ('/a', '', 4), ('/b', IMAGE, 2)]


@pytest.mark.parametrize('count', [1, 4])
def test_a_bag_of_one_moment_has_no_period(tmp_path, count):
    write_bag([replace(frame, stamp_ns=START) for frame in recording(count)], tmp_path / 'bag')
    assert bag_period_ns(tmp_path / 'bag') == 10**9


def test_a_damaged_message_is_told():
    whole = image_message('rgb8', 2, 2, 6, np.zeros(12, np.uint8))
    for cdr in (whole.cdr[:30], whole.cdr[:16] + b'\xff' * 8 + whole.cdr[24:]):
        with pytest.raises(ValueError, match='/image: damaged message'):
            decode_message(RawMessage('/image', IMAGE, 0, cdr))
    # In a CDR of this machine's order, the stamp follows four bytes of header.
    never = whole.cdr[:4] + np.array([2**31 - 1, 2**32 - 1], np.uint32).tobytes() + whole.cdr[12:]
    with pytest.raises(ValueError, match='/image: 2147483651294967295 ns is no time'):
        decode_message(RawMessage('/image', IMAGE, 0, never))


def test_what_is_no_bag(tmp_path):
    assert not is_bag(tmp_path) and not is_bag(tmp_path / 'nowhere')


@pytest.mark.parametrize('storage', ['mcap', 'sqlite3'])
def test_constant_memory(tmp_path, storage):
    image = np.zeros((200, 300, 3), np.uint8)
    frames = (Frame(i, i, '', '', image) for i in range(200))  # 36 MB
    tracemalloc.start()
    try:
        write_bag(frames, tmp_path / 'bag', storage=storage)
        assert sum(1 for _ in read_messages(tmp_path / 'bag')) == 200
        assert tracemalloc.get_traced_memory()[1] < 10e6
    finally:
        tracemalloc.stop()


def change_metadata(bag, change):
    """Change a bag's metadata.yaml so that it contradicts the bag's files."""
    path = bag / 'metadata.yaml'
    metadata = yaml.safe_load(path.read_text())
    change(metadata['rosbag2_bagfile_information']['topics_with_message_count'][0])
    path.write_text(yaml.safe_dump(metadata))


@pytest.mark.parametrize('storage', ['mcap', 'sqlite3'])
def test_messages_come_whatever_the_metadata_say_of_their_quality_of_service(tmp_path, storage):
    """Otherwise rosbags would silently skip them all."""
    with Writer(tmp_path / 'bag', version=9, storage_plugin=StoragePlugin[
            storage.upper()]) as writer:
        qos = Qos(QosHistory.KEEP_LAST, 5, QosReliability.BEST_EFFORT, QosDurability.VOLATILE,
                  *[QosTime(9223372036, 854775807)] * 2, QosLiveliness.AUTOMATIC,
                  QosTime(9223372036, 854775807), False)
        connection = writer.add_connection('/image', IMAGE, typestore=TYPES,
                                           offered_qos_profiles=[qos])
        msg = TYPES.types[IMAGE](HEADER, 1, 1, 'mono8', 0, 1, np.zeros(1, np.uint8))
        for time in range(3):
            writer.write(connection, time, TYPES.serialize_cdr(msg, IMAGE))
    assert [topic.is_best_effort for topic in bag_topics(tmp_path / 'bag')] == [True]
    change_metadata(tmp_path / 'bag',
                    lambda topic: topic['topic_metadata'].update(offered_qos_profiles=[]))
    assert [topic.qos for topic in bag_topics(tmp_path / 'bag')] == [[]]
    assert [m.record_ns for m in read_messages(tmp_path / 'bag')] == [0, 1, 2]


def test_messages_that_lack_are_told_after_the_others(tmp_path):
    write_bag(recording(4), tmp_path / 'bag')
    change_metadata(tmp_path / 'bag', lambda topic: topic.update(message_count=6))
    times = []
    with pytest.raises(ValueError, match='bag: its metadata lists more .*: 2 of /image; '):
        times.extend(message.record_ns for message in read_messages(tmp_path / 'bag'))
    assert times == [frame.stamp_ns for frame in recording(4)]


@pytest.mark.parametrize('whole', [True, False])
@pytest.mark.parametrize('suffix', ['-wal', '-journal'])
def test_what_a_database_has_not_taken_in_yet_is_not_lost_in_silence(tmp_path, whole, suffix):
    write_bag(recording(2), tmp_path / 'bag', storage='sqlite3')
    log = tmp_path / 'bag' / f'bag.db3{suffix}'
    log.write_bytes(b'messages')
    path = tmp_path / 'bag' if whole else tmp_path / 'bag' / 'bag.db3'
    with pytest.raises(ValueError, match=f'bag.db3{suffix} is left of a crash'):
        bag_topics(path)
    log.write_bytes(b'')  # as sqlite3 leaves it once it has added them
    assert bag_topics(path)[0].count == 2


@pytest.mark.parametrize('name', ['out #3', 'why?', 'data%20x'])
def test_paths_that_sqlite3_would_read_otherwise_are_refused(tmp_path, name):
    with pytest.raises(ValueError, match='sqlite3 paths cannot contain .; rename it'):
        write_bag(recording(1), tmp_path / name, storage='sqlite3')
    assert not list(tmp_path.iterdir())
    write_bag(recording(1), tmp_path / name)
    assert bag_topics(tmp_path / name)[0].count == 1
    write_bag(recording(1), tmp_path / 'plain', storage='sqlite3')
    (tmp_path / 'plain').rename(tmp_path / 'renamed #3')
    with pytest.raises(ValueError, match='sqlite3 paths cannot contain #;'):
        bag_topics(tmp_path / 'renamed #3')


def test_frames_of_a_bag_keep_its_times_in_another(tmp_path):
    """A driver's stamps may all be 0."""
    frames = [replace(frame, stamp_ns=0, record_ns=10**18 + index)
              for index, frame in enumerate(recording(3))]
    write_bag(frames, tmp_path / 'bag')
    write_bag(open_frames(tmp_path / 'bag'), tmp_path / 'again')
    assert [m.record_ns for m in read_messages(tmp_path / 'again')] == [
        10**18, 10**18 + 1, 10**18 + 2]


def test_a_disk_s_trouble_is_no_damage(tmp_path, monkeypatch):
    """Otherwise a bag read over a network would seem to end at the error."""
    write_bag(recording(3), tmp_path / 'bag')

    for number, kind in ((errno.EIO, OSError), (errno.EINVAL, ValueError)):
        trouble = OSError(number, os.strerror(number))
        monkeypatch.setattr('segnet_ros.bags.reading.Reader.messages',
                            MagicMock(side_effect=trouble))
        with pytest.raises(kind):
            list(read_messages(tmp_path / 'bag'))


def test_metadata_that_are_no_text_are_told_with_their_bag(tmp_path):
    write_bag(recording(1), tmp_path / 'bag')
    (tmp_path / 'bag' / 'metadata.yaml').write_bytes(b'\xff\xfe')
    with pytest.raises(ValueError, match='bag cannot be read as a rosbag2'):
        bag_topics(tmp_path / 'bag')
