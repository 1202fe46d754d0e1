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

"""
Take the demo page's screenshots for the README: `python test/demo_screenshots.py docs`.

They show the sample drive with the weights in resource/, reduced to 256 colours to stay small.
"""

import io
from pathlib import Path
import sys

from PIL import Image
from playwright.sync_api import sync_playwright
from test_demo_browser import CHROMIUM, OPTIONS, PHONE

from segnet_ros.page.layout import build_page, serve
from segnet_ros.page.models import Models, shipped_weights
from segnet_ros.page.streets import drive_samples, DriveStreets

SAMPLE = 5


def main(folder: Path):
    """Write demo_page.png and demo_phone.png to a folder."""
    page = build_page(Models(shipped_weights()), drive_samples(), {'Sample drive': DriveStreets()})
    url = serve(page, wait=False)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=OPTIONS)
        desktop = {'viewport': {'width': 1080, 'height': 900}}
        for name, window in (('demo_page', desktop), ('demo_phone', PHONE)):
            take(browser.new_context(**window).new_page(), url, folder / f'{name}.png')
        browser.close()
    page.close()


def take(page, url: str, path: Path):
    """Show a sample, point at the road, and take the picture."""
    page.goto(url)
    page.locator('.segnet-samples button img').nth(SAMPLE).click()
    page.get_by_text(f'Sample drive {SAMPLE},').wait_for()
    frame = page.locator('.segnet-output .segnet-frame')
    box = frame.bounding_box()
    frame.hover(position={'x': 0.4 * box['width'], 'y': 0.8 * box['height']})
    page.wait_for_timeout(1000)  # until scrolling and toasts have come to rest
    picture = Image.open(io.BytesIO(page.screenshot(full_page=True))).convert('RGB')
    # This method keeps small bright things bright.
    picture.quantize(256, Image.Quantize.FASTOCTREE).save(path, optimize=True)
    print(f'{path}: {picture.width} x {picture.height}, {path.stat().st_size // 1024} kB')


if __name__ == '__main__':
    main(Path(sys.argv[1]))
