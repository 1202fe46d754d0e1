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

"""Check Street View's random streets against a server that answers as the API's docs say."""

from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
import json
import random
import threading
import time
from urllib.parse import parse_qs, urlsplit

import cv2
import numpy as np
import pytest

from segnet_ros.page.street_view import COUNTRIES, StreetViewStreets

KEY = 'SECRET-KEY'
FOUND = {'status': 'OK', 'pano_id': 'tu510ie_z4ptBZYo2BGEJg', 'date': '2016-05',
         'copyright': '© Google', 'location': {'lat': 48.85783, 'lng': 2.295226}}
NOTHING = {'status': 'ZERO_RESULTS'}
PICTURE = np.full((480, 640, 3), (30, 60, 90), np.uint8)


def jpeg() -> bytes:
    return cv2.imencode('.jpg', PICTURE[..., ::-1])[1].tobytes()


class Api:
    """A local stand-in for the API; `metadata` are its answers in turn, and the last repeats."""

    def __init__(self, *metadata: dict, image: bytes = b'', image_status: int = 200):
        self.metadata, self.image, self.image_status = list(metadata), image, image_status
        self.asked: list[tuple[str, dict]] = []
        self.release = threading.Event()
        self.release.set()

    def answer(self, path: str, query: dict) -> tuple[int, str, bytes]:
        self.asked.append((path, query))
        self.release.wait(10)
        if path.endswith('/metadata'):
            found = self.metadata.pop(0) if len(self.metadata) > 1 else self.metadata[0]
            return 200, 'application/json', json.dumps(found).encode()
        return self.image_status, 'image/jpeg', self.image

    def asked_for(self, path: str) -> list[dict]:
        return [query for asked, query in self.asked if asked == '/maps/api/streetview' + path]


@pytest.fixture
def serve():
    """Return a function that serves an Api and returns the streets that query it."""
    servers = []

    def start(api: Api, **options) -> StreetViewStreets:
        class Handler(BaseHTTPRequestHandler):

            def do_GET(self):
                url = urlsplit(self.path)
                query = {name: value for name, [value] in parse_qs(url.query).items()}
                status, kind, body = api.answer(url.path, query)
                self.send_response(status)
                self.send_header('Content-Type', kind)
                self.send_header('Content-Length', str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_):
                pass

        server = ThreadingHTTPServer(('127.0.0.1', 0), Handler)
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, daemon=True).start()
        servers.append((server, api))
        return StreetViewStreets(
            KEY, f'http://127.0.0.1:{server.server_port}/maps/api/streetview', **options)
    yield start
    for server, api in servers:
        api.release.set()
        server.shutdown()
        server.server_close()


def draw(streets: StreetViewStreets, country: str = 'France', seed: int = 0):
    return streets.random_picture(country, random.Random(seed))


def message(streets: StreetViewStreets, country: str = 'France') -> str:
    with pytest.raises(ValueError, match='Street View') as caught:
        draw(streets, country)
    assert KEY not in str(caught.value)
    return str(caught.value)


def test_a_place_with_imagery_gives_its_picture_and_its_copyright_line(serve):
    api = Api(FOUND, image=jpeg())
    picture = draw(serve(api))
    assert picture.image.shape == (480, 640, 3)
    assert np.abs(picture.image.astype(int) - PICTURE).max() < 3
    assert picture.caption == 'Street View · 48.8578, 2.2952 · 2016-05 · © Google'


def test_requests_are_those_that_the_documentation_describes(serve):
    api = Api(FOUND, image=jpeg())
    draw(serve(api))
    (metadata,), (image,) = api.asked_for('/metadata'), api.asked_for('')
    south, west, north, east = COUNTRIES['France']
    latitude, longitude = map(float, metadata['location'].split(','))
    assert south <= latitude <= north and west <= longitude <= east
    assert metadata['key'] == image['key'] == KEY
    assert metadata['source'] == 'outdoor' and metadata['radius'] == '1000'  # metres
    assert image['pano'] == FOUND['pano_id'] and image['return_error_code'] == 'true'
    width, height = map(int, image['size'].split('x'))
    assert width <= 640 and height <= 640
    assert 0 <= int(image['heading']) <= 360 and 10 <= int(image['fov']) <= 120
    assert -90 <= int(image['pitch']) <= 90


def test_places_without_imagery_are_passed_over_and_cost_no_image_call(serve):
    api = Api(NOTHING, {'status': 'UNKNOWN_ERROR'}, {'status': 'NOT_FOUND'}, FOUND, image=jpeg())
    draw(serve(api))
    places = [query['location'] for query in api.asked_for('/metadata')]
    assert len(places) == len(set(places)) == 4
    assert len(api.asked_for('')) == 1


def test_the_search_is_bounded(serve):
    api = Api(NOTHING)
    assert 'no picture at 5 random places in France' in message(serve(api, tries=5))
    assert len(api.asked) == 5


def test_anywhere_goes_to_many_countries(serve):
    api = Api(NOTHING)
    message(serve(api, tries=60), 'anywhere')
    places = [tuple(map(float, q['location'].split(','))) for q in api.asked_for('/metadata')]
    visited = {name for name, (south, west, north, east) in COUNTRIES.items()
               if any(south <= lat <= north and west <= lng <= east for lat, lng in places)}
    assert len(visited) > 10


@pytest.mark.parametrize('answer, expected', [
    ({'status': 'REQUEST_DENIED', 'error_message': 'The provided API key is invalid.'},
     'refused the key'),
    ({'status': 'OVER_QUERY_LIMIT'}, 'quota is used up'),
    ({'status': 'INVALID_REQUEST'}, 'did not understand'),
    ({'status': 'SOMETHING_NEW'}, 'answered SOMETHING_NEW'),
    ({'nothing': 1}, 'without metadata'),
])
def test_a_refusal_ends_the_search_with_its_reason(serve, answer, expected, caplog):
    api = Api(answer)
    told = message(serve(api))
    assert expected in told
    assert len(api.asked) == 1
    # Google's own explanation goes only to the operator's log.
    reason = answer.get('error_message', 'no reason')
    assert reason not in told and (reason in caplog.text) == ('status' in answer)


@pytest.mark.parametrize('status, expected', [
    (403, 'HTTP 403: it refused the key'), (404, 'no picture there'), (500, 'HTTP 500')])
def test_an_image_call_that_fails_is_named(serve, status, expected):
    assert expected in message(serve(Api(FOUND, image=b'text', image_status=status)))


def test_a_broken_image_is_named(serve):
    assert 'broken image' in message(serve(Api(FOUND, image=jpeg()[:2000])))


def test_a_server_that_does_not_answer_is_not_waited_for(serve):
    api = Api(FOUND)
    api.release.clear()
    streets = serve(api, timeout=1)
    start = time.monotonic()
    assert 'did not answer in 1 s' in message(streets)
    assert time.monotonic() - start < 8
    assert len(api.asked) == 1


def test_a_server_that_is_not_there_is_named():
    streets = StreetViewStreets(KEY, 'http://127.0.0.1:9/maps/api/streetview')
    assert 'cannot be reached' in message(streets)


def test_there_is_no_street_view_without_a_key():
    with pytest.raises(ValueError, match='needs a key'):
        StreetViewStreets('')
