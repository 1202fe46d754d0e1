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

"""`segnet replay`: publish a recording at the rate it was recorded at."""

import argparse
import sys

from segnet_ros.processes import ignore_signals, SOME_LEFT_OUT


def add_arguments(parser: argparse.ArgumentParser):
    """Declare the verb's arguments."""
    parser.epilog = ('Exit code: 0 all done, or interrupted; 1 ended by an error; 3 some of it '
                     'could not be read and was left out, and named.')
    parser.add_argument('source', help='rosbag2 (folder, .mcap, .db3), video, folder of images, '
                                       'or sample[:SEED]')
    parser.add_argument('--rate', type=float, default=1.0, metavar='FACTOR',
                        help='speed factor (1)')
    parser.add_argument('--fps', type=float, default=15.0,
                        help='frame rate of a folder of images (15)')
    parser.add_argument('--loop', action='store_true', help='start again at the end')
    parser.add_argument('--topic',
                        help="topic for the images (a bag's own topics, else /image); compressed "
                             'ones go to TOPIC/compressed, as image_transport does')
    parser.add_argument('--from-topic', help="which of a bag's image topics --topic renames; the "
                                             'others keep their names')
    parser.add_argument('--topics', nargs='+', metavar='NAME',
                        help="publish only these of a bag's topics (all)")
    parser.add_argument('--clock', action='store_true',
                        help='publish /clock from the recorded times, for use_sim_time')
    parser.add_argument('--wait-for-subscribers', type=int, default=0, metavar='N',
                        help='start when the image topic has N subscribers')
    parser.add_argument('--wait-timeout', type=float, default=60.0, metavar='SECONDS',
                        help='give up waiting for subscribers after this many seconds (60)')
    parser.add_argument('--ros-args', nargs=argparse.REMAINDER, default=[], metavar='...',
                        help='the rest goes to ROS, e.g. --ros-args -r image:=/camera/image_raw')


def main(args: argparse.Namespace) -> int:
    """Replay, then report; being interrupted counts as success."""
    import rclpy
    from rclpy.exceptions import InvalidTopicNameException
    from rclpy.signals import SignalHandlerOptions

    from segnet_ros.ros.large_images import use_large_image_profile
    use_large_image_profile()
    try:
        # With rclpy's handlers, a SIGTERM would wait for the next message.
        rclpy.init(args=['--ros-args', *args.ros_args],
                   signal_handler_options=SignalHandlerOptions.NO)
    except RuntimeError as error:  # rcl cannot read an argument
        raise ValueError(f'--ros-args: {error}') from error
    try:
        return _replay(args, rclpy.create_node('segnet_replay'))
    except InvalidTopicNameException as error:
        raise ValueError('--topic: ' + str(error).partition(':\n')[0]) from error
    except TimeoutError as error:
        print(f'segnet replay: {error}', file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 0
    finally:
        ignore_signals()
        rclpy.try_shutdown()


def _replay(args: argparse.Namespace, node) -> int:
    from segnet_ros.bags.reading import image_topic
    from segnet_ros.ros.replay import bag_programme, frames_programme, Player, \
        wait_for_subscribers
    from segnet_ros.sources import is_bag_source, keep_frames, open_frames, sample_seed
    left_out: list[ValueError] = []

    def leave_out(error: ValueError):
        left_out.append(error)
        print(f'segnet replay: left out: {error}', file=sys.stderr)

    if is_bag_source(args.source):
        if args.from_topic and not args.topic:
            raise ValueError('--from-topic says what --topic renames; give --topic as well')
        renamed = None
        if args.topic:
            recorded = image_topic(args.source, args.from_topic, '--from-topic')
            renamed = recorded.name, recorded.moved_to(args.topic)
        programme = bag_programme(node, args.source, leave_out, renamed, args.clock, args.topics)
    else:
        if args.from_topic or args.topics:
            raise ValueError(f'--from-topic and --topics are for bags; {args.source} is none')
        frames = open_frames(args.source, args.fps, on_error=leave_out)
        if args.loop and sample_seed(args.source) is not None:
            frames = keep_frames(frames)  # 78 MB; rendering them again would keep a core busy
        programme = frames_programme(node, frames, args.topic or 'image')
    player = Player(node, programme, args.rate, args.clock)
    watched = programme.image_publishers or programme.publishers
    print('publishing ' + ', '.join(p.topic_name for p in programme.publishers), flush=True)
    wait_for_subscribers(watched, args.wait_for_subscribers, args.wait_timeout)
    try:
        player.play(args.loop)
    finally:
        done = player.summary
        print(f'published {done.messages} messages in {done.seconds:.2f} s, '
              f'at worst {done.worst_delay * 1e3:.1f} ms late', flush=True)
        if not done.all_acknowledged:
            print('segnet replay: some subscribers have not confirmed the last messages',
                  file=sys.stderr)
    return SOME_LEFT_OUT if left_out else 0
