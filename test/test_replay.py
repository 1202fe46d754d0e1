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

"""Check replay over real DDS: a second process replays, this one receives."""

from importlib.metadata import PackageNotFoundError
import itertools
import os
from pathlib import Path
import re
import signal
import subprocess
import sys
import threading
import time
from types import SimpleNamespace
from unittest.mock import MagicMock

import cv2
import numpy as np
import pytest
import rclpy
from rclpy.executors import SingleThreadedExecutor
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from ros_domain import free_domain
from rosbags.interfaces import Qos, QosDurability, QosHistory, QosLiveliness, QosReliability, \
    QosTime
from rosbags.rosbag2 import StoragePlugin, Writer
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import CompressedImage, Image
from several_cameras import write_several_cameras
from std_msgs.msg import String

from segnet_ros.bags.reading import BagTopic, RawMessage, read_messages, TYPES
from segnet_ros.bags.writing import write_bag
from segnet_ros.frames import Frame
from segnet_ros.resources import share_directory
from segnet_ros.ros import large_images
from segnet_ros.ros.large_images import (
    OWN_SETTINGS, PROFILE_VARIABLES, SHARED_MEMORY, use_large_image_profile)
from segnet_ros.ros.replay import (
    _offered_qos, bag_programme, Player, Programme, wait_for_subscribers)

ROOT = Path(__file__).parents[1]
DOMAIN = int(free_domain())
MAIN = 'import sys; from segnet_ros.tools.cli import main; sys.exit(main())'
START = 1_700_000_000_900_000_000
LATCHED = QoSProfile(depth=5, durability=DurabilityPolicy.TRANSIENT_LOCAL)


class Receiver:
    """A node that keeps what it receives."""

    def __init__(self):
        self._context = rclpy.Context()
        rclpy.init(context=self._context, domain_id=DOMAIN)
        self.node = rclpy.create_node('receiver', context=self._context)
        self._executor = SingleThreadedExecutor(context=self._context)
        self._executor.add_node(self.node)

    def listen(self, message_type, topic, qos=100, raw=False):
        """Return a list that grows with every message on the topic."""
        received = []
        self.node.create_subscription(message_type, topic, received.append, qos, raw=raw)
        return received

    def spin_until(self, condition, seconds=60):
        """Receive until the condition holds; fail if it never does."""
        end = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < end, 'waited in vain'
            self._executor.spin_once(timeout_sec=0.05)

    def spin_until_ended(self, process):
        """Receive until the process has ended and nothing more has come; return its output."""
        self.spin_until(lambda: process.poll() is not None)
        for _ in range(20):  # each runs one callback at most
            self._executor.spin_once(timeout_sec=0.01)
        return process.communicate()

    def close(self):
        self._executor.shutdown()
        self.node.destroy_node()
        rclpy.shutdown(context=self._context)


@pytest.fixture
def receiver():
    it = Receiver()
    yield it
    it.close()


@pytest.fixture
def replay():
    """
    Return a function that starts `segnet replay`; what still runs at the end is killed.

    It starts as from a script with &: SIGINT ignored, and no Fast DDS settings in its environment.
    """
    processes = []

    def start(*args):
        env = {name: value for name, value in os.environ.items()
               if name not in OWN_SETTINGS}
        env['ROS_DOMAIN_ID'] = str(DOMAIN)
        processes.append(subprocess.Popen(
            [sys.executable, '-c', MAIN, 'replay', *map(str, args)], cwd=ROOT, env=env, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_IGN)))
        return processes[-1]
    yield start
    for process in processes:
        process.kill()
        process.communicate()


def stamps(messages):
    return [m.header.stamp.sec * 10**9 + m.header.stamp.nanosec for m in messages]


def seconds(out):
    """Return for how many seconds replay says that it published."""
    return float(re.search(r' in ([\d.]+) s, at worst [\d.]+ ms late', out)[1])


def frames(count, height=45, width=61, period_ns=50_000_000):
    rng = np.random.default_rng(0)
    return [Frame(i, START + i * period_ns, 'front', str(i),
                  rng.integers(0, 256, (height, width, 3), np.uint8)) for i in range(count)]


def offered(reliability, durability=QosDurability.VOLATILE, history=QosHistory.UNKNOWN, depth=0):
    never = QosTime(2147483647, 4294967295)
    return [Qos(history, depth, reliability, durability, never, never,
                QosLiveliness.AUTOMATIC, never, False)]


