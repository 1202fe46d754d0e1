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

"""Check the demo page as people use it: in Chromium, with a mouse, and on a phone."""

import base64
import os
from pathlib import Path
import random
import re
import threading
from urllib.parse import urlsplit

import cv2
import numpy as np
from PIL import Image
from playwright.sync_api import expect, sync_playwright
import pytest
from small_network import write_small_checkpoint

from segnet_ros.labels import load_label_set
from segnet_ros.page.layout import build_page, serve
from segnet_ros.page.models import Models
from segnet_ros.page.result_view import display_name
from segnet_ros.page.streets import DriveStreets, folder_samples, FolderStreets
from segnet_ros.video import VideoWriter

CHROMIUM = Path('/usr/bin/chromium')
# Chromium makes no requests of its own, and its camera shows a synthetic picture.
OPTIONS = ['--headless', '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run',
           '--disable-background-networking', '--disable-component-update', '--disable-sync',
           '--use-fake-device-for-media-stream', '--use-fake-ui-for-media-stream']
PHONE = {'viewport': {'width': 390, 'height': 844}, 'has_touch': True, 'is_mobile': True}
LABELS = load_label_set('camvid11')
expect.set_options(timeout=20_000)  # slowness on a busy machine is no failure
BLOBS = cv2.resize(np.random.default_rng(0).integers(0, 256, (3, 4, 3), np.uint8), (160, 120),
                   interpolation=cv2.INTER_CUBIC)


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    """Return a folder of samples: two countries, a file that is not a picture, and one more."""
    folder = tmp_path_factory.mktemp('samples')
    for index, name in enumerate(['Japan/kyoto.png', 'Japan/osaka.png', 'Peru/lima.png']):
        (folder / name).parent.mkdir(exist_ok=True)
        Image.fromarray(np.roll(BLOBS, 40 * index, 1)).save(folder / name)
    (folder / 'broken.jpg').write_bytes(b'no picture')
    Image.fromarray(np.roll(BLOBS, 40, 0)).save(folder / 'more.png')
    return folder


@pytest.fixture(scope='module')
def models(tmp_path_factory) -> Models:
    """Return two tiny networks of random weights."""
    folder = tmp_path_factory.mktemp('weights')
    return Models([write_small_checkpoint(folder / f'{name}.safetensors', 1 / 16, seed=seed)
                   for seed, name in enumerate(('tiny', 'other'))], 'cpu')


@pytest.fixture(scope='module')
def url(models, folder):
    streets = FolderStreets(folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr('segnet_ros.page.layout.GALLERY_PAGE', 4)
        page = build_page(models, folder_samples(streets),
                          {'Samples': streets, 'Sample drive': DriveStreets()})
        yield serve(page, wait=False)
        page.close()


@pytest.fixture(scope='module')
def windows():
    """Return a desktop and a phone window, reused for their caches: loading is slowest."""
    if not CHROMIUM.exists():
        # CI installs it, and a test skipped there would go unnoticed.
        give_up = pytest.fail if os.environ.get('CI') else pytest.skip
        give_up(f'{CHROMIUM} is missing: apt-get install chromium')
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=OPTIONS)
        yield {'desktop': browser.new_context(viewport={'width': 1280, 'height': 900}),
               'phone': browser.new_context(**PHONE)}
        browser.close()


@pytest.fixture
def visit(windows, url):
    """Return a function that opens the page; whatever it loads must come from this machine."""
    pages, addresses, errors = [], [], []

    def open_page(window: str):
        page = windows[window].new_page()
        pages.append(page)
        page.set_default_timeout(20_000)
        page.on('request', lambda request: addresses.append(request.url))
        page.on('pageerror', lambda error: errors.append(str(error)))
        page.goto(url)
        expect(page.locator('.segnet-legend li')).to_have_count(len(LABELS))
        page.wait_for_function('document.querySelector(".backdrop")?.src')
        # Chromium asks for the thumbnails a moment later.
        page.wait_for_function(
            '(all => all.length && all.every(image => image.complete))'
            '([...document.querySelectorAll(".segnet-samples img")])')
        return page
    yield open_page
    for page in pages:
        page.close()
    hosts = {urlsplit(address).hostname for address in addresses if address.startswith('http')}
    assert hosts == {'127.0.0.1'}
    assert not errors


