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

"""`segnet demo`: the SegNet demo as a web page."""

import argparse
import os
import tempfile

from segnet_ros.tools.arguments import add_device_argument

KEY = 'GOOGLE_MAPS_API_KEY'
FOLDER = 'GRADIO_TEMP_DIR'  # where gradio keeps uploads


def add_arguments(parser: argparse.ArgumentParser):
    """Declare the verb's arguments."""
    parser.add_argument('--samples', metavar='DIR',
                        help='folder of pictures for the gallery and for random streets; its '
                             'subfolders are the countries to choose from')
    parser.add_argument('--weights', nargs='+', metavar='NAME',
                        help='names in resource/ or .safetensors files, for visitors to choose '
                             'from (all in resource/)')
    add_device_argument(parser)
    parser.add_argument('--host', default='127.0.0.1',
                        help='address to serve on (127.0.0.1, this machine alone); 0.0.0.0 serves '
                             'the whole network')
    parser.add_argument('--port', type=int, help='port to serve on (the first free from 7860)')
    parser.epilog = (f'If the environment variable {KEY} holds a key of the Street View Static '
                     'API, random streets come from Street View too. Google charges the key for '
                     'each of them, whoever clicks: set a quota.')


def main(args: argparse.Namespace):
    """Serve the page until interrupted."""
    if FOLDER in os.environ:
        return _serve(args)
    # Otherwise uploads would lie in a folder shared by all users, and stay there after a kill.
    with tempfile.TemporaryDirectory(prefix='segnet_demo_', ignore_cleanup_errors=True) as folder:
        os.environ[FOLDER] = folder
        try:
            _serve(args)
        finally:
            del os.environ[FOLDER]


def _serve(args: argparse.Namespace):
    from segnet_ros.page.layout import build_page, serve
    from segnet_ros.page.models import Models, shipped_weights
    from segnet_ros.page.street_view import StreetViewStreets
    from segnet_ros.page.streets import drive_samples, DriveStreets, folder_samples, \
        FolderStreets, Streets
    samples = drive_samples()
    streets: dict[str, Streets] = {'Sample drive': DriveStreets()}
    if args.samples:
        folder = FolderStreets(args.samples)
        samples = [*folder_samples(folder), *samples]
        streets = {'Samples': folder, **streets}
    if key := os.environ.get(KEY):
        streets['Street View'] = StreetViewStreets(key)
    models = Models(args.weights or shipped_weights(), args.device)
    serve(build_page(models, samples, streets), args.host, args.port)