def write_mixed_bag(path):
    """Write latched, best-effort and plain strings, and a type that is not installed."""
    with Writer(path, version=9, storage_plugin=StoragePlugin.MCAP) as writer:
        def add(topic, type_name, qos):
            return writer.add_connection(topic, type_name, typestore=TYPES,
                                         offered_qos_profiles=qos)
        latched = add('/map', 'std_msgs/msg/String',
                      offered(QosReliability.RELIABLE, QosDurability.TRANSIENT_LOCAL))
        fast = add('/lidar', 'std_msgs/msg/String', offered(QosReliability.BEST_EFFORT))
        plain = add('/plain', 'std_msgs/msg/String', [])
        unknown = add('/grid', 'nav_msgs/msg/OccupancyGrid', [])
        string = TYPES.types['std_msgs/msg/String']
        for i in range(40):
            for connection in (fast, plain) if i else (latched, fast, plain, unknown):
                cdr = TYPES.serialize_cdr(string(f'{connection.topic} {i}'), 'std_msgs/msg/String')
                writer.write(connection, START + i * 50_000_000, cdr)


@pytest.mark.parametrize('storage,image_format', [('mcap', 'raw'), ('sqlite3', 'jpeg')])
def test_bag_arrives_as_it_was_recorded(tmp_path, receiver, replay, storage, image_format):
    write_bag(frames(30), tmp_path / 'bag', '/front', storage, image_format)
    message_type = Image if image_format == 'raw' else CompressedImage
    received = receiver.listen(message_type, '/front', raw=True)
    process = replay(tmp_path / 'bag', '--wait-for-subscribers', 1)
    times = []
    receiver.spin_until(lambda: len(received) > 0)
    times.append(time.monotonic())
    receiver.spin_until(lambda: len(received) == 30)
    times.append(time.monotonic())
    out, err = receiver.spin_until_ended(process)
    for before, after in zip(read_messages(tmp_path / 'bag'), received, strict=True):
        assert after[:len(before.cdr)] == before.cdr
        assert len(after) - len(before.cdr) < 4  # Fast DDS pads to a multiple of four
    assert process.returncode == 0 and err == ''
    # 29 intervals of 50 ms. Either end may be late on a busy machine; replay is never early.
    assert 'published 30 messages' in out and 0.9 < seconds(out) < 3
    assert 0.7 < times[1] - times[0] < 4