@pytest.fixture
def page(visit):
    return visit('desktop')


def caption(page):
    return page.locator('.segnet-input small')


def tab(page, name: str):
    page.get_by_role('tab', name=name, exact=True).click()


def upload(page, path: Path):
    tab(page, 'Upload')
    page.locator('#upload input[type=file]').set_input_files(path)


def shown(page, selector: str) -> np.ndarray:
    """Return the image in an element of the page."""
    data = page.locator(selector).get_attribute('src').partition(',')[2]
    return decode(base64.b64decode(data))


def decode(data: bytes) -> np.ndarray:
    image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    return image if image.ndim == 2 else image[..., :3][..., ::-1]


def download(page, name: str) -> np.ndarray:
    with page.expect_download() as started:
        page.get_by_role('link', name=name).click()
    return decode(Path(started.value.path()).read_bytes())


def pixel_of_most_frequent_class(page) -> tuple[str, float, float]:
    """Return the class's name and a point inside it, as shares of width and height."""
    ids = shown(page, '.ids')
    class_id = np.bincount(ids.ravel()).argmax()
    # Away from borders, where one pixel further is another class.
    inside = cv2.erode(np.pad((ids == class_id).astype(np.uint8), 1), np.ones((3, 3)))[1:-1, 1:-1]
    y, x = np.argwhere(inside)[len(np.argwhere(inside)) // 2]
    height, width = ids.shape
    return display_name(LABELS.class_names[class_id]), (x + 0.5) / width, (y + 0.5) / height


def test_the_page_opens_with_a_result_and_nothing_from_elsewhere(page, url, models):
    expect(caption(page)).to_have_text('kyoto.png')
    assert page.title() == 'SegNet'
    elsewhere = page.evaluate("""[...document.querySelectorAll('link[href], script[src]')]
        .map((e) => e.href || e.src)""")
    assert elsewhere and all(address.startswith(url) for address in elsewhere)
    assert np.array_equal(shown(page, '.ids'), models.segment('tiny', BLOBS).label_map)
    boxes = [page.locator(f'.segnet-{name} .segnet-frame').bounding_box()
             for name in ('input', 'output')]
    assert boxes[0]['y'] + boxes[0]['height'] < boxes[1]['y']  # input above
    assert all(abs(box['width'] / box['height'] - 160 / 120) < 0.01 for box in boxes)


def test_a_sample_is_shown_where_it_is_clicked(page):
    samples = page.locator('.segnet-samples button img')
    expect(samples).to_have_count(4)
    samples.nth(2).click()
    expect(caption(page)).to_have_text('lima.png')
    shares = page.locator('.segnet-legend em').all_inner_texts()
    numbers = [float(re.search(r'[\d.]+', share)[0]) for share in shares]
    assert abs(sum(numbers) - 100) < 1 and numbers == sorted(numbers, reverse=True)
    samples.nth(3).click()
    expect(page.get_by_text('broken.jpg is not a picture that can be read')).to_be_visible()
    expect(caption(page)).to_have_text('lima.png')


def test_pages_of_samples_are_turned_by_keyboard_too(page):
    samples = page.locator('.segnet-samples button img')
    for index, name in ((2, 'lima.png'), (0, 'kyoto.png')):
        samples.nth(index).click()
        expect(caption(page)).to_have_text(name)
    page.get_by_role('slider', name='Page of 2').press('ArrowRight')
    expect(samples).to_have_count(1)
    samples.click()
    expect(caption(page)).to_have_text('more.png')
    # A number that is still being typed is no error.
    for number, count in (('', 4), ('9', 1)):
        page.get_by_role('spinbutton', name='Page of 2').fill(number)
        expect(samples).to_have_count(count)
    expect(page.locator('.toast-body')).to_have_count(0)


def test_uploaded_photos_are_shown_upright_and_huge_ones_smaller(page, tmp_path):
    exif = Image.Exif()
    exif[274] = 6
    for name in ('photo.jpg', 'again.jpg'):
        Image.fromarray(BLOBS).save(tmp_path / name, exif=exif)
        upload(page, tmp_path / name)
        expect(caption(page)).to_have_text(name)
        box = page.locator('.segnet-output .segnet-frame').bounding_box()
        assert abs(box['width'] / box['height'] - 120 / 160) < 0.01
        expect(page.get_by_text('Drop a picture here')).to_be_visible()
    Image.fromarray(cv2.resize(BLOBS, (8000, 1200))).save(tmp_path / 'wide.jpg')
    upload(page, tmp_path / 'wide.jpg')
    expect(caption(page)).to_have_text('wide.jpg (scaled down from 8000 x 1200)')


def test_a_broken_file_is_told_and_the_page_goes_on(page, tmp_path):
    (tmp_path / 'broken.png').write_bytes(b'no picture')
    upload(page, tmp_path / 'broken.png')
    expect(page.get_by_text('broken.png is not a picture that can be read')).to_be_visible()
    expect(caption(page)).to_have_text('kyoto.png')
    Image.fromarray(BLOBS).save(tmp_path / 'whole.png')
    upload(page, tmp_path / 'whole.png')
    expect(caption(page)).to_have_text('whole.png')


def test_a_picture_of_the_webcam(page):
    asked = []
    page.on('request', lambda request: asked.append(request.url) if request.method == 'POST'
            else None)
    tab(page, 'Upload')
    page.get_by_role('button', name='Capture from camera').click()
    page.get_by_text('Click to Access Webcam').click()
    button = page.get_by_role('button', name='capture photo')
    expect(button).to_be_visible()
    # No request is pending: Gradio removes the camera while it waits for a response.
    assert not asked
    # The button appears before the camera's first picture: a click then captures nothing or black.
    page.get_by_test_id('webcam-video').evaluate(
        'video => new Promise(done => video.requestVideoFrameCallback(done))')
    button.click()
    expect(caption(page)).not_to_have_text('kyoto.png')
    assert shown(page, '.photo').std() > 1


def test_a_random_street_of_a_country(page):
    random.seed()
    tab(page, 'Random')
    page.locator('#country input').click()
    page.get_by_role('option', name='Peru').click()
    page.get_by_role('button', name='Random street').click()
    expect(caption(page)).to_have_text('lima.png')
    page.get_by_label('Sample drive').click()
    expect(page.locator('#country')).to_be_hidden()
    page.get_by_role('button', name='Random street').click()
    expect(caption(page)).to_contain_text('drawn, not photographed')


def test_overlay_and_confidence_ask_the_server_nothing(page):
    asked = []
    page.on('request', lambda request: asked.append(request.url)
            if request.url.startswith('http') else None)
    colors, confidence = page.locator('.colors'), page.locator('.segnet-frame .confidence')
    page.get_by_label('Overlay').fill('25')
    expect(colors).to_have_css('opacity', '0.25')
    expect(confidence).to_be_hidden()
    page.get_by_role('button', name='Confidence').click()
    expect(confidence).to_be_visible()
    expect(colors).to_be_hidden()
    page.get_by_role('button', name='Classes').click()
    expect(colors).to_be_visible()
    assert not asked
    # The setting stays for the next picture.
    page.locator('.segnet-samples button img').nth(2).click()
    expect(caption(page)).to_have_text('lima.png')
    expect(page.locator('.colors')).to_have_css('opacity', '0.25')


def test_the_class_under_the_pointer_is_named(page):
    name, x, y = pixel_of_most_frequent_class(page)
    for figure in ('input', 'output'):
        frame = page.locator(f'.segnet-{figure} .segnet-frame')
        frame.scroll_into_view_if_needed()
        box = frame.bounding_box()
        page.mouse.move(box['x'] + x * box['width'], box['y'] + y * box['height'])
        expect(frame.locator('output')).to_have_text(re.compile(f'^{name} · [0-9]+ % sure$'))
        expect(page.locator('.segnet-legend .here')).to_have_attribute('data-name', name)
        page.mouse.move(1, 1)
        expect(frame.locator('output')).to_be_hidden()


def test_downloads_hold_what_is_shown(page):
    page.get_by_label('Overlay').fill('50')
    ids = shown(page, '.ids')
    assert np.array_equal(download(page, 'Mask (ids)'), ids)
    colors = LABELS.palette()[ids]
    assert np.array_equal(download(page, 'Colour mask'), colors)
    mixed = (shown(page, '.photo').astype(float) + colors) / 2
    assert np.abs(download(page, 'Overlay') - mixed).max() < 8  # the JPEG is decoded twice


def test_another_model_sees_the_same_picture(page):
    page.locator('.segnet-samples button img').nth(2).click()
    expect(caption(page)).to_have_text('lima.png')
    page.locator('#model input').click()
    page.get_by_role('option', name='other').click()
    expect(page.locator('.segnet-output small')).to_contain_text('other on cpu')
    expect(caption(page)).to_have_text('lima.png')
    image = shown(page, '.photo')
    assert image.shape == BLOBS.shape


def test_a_broken_clip_is_told_and_the_next_one_comes_back_and_plays(page, tmp_path):
    (tmp_path / 'broken.mp4').write_bytes(b'no video')
    tab(page, 'Video')
    page.locator('input[type=file][accept*=video]').set_input_files(tmp_path / 'broken.mp4')
    expect(page.get_by_text('broken.mp4 is not a video that can be read')).to_be_visible()
    with VideoWriter(tmp_path / 'clip.mp4', 5) as video:
        for index in range(5):
            video.write(np.roll(BLOBS, 8 * index, 1))
    page.locator('input[type=file][accept*=video]').set_input_files(tmp_path / 'clip.mp4')
    page.wait_for_selector('#segmented video')
    page.wait_for_function('document.querySelector("#segmented video").currentTime > 0.1')
    size = page.evaluate("""(() => {const v = document.querySelector('#segmented video');
        return [v.videoWidth, v.videoHeight, v.duration]})()""")
    assert size == [160, 240, 1]


def test_a_clip_that_is_taken_away_gives_way_to_the_next(page, tmp_path, models, monkeypatch):
    working, go_on = threading.Event(), threading.Event()
    overlay = models.overlay

    def slow(name, image):
        working.set()
        go_on.wait(20)
        return overlay(name, image)
    monkeypatch.setattr(models, 'overlay', slow)
    for name in ('first', 'second'):
        with VideoWriter(tmp_path / f'{name}.mp4', 5) as video:
            for index in range(5):
                video.write(np.roll(BLOBS, 8 * index, 1))
    tab(page, 'Video')
    page.locator('input[type=file][accept*=video]').set_input_files(tmp_path / 'first.mp4')
    assert working.wait(20)
    page.get_by_role('button', name='Clear').click()
    page.locator('input[type=file][accept*=video]').set_input_files(tmp_path / 'second.mp4')
    page.wait_for_timeout(500)  # so that the upload would be dropped, were the first still going
    go_on.set()
    page.wait_for_selector('#segmented video[src*=second_segmented]')


def test_on_a_phone_nothing_is_wider_than_the_screen(visit):
    page = visit('phone')
    assert page.get_by_role('tab').count() == 5  # none of them in a menu
    for name in ('Samples', 'Upload', 'Random', 'Video'):
        tab(page, name)
        assert page.evaluate('[document.documentElement.scrollWidth, innerWidth]') == [390, 390]
        # Nor is anything cut off at the edge.
        assert page.evaluate("""Math.max(...[...document.querySelectorAll('.segnet-header *, '
            + '.segnet-result *')].map((e) => e.getBoundingClientRect().right))""") <= 390


def test_on_a_small_phone_the_legend_is_no_wider_than_the_picture(visit):
    page = visit('phone')
    page.set_viewport_size({'width': 320, 'height': 568})
    legend, frame = (page.evaluate(
        f'document.querySelector(".segnet-{part}").getBoundingClientRect().right')
        for part in ('legend li', 'frame'))
    assert 0 < legend <= frame <= 320


def test_on_a_phone_a_tap_brings_the_result_and_names_the_class(visit):
    page = visit('phone')
    page.locator('.segnet-samples button img').nth(2).tap()
    expect(caption(page)).to_have_text('lima.png')
    expect(caption(page)).to_be_in_viewport()
    name, x, y = pixel_of_most_frequent_class(page)
    frame = page.locator('.segnet-output .segnet-frame')
    box = frame.bounding_box()
    frame.tap(position={'x': x * box['width'], 'y': y * box['height']})
    expect(frame.locator('output')).to_have_text(re.compile(f'^{name} · '))
