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

"""The `segnet` command: finds the verb and runs its module, importing no other."""

import argparse
import importlib
import io
import logging
import os
import sys

from segnet_ros.extras import install_extra, pip_install
from segnet_ros.processes import take_signals_as_interrupts

# Each verb's module has add_arguments(parser) and main(args) -> exit code or None.
VERBS = {
    'predict': 'segment images, videos or bags into masks, pictures, a video or a table',
    'segment-bag': 'segment all images of a rosbag2, or of a folder of bags, into new bags',
    'drive': 'send a recording through the real node; write a video, pictures and a summary',
    'demo': 'serve the demo as a web page',
    'train': 'train a network on a folder of images and masks',
    'evaluate': 'score weights on a folder of images and masks',
    'balance': 'find the per-class logit biases of trained weights for the best mIoU',
    'bench': 'measure the network and the node on this machine, against plain PyTorch',
    'replay': 'publish a bag, a video, images or the sample drive at the recorded rate',
    'record-bag': 'make a rosbag2 of images, a video, another bag or the sample drive',
}

# The extra of setup.py with what a verb needs and the node does not.
EXTRAS = {'train': 'train', 'evaluate': 'train', 'balance': 'train', 'demo': 'demo'}
# How to install what those extras lack: OpenCV, which would duplicate ROS's own (see setup.py),
# rosbags, and what comes with ROS.
PACKAGES = {
    'cv2': pip_install('opencv-python-headless<5') + ', or with ROS: apt install python3-opencv',
    'rclpy': "source ROS 2's setup.bash",
    'rosbags': pip_install('rosbags'),
}


def main(argv: list[str] | None = None) -> int:
    """Run `segnet VERB ...`; return the exit code."""
    # Python has no streams where the shell closed them (>&-, 2>&-).
    sys.stdout, sys.stderr = (stream or open(os.devnull, 'w')  # noqa: SIM115 they stay open
                              for stream in (sys.stdout, sys.stderr))
    if isinstance(sys.stdout, io.TextIOWrapper) and sys.stdout.errors == 'strict':
        sys.stdout.reconfigure(errors='backslashreplace')  # file names may be no valid text
    take_signals_as_interrupts()
    try:
        return _run(sys.argv[1:] if argv is None else argv)
    except KeyboardInterrupt:  # also during the seconds that importing PyTorch takes
        return 130


def _run(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(
        prog='segnet', description='Street scene segmentation with SegNet, for ROS 2.')
    verbs = parser.add_subparsers(dest='verb', metavar='VERB', required=True)
    for verb, summary in VERBS.items():
        sentence = summary[0].upper() + summary[1:] + '.'
        sub = verbs.add_parser(verb, help=summary, description=sentence)
        if argv and argv[0] == verb:
            module = importlib.import_module('segnet_ros.tools.' + verb.replace('-', '_'))
            module.add_arguments(sub)
    args = parser.parse_args(argv)
    logging.basicConfig(level=logging.INFO, format='%(message)s')
    try:
        return module.main(args) or 0
    except (OSError, ValueError) as error:
        print(f'segnet {args.verb}: {_words(error)}', file=sys.stderr)
        return 1
    except ModuleNotFoundError as error:
        package = (error.name or '').partition('.')[0]
        if package not in PACKAGES and args.verb not in EXTRAS:
            raise
        how = PACKAGES.get(package) or install_extra(EXTRAS[args.verb])
        print(f'segnet {args.verb}: {error.name} is not installed; in a checkout run `make venv`, '
              f'elsewhere {how}', file=sys.stderr)
        return 1


def _words(error: Exception) -> str:
    if isinstance(error, OSError) and error.filename is not None:
        return f'{error.filename}: {error.strerror}'  # without '[Errno 28]'
    return str(error)


if __name__ == '__main__':
    sys.exit(main())
