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

"""`segnet record-bag`: make a rosbag2 of images, a video, another bag or the sample drive."""

import argparse
from collections.abc import Iterable
from dataclasses import replace
import sys

from segnet_ros.processes import SOME_LEFT_OUT


def add_arguments(parser: argparse.ArgumentParser):
    """Declare the verb's arguments."""
    parser.epilog = ('Exit code: 0 all done; 1 ended by an error; 3 some frames could not be '
                     'read and were left out, each named.')
    parser.add_argument('source', help='folder of images, video, rosbag2, or sample[:SEED]')
    parser.add_argument('out', help='rosbag2 folder to create')
    parser.add_argument('--fps', type=float, default=15.0,
                        help='frame rate of a folder of images (15)')
    parser.add_argument('--topic', default='/image',
                        help='image topic in the new bag (/image); compressed images go to '
                             'TOPIC/compressed, as image_transport has it')
    parser.add_argument('--from-topic', help='image topic to read, if a bag has several')
    parser.add_argument('--frame-id', help='frame_id of every image (camera, or that of the '
                                           'source bag)')
    parser.add_argument('--storage', choices=('mcap', 'sqlite3'), default='mcap',
                        help="mcap (ROS 2 Jazzy's default) or sqlite3")
    parser.add_argument('--format', choices=('raw', 'jpeg', 'png'), default='raw',
                        help='raw sensor_msgs/Image, or CompressedImage in jpeg or png')


def main(args: argparse.Namespace) -> int:
    """Write the bag, then say what it holds."""
    from tqdm import tqdm

    from segnet_ros.bags.reading import compressed_topic, image_topic
    from segnet_ros.bags.writing import write_bag
    from segnet_ros.frames import Frame
    from segnet_ros.sources import is_bag_source, open_frames
    if is_bag_source(args.source):
        image_topic(args.source, args.from_topic, '--from-topic')  # an error names the option
    elif args.from_topic:
        raise ValueError(f'--from-topic is for bags; {args.source} is none')
    left_out: list[ValueError] = []

    def leave_out(error: ValueError):
        left_out.append(error)
        tqdm.write(f'left out: {error}', sys.stderr)

    topic = args.topic if args.format == 'raw' else compressed_topic(args.topic)
    source = open_frames(args.source, args.fps, args.from_topic, leave_out)
    with tqdm(source, args.out, total=source.count, unit='frame') as bar:
        frames: Iterable[Frame] = bar
        if args.frame_id is not None:
            frames = (replace(frame, frame_id=args.frame_id) for frame in bar)
        count = write_bag(frames, args.out, topic, args.storage, args.format)
    print(f'{args.out}: {count} images on {topic}, {source.rate:.4g} a second')
    return SOME_LEFT_OUT if left_out else 0