def test_folder_with_sizes_that_change(tmp_path, receiver, replay):
    images = [np.full((31 + i % 2, 45, 3), (10 * i, 20, 30), np.uint8) for i in range(6)]
    for i, image in enumerate(images):
        cv2.imwrite(str(tmp_path / f'{i}.png'), cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
    (tmp_path / '3.png').write_bytes(b'broken')
    received = receiver.listen(Image, '/camera/image_raw')
    process = replay(tmp_path, '--fps', 2, '--rate', 2, '--wait-for-subscribers', 1,
                     '--ros-args', '-r', 'image:=/camera/image_raw')
    out, err = receiver.spin_until_ended(process)
    assert process.returncode == 3
    assert 'published 5 messages' in out and 0.9 < seconds(out) < 2.2  # 2.5 s recorded
    assert 'left out' in err and '3.png' in err and 'Traceback' not in err
    assert stamps(received) == [i * 500_000_000 for i in (0, 1, 2, 4, 5)]
    for msg, i in zip(received, (0, 1, 2, 4, 5), strict=True):
        assert (msg.header.frame_id, msg.encoding, msg.is_bigendian) == ('camera', 'rgb8', 0)
        assert (msg.height, msg.width, msg.step) == (*images[i].shape[:2], 135)
        assert bytes(msg.data) == images[i].tobytes()


def test_quality_of_service_as_recorded(tmp_path, receiver, replay):
    write_mixed_bag(tmp_path / 'bag')
    process = replay(tmp_path / 'bag', '--wait-for-subscribers', 1, '--loop')
    plain = receiver.listen(String, '/plain')
    fast = receiver.listen(String, '/lidar', QoSProfile(
        depth=10, reliability=ReliabilityPolicy.BEST_EFFORT))
    early = receiver.listen(String, '/map')
    receiver.spin_until(lambda: len(plain) > 3 and fast and early)
    late = receiver.listen(String, '/map', LATCHED)  # in the middle of a round
    receiver.spin_until(lambda: late)
    assert late[0].data == early[0].data == '/map 0'
    qos = {topic: receiver.node.get_publishers_info_by_topic(topic)[0].qos_profile
           for topic in ('/map', '/lidar', '/plain')}
    assert [qos[t].reliability == ReliabilityPolicy.RELIABLE for t in qos] == [True, False, True]
    assert [qos[t].durability == DurabilityPolicy.TRANSIENT_LOCAL for t in qos] == [
        True, False, False]
    process.send_signal(signal.SIGINT)
    _, err = receiver.spin_until_ended(process)
    assert err.count('leaving out /grid: its type nav_msgs/msg/OccupancyGrid') == 1


def test_clock_runs_with_the_recorded_times(tmp_path, receiver, replay):
    write_bag(frames(6, period_ns=400_000_000), tmp_path / 'one')
    write_several_cameras(tmp_path / 'bag', tmp_path / 'one', '/front', '/clock')
    ticks = receiver.listen(Clock, '/clock', 1000)
    images = receiver.listen(Image, '/elsewhere')
    process = replay(tmp_path / 'bag', '--clock', '--rate', 2, '--from-topic', '/front',
                     '--topic', '/elsewhere', '--wait-for-subscribers', 1)
    out, _ = receiver.spin_until_ended(process)
    assert 'publishing /elsewhere\n' in out  # the bag's own /clock is left out
    assert stamps(images) == [START + i * 400_000_000 for i in range(6)]
    times = [t.clock.sec * 10**9 + t.clock.nanosec for t in ticks]
    assert times == sorted(times)
    assert set(stamps(images)) <= {*times, START}  # the first tick may precede the DDS match
    assert times[-1] == START + 2_000_000_000
    # Two seconds at double speed and 40 ticks a second; a busy machine makes fewer.
    assert 16 <= len(times) <= 60
    assert np.median(np.diff(times)) < 100_000_000


def test_the_clock_of_what_begins_at_zero_is_never_zero(tmp_path, receiver, replay):
    """A node under simulated time takes zero for no clock at all."""
    for i in range(3):
        cv2.imwrite(f'{tmp_path}/{i}.png', np.zeros((48, 64, 3), np.uint8))
    ticks = receiver.listen(Clock, '/clock', 1000)
    process = replay(tmp_path, '--clock', '--loop', '--fps', 20)
    receiver.spin_until(lambda: len(ticks) > 30)
    process.send_signal(signal.SIGINT)
    receiver.spin_until_ended(process)
    assert all(t.clock.sec or t.clock.nanosec for t in ticks)


@pytest.mark.timeout(20)
def test_a_signal_that_another_thread_takes_ends_a_long_gap():
    player = Player(MagicMock(), MagicMock())
    taker = threading.Thread(target=lambda: (
        time.sleep(0.2), signal.pthread_kill(threading.get_ident(), signal.SIGINT)))
    taker.start()
    with pytest.raises(KeyboardInterrupt):
        player._wait_until(time.monotonic() + 60, 0)
    taker.join()


def test_topics_that_ros_2_does_not_allow_are_told(tmp_path, receiver, replay):
    """As bags have that were converted from ROS 1."""
    write_bag(frames(3), tmp_path / 'one')
    write_several_cameras(tmp_path / 'bag', tmp_path / 'one', '/cam/0/image_raw', '/front')
    images = receiver.listen(Image, '/front')
    _, err = receiver.spin_until_ended(replay(tmp_path / 'bag', '--wait-for-subscribers', 1))
    assert len(images) == 3
    assert 'leaving out /cam/0/image_raw: Invalid topic name: ' in err and 'Traceback' not in err
    process = replay(tmp_path / 'bag', '--topics', '/cam/0/image_raw')
    assert 'has no topic that can be published' in process.communicate(timeout=60)[1]
    process = replay(tmp_path / 'one', '--topic', 'front camera')
    _, err = process.communicate(timeout=60)
    assert process.returncode == 1 and 'Traceback' not in err
    assert 'segnet replay: --topic: Invalid topic name: ' in err.splitlines()[-1]


def test_what_rcl_cannot_read_is_told_without_a_traceback(tmp_path, replay):
    process = replay(tmp_path, '--ros-args', '-r', 'bad')
    _, err = process.communicate(timeout=60)
    assert process.returncode == 1 and 'Traceback' not in err
    assert 'segnet replay: --ros-args: ' in err and "'-r bad'" in err


def test_one_of_several_cameras_is_moved(tmp_path, receiver, replay):
    images = frames(3)
    write_bag(images, tmp_path / 'one')
    write_several_cameras(tmp_path / 'bag', tmp_path / 'one', '/front', '/rear', '/side',
                          '/camera')
    moved = receiver.listen(Image, '/camera')
    for option in ('--topics', '--from-topic'):
        process = replay('sample', option, '/camera')
        _, err = process.communicate(timeout=60)
        assert process.returncode == 1 and '--topics are for bags; sample is none' in err
    process = replay(tmp_path / 'bag', '--topic', '/camera')
    _, err = process.communicate(timeout=60)
    assert process.returncode == 1 and 'choose one with --from-topic: /camera' in err
    process = replay(tmp_path / 'bag', '--topic', '/camera', '--from-topic', '/front',
                     '--topics', '/rear', '/camera', '--wait-for-subscribers', 1)
    out, err = receiver.spin_until_ended(process)
    assert process.returncode == 0 and 'publishing /camera, /rear\n' in out
    assert 'published 6 messages' in out
    assert 'leaving out /camera: /front takes its place' in err
    assert stamps(moved) == [frame.stamp_ns for frame in images]


@pytest.mark.parametrize('asked', ['/camera/image', '/camera/image/compressed'])
def test_compressed_images_are_moved_to_where_image_transport_has_them(tmp_path, receiver, replay,
                                                                       asked):
    write_bag(frames(3), tmp_path / 'bag', '/front', image_format='jpeg')
    moved = receiver.listen(CompressedImage, '/camera/image/compressed')
    process = replay(tmp_path / 'bag', '--topic', asked, '--wait-for-subscribers', 1)
    receiver.spin_until_ended(process)
    assert process.returncode == 0 and stamps(moved) == [f.stamp_ns for f in frames(3)]


def test_topics_that_the_bag_lacks_are_told(tmp_path):
    write_bag(frames(1), tmp_path / 'bag')
    with pytest.raises(ValueError, match='bag has no topic /lidar, /radar; it has /image'):
        bag_programme(None, tmp_path / 'bag', None, topics=['/radar', '/image', '/lidar'])


@pytest.mark.parametrize('ending', [signal.SIGINT, signal.SIGTERM])
def test_loop_until_it_is_interrupted(tmp_path, receiver, replay, ending):
    write_bag(frames(4), tmp_path / 'bag')
    received = receiver.listen(Image, '/image')
    process = replay(tmp_path / 'bag', '--loop', '--wait-for-subscribers', 1)
    receiver.spin_until(lambda: len(received) >= 10)
    process.send_signal(ending)
    time.sleep(0.02)
    process.send_signal(ending)  # as a terminal and what started it both do
    out, err = receiver.spin_until_ended(process)
    assert process.returncode == 0 and err == ''
    published = int(re.search(r'published (\d+) messages', out)[1])
    assert abs(len(received) - published) <= 1  # the signal may arrive mid-message
    assert stamps(received) == [START + i % 4 * 50_000_000 for i in range(len(received))]


def test_large_images_reach_best_effort_subscribers(tmp_path, receiver, replay):
    large = np.random.default_rng(0).integers(0, 256, (720, 1280, 3), np.uint8)
    write_bag((Frame(i, i * 100_000_000, '', '', large) for i in range(20)), tmp_path / 'bag')
    received = receiver.listen(Image, '/image', QoSProfile(
        depth=20, reliability=ReliabilityPolicy.BEST_EFFORT))
    receiver.spin_until_ended(replay(tmp_path / 'bag', '--wait-for-subscribers', 1))
    # With Fast DDS's defaults only a few arrive. The first may precede the DDS match.
    assert len(received) >= 18


def test_subscribers_that_do_not_come(tmp_path, replay):
    write_bag(frames(1), tmp_path / 'bag')
    process = replay(tmp_path / 'bag', '--wait-for-subscribers', 2, '--wait-timeout', 0.2)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 1
    assert err.startswith('segnet replay: /image has 0 subscribers after 0.2 s, expected 2')


def test_every_camera_s_subscribers_are_waited_for():
    front, rear = (MagicMock(topic_name=name, get_subscription_count=lambda n=count: n)
                   for name, count in (('/front', 1), ('/rear', 0)))
    with pytest.raises(TimeoutError, match='/rear has 0 subscribers'):
        wait_for_subscribers([front, rear], 1, timeout=0.1)


def test_what_cannot_be_replayed_is_told(replay):
    process = replay('nowhere')
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (1, '')
    assert err.startswith("segnet replay: no file or folder 'nowhere'") and err.count('\n') == 1


def test_the_users_own_profile_stays(monkeypatch):
    monkeypatch.setattr(large_images, '_free_shared_memory', lambda: 1e9)
    for name in OWN_SETTINGS:
        monkeypatch.delenv(name, raising=False)
    with monkeypatch.context() as context:
        context.setenv(PROFILE_VARIABLES[1], 'mine.xml')
        use_large_image_profile()
        assert PROFILE_VARIABLES[0] not in os.environ
        assert os.environ[PROFILE_VARIABLES[1]] == 'mine.xml'
    monkeypatch.setattr(os, 'environ', {})
    use_large_image_profile()
    assert all(Path(profile).is_file() for profile in os.environ.values())


@pytest.mark.parametrize('rclpy, read', [
    ('7.1.6', PROFILE_VARIABLES[:1]), ('9.1.2', PROFILE_VARIABLES[1:]), (None, PROFILE_VARIABLES)])
def test_the_profile_goes_where_this_ros_reads_it(monkeypatch, rclpy, read):
    def version(name):
        if rclpy is None:
            raise PackageNotFoundError(name)
        return rclpy
    monkeypatch.setattr(large_images, 'version', version)
    monkeypatch.setattr(large_images, '_free_shared_memory', lambda: 1e9)
    monkeypatch.setattr(os, 'environ', {})
    use_large_image_profile()
    assert tuple(os.environ) == read


def test_one_publisher_keeps_what_all_that_it_stands_for_kept():
    def depth(count):
        qos = offered(QosReliability.RELIABLE, QosDurability.TRANSIENT_LOCAL) * count
        return _offered_qos(BagTopic('/tf_static', 'tf2_msgs/msg/TFMessage', count, qos)).depth
    assert (depth(1), depth(12)) == (10, 12)
    many = offered(QosReliability.RELIABLE, depth=2**31 - 1) * 2
    assert _offered_qos(BagTopic('/log', 'std_msgs/msg/String', 1, many)).depth == 2**31 - 1


@pytest.mark.parametrize('depth', [0, 2**32 - 1])
def test_a_publisher_that_kept_all_keeps_much(depth):
    qos = offered(QosReliability.RELIABLE, QosDurability.TRANSIENT_LOCAL, QosHistory.KEEP_ALL,
                  depth)
    assert _offered_qos(BagTopic('/log', 'std_msgs/msg/String', 50, qos * 2)).depth == 10000


def test_too_little_shared_memory_is_told_and_the_profile_left_out(monkeypatch, caplog, tmp_path):
    docker = SimpleNamespace(f_bavail=2**14, f_frsize=2**12)
    monkeypatch.setattr(os, 'statvfs', lambda folder: docker)
    monkeypatch.setattr(os, 'environ', {})
    (tmp_path / 'share').symlink_to(share_directory())
    as_launched = str(tmp_path / 'share' / 'config' / 'fastdds_large_images.xml')
    for given in ({}, dict.fromkeys(PROFILE_VARIABLES, as_launched)):
        os.environ |= given
        use_large_image_profile()
        assert os.environ == {}
        assert ('/dev/shm has 67 MB free (0 if it cannot be written), but large images need 71 MB '
                'per process') in caplog.text
        assert '--ipc=host' in caplog.text
        caplog.clear()
    for own in ({PROFILE_VARIABLES[0]: 'mine.xml'}, {'FASTDDS_BUILTIN_TRANSPORTS': 'UDPv4'}):
        os.environ |= own
        use_large_image_profile()
        assert os.environ == own and not caplog.text
        os.environ.clear()
    os.environ['RMW_IMPLEMENTATION'] = 'rmw_cyclonedds_cpp'  # has no use for the profile
    use_large_image_profile()
    assert not caplog.text


@pytest.mark.parametrize('exists', [True, False], ids=['read-only', 'missing'])
def test_shared_memory_that_cannot_be_written_is_none(monkeypatch, caplog, tmp_path, exists):
    monkeypatch.setattr(large_images, 'SHARED_MEMORY_FOLDER', str(tmp_path / 'shm'))
    monkeypatch.setattr(os, 'access', lambda path, mode: False)
    monkeypatch.setattr(os, 'environ', {})
    if exists:
        (tmp_path / 'shm').mkdir()
    use_large_image_profile()
    assert os.environ == {} and f'{tmp_path}/shm has 0 MB free' in caplog.text


def test_the_profile_fits_in_the_shared_memory_that_is_asked_for():
    profile = (share_directory() / 'config' / 'fastdds_large_images.xml').read_text()
    segment = int(re.search('<segment_size>([0-9]+)<', profile)[1])
    assert segment + 3.2e6 < SHARED_MEMORY  # one idle node took 70,255,136 bytes


class Sink:
    """Stands in for a publisher and records when it was called."""

    def __init__(self):
        self.calls = []

    def publish(self, message):
        self.calls.append((time.monotonic(), message))

    def wait_for_all_acked(self, timeout):
        return True


def test_late_messages_are_published_and_delays_do_not_add_up():
    sink = Sink()

    def events():
        for i in range(20):
            if i == 5:
                threading.Event().wait(0.2)  # a disk that is slow once
            yield 10**15 + i * 20_000_000, sink, i
    player = Player(None, Programme(events, [sink], [sink], 20_000_000))
    start = time.monotonic()
    player.play()
    assert [m for _, m in sink.calls] == list(range(20))
    after = [moment - start - 0.02 * i for i, (moment, _) in enumerate(sink.calls)]
    assert min(after) >= 0  # never early
    assert max(after[5:7]) > 0.1 and player.summary.worst_delay > 0.1
    assert min(after[16:]) < 0.02  # on time again
    assert player.summary.messages == 20


def two_rounds(pauses, count=10, period_ns=20_000_000):
    """
    Play two rounds of messages 20 ms apart; return when each was published.

    `pauses(round, index)` is how many seconds the source takes for a message.
    """
    sink, rounds = Sink(), itertools.count()

    def events():
        if (number := next(rounds)) == 2:
            raise KeyboardInterrupt
        for index in range(count):
            time.sleep(pauses(number, index))
            yield 10**15 + index * 20_000_000, sink, index
    with pytest.raises(KeyboardInterrupt):
        Player(None, Programme(events, [sink], [sink], period_ns)).play(loop=True)
    assert [message for _, message in sink.calls] == [*range(count)] * 2
    return [moment for moment, _ in sink.calls]


def test_a_round_that_took_too_long_is_not_made_up_for_in_the_next():
    moments = two_rounds(lambda number, index: 0.05 * (number == 0))  # slower than the recording
    assert moments[19] - moments[9] >= 0.18  # as recorded, not all at once


def test_a_source_that_opens_slowly_does_not_hurry_its_messages():
    moments = two_rounds(lambda number, index: 0.4 * (index == 0))  # as a bag that is unpacked
    assert moments[9] - moments[0] >= 0.17 and moments[19] - moments[10] >= 0.17


def test_from_round_to_round_passes_the_period():
    moments = two_rounds(lambda number, index: 0.0, count=2, period_ns=300_000_000)
    assert moments[2] - moments[1] >= 0.29


@pytest.mark.parametrize('acknowledged', [(True, True), (False, True), (True, False)])
def test_it_knows_whether_all_has_arrived(acknowledged):
    sinks = [Sink(), Sink()]
    for sink, answer in zip(sinks, acknowledged, strict=True):
        sink.wait_for_all_acked = lambda timeout, answer=answer: answer
    player = Player(None, Programme(lambda: iter([(0, sinks[0], 0)]), sinks, sinks, 1))
    player.play()
    assert player.summary.all_acknowledged == all(acknowledged)


@pytest.mark.parametrize('own_clock', [True, False])
def test_the_bag_s_clock_gives_way_to_the_player_s_alone(tmp_path, monkeypatch, own_clock):
    topics = [BagTopic(name, f'{package}/msg/{kind}', 1, []) for name, package, kind in (
        ('/clock', 'rosgraph_msgs', 'Clock'), ('/image', 'sensor_msgs', 'Image'))]
    monkeypatch.setattr('segnet_ros.ros.replay.bag_topics', lambda path: topics)
    monkeypatch.setattr('segnet_ros.ros.replay.bag_period_ns', lambda path: 1)
    node = MagicMock()
    bag_programme(node, tmp_path, None, own_clock=own_clock)
    assert [call.args[1] for call in node.create_publisher.call_args_list] == [
        '/clock', '/image'][own_clock:]


def test_a_camera_without_images_is_not_waited_for_and_a_relative_name_is_one(tmp_path,
                                                                              monkeypatch):
    topics = [BagTopic(name, 'sensor_msgs/msg/Image', count, [])
              for name, count in (('/front', 1), ('/rear', 0))]
    monkeypatch.setattr('segnet_ros.ros.replay.bag_topics', lambda path: topics)
    monkeypatch.setattr('segnet_ros.ros.replay.bag_period_ns', lambda path: 1)
    node = MagicMock(create_publisher=lambda kind, name, qos: name,
                     resolve_topic_name=lambda name: f'/{name}')
    assert bag_programme(node, tmp_path, None).image_publishers == ['/front']
    assert bag_programme(node, tmp_path, None, ('/front', 'rear')).publishers == ['rear']


def test_nothing_to_publish():
    with pytest.raises(ValueError, match='nothing that can be published'):
        Player(None, Programme(lambda: iter(()), [], [], 1)).play(loop=True)
    for rate in (0, 1e-300, float('nan')):
        with pytest.raises(ValueError, match='at least 0.001'):
            Player(None, Programme(lambda: iter(()), [], [], 1), rate=rate)


def test_the_clock_runs_at_the_player_s_rate_between_messages():
    player, ticks = Player(MagicMock(), MagicMock(), rate=10.0, clock=True), []
    player._clock.publish = lambda msg: ticks.append(msg.clock.sec + 1e-9 * msg.clock.nanosec)
    player._wait_until(time.monotonic() + 0.5, 100 * 10**9)
    assert 95 <= ticks[0] < 98 and ticks[-1] == 100


def test_a_long_gap_is_told(monkeypatch):
    sink = Sink()
    told = []
    monkeypatch.setattr('segnet_ros.ros.replay.LONG_WAIT', 0.05)
    monkeypatch.setattr('segnet_ros.ros.replay.get_logger',
                        lambda name: SimpleNamespace(info=told.append))
    times = [0, 10_000_000, 20_000_000, 320_000_000]
    Player(None, Programme(lambda: ((t, sink, t) for t in times), [sink], [sink], 1)).play()
    assert len(told) == 1 and 'nothing was recorded' in told[0]


def test_what_follows_a_clock_that_was_set_back_keeps_its_pace(monkeypatch):
    sink, told = Sink(), []
    monkeypatch.setattr('segnet_ros.ros.replay.get_logger',
                        lambda name: SimpleNamespace(warning=told.append))
    times = [0, 20_000_000, *(t * 20_000_000 - 3600 * 10**9 for t in range(5))]
    Player(None, Programme(lambda: ((t, sink, t) for t in times), [sink], [sink], 1)).play()
    assert [message for _, message in sink.calls] == times
    assert sink.calls[6][0] - sink.calls[2][0] >= 0.079
    assert len(told) == 1 and 'the clock was set back' in told[0]


def test_what_cannot_be_published_is_left_out_and_told(tmp_path, monkeypatch):
    node = MagicMock()
    topics = [BagTopic(name, kind, 1, []) for name, kind in (
        ('/good', 'std_msgs/msg/String'), ('/odd', 'odd'), ('/old', 'std_msgs/String'),
        ('/both', ''))]
    monkeypatch.setattr('segnet_ros.ros.replay.bag_topics', lambda path: topics)
    monkeypatch.setattr('segnet_ros.ros.replay.bag_period_ns', lambda path: 1)

    def cut_off(path, topics):
        yield RawMessage('/good', 'std_msgs/msg/String', 5, b'cdr')
        raise ValueError('bag is damaged')
    monkeypatch.setattr('segnet_ros.ros.replay.read_messages', cut_off)
    errors = []
    programme = bag_programme(node, tmp_path, errors.append)
    told = [call.args[0] for call in node.get_logger().warning.call_args_list]
    assert told == ['leaving out /odd: its type odd is not installed',
                    'leaving out /old: its type std_msgs/String is not installed',
                    'leaving out /both: it has messages of several types']
    assert [(time_ns, cdr) for time_ns, _, cdr in programme.events()] == [(5, b'cdr')]
    assert list(map(str, errors)) == ['bag is damaged']
