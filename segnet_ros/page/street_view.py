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
Random streets from Google's Street View Static API, for visitors whose host has a key for it.

The API's pages: developers.google.com/maps/documentation/streetview/metadata (free of charge; says
whether there is imagery near a place) and .../request-streetview (the image; charged for). Knows
nothing of the page.
"""

from collections.abc import Mapping
from http.client import HTTPException
import json
import logging
from math import cos, radians
import random
import urllib.error
import urllib.parse
import urllib.request

from segnet_ros.frames import decode_image
from segnet_ros.page.pictures import fit_picture, Picture
from segnet_ros.page.streets import ANYWHERE

BASE_URL = 'https://maps.googleapis.com/maps/api/streetview'
RADIUS = 1000  # metres around a random place in which imagery is looked for

# South, west, north, east in degrees: boxes well inside the countries, where there are roads.
COUNTRIES: dict[str, tuple[float, float, float, float]] = {
    'Argentina': (-35.0, -63.0, -31.5, -59.5),
    'Australia': (-37.9, 143.5, -33.5, 150.5),
    'Brazil': (-23.5, -49.0, -20.0, -44.0),
    'Canada': (45.0, -74.5, 46.5, -72.5),
    'England': (51.3, -2.5, 53.5, -0.2),
    'France': (44.0, 0.0, 49.0, 4.5),
    'Ireland': (52.3, -8.5, 53.5, -6.8),
    'Italy': (44.6, 8.6, 45.6, 11.5),
    'Japan': (35.0, 136.0, 36.5, 139.5),
    'Mexico': (19.0, -103.5, 21.5, -98.0),
    'Netherlands': (51.8, 4.6, 52.6, 5.9),
    'New Zealand': (-38.5, 175.0, -37.2, 176.2),
    'Poland': (50.8, 17.0, 53.2, 21.5),
    'South Africa': (-27.0, 26.5, -25.5, 29.5),
    'Spain': (38.5, -5.5, 41.8, -0.8),
    'Sweden': (57.5, 13.0, 59.8, 16.0),
    'Taiwan': (23.2, 120.3, 24.8, 121.0),
    'United States': (33.0, -98.0, 41.5, -82.0),
}

# Statuses of the metadata call after which another place is tried.
ELSEWHERE = ('ZERO_RESULTS', 'NOT_FOUND', 'UNKNOWN_ERROR')
REFUSED = {
    'OVER_QUERY_LIMIT': "Street View: the key's quota is used up, or it has no billing",
    'REQUEST_DENIED': 'Street View refused the key',
    'INVALID_REQUEST': 'Street View did not understand the request',
}


class StreetViewStreets:
    """
    Random Street View pictures.

    :param key: of the Street View Static API; never part of a message.
    :param base_url: the API's address; another one for tests.
    :param timeout: seconds that each answer may take.
    :param tries: random places to ask for before giving up.
    """

    countries = (ANYWHERE, *COUNTRIES)

    def __init__(self, key: str, base_url: str = BASE_URL, timeout: float = 8.0, tries: int = 20):
        if not key:
            raise ValueError('Street View needs a key')
        self._key, self._base_url = key, base_url
        self._timeout, self._tries = timeout, tries

    def random_picture(self, country: str, rng: random.Random) -> Picture:
        """
        Return a picture in a random direction from a random place of a country.

        :raises ValueError: if no place has imagery, or the API refuses or cannot be reached.
        """
        found = self._find(country, rng)
        data = self._get('', pano=found['pano_id'], size='640x480', heading=rng.randrange(360),
                         fov=90, pitch=0, return_error_code='true')
        try:
            image = decode_image(data)
        except ValueError:
            raise ValueError('Street View sent a broken image; try again') from None
        return fit_picture(image, _caption(found))

    def _find(self, country: str, rng: random.Random) -> Mapping:
        """Return the metadata of a panorama near a random place."""
        for _ in range(self._tries):
            box = COUNTRIES[rng.choice(list(COUNTRIES)) if country == ANYWHERE else country]
            place = '{:.5f},{:.5f}'.format(*_random_place(box, rng))
            answer = self._get('/metadata', location=place, radius=RADIUS, source='outdoor')
            try:
                found = json.loads(answer)
                status = found['status']
            except (ValueError, KeyError, TypeError):
                raise ValueError('Street View sent an answer without metadata') from None
            if status == 'OK' and 'pano_id' in found:
                return found
            if status not in ELSEWHERE:
                # Google's reason is for the key's owner, not for visitors.
                logging.getLogger(__name__).warning(
                    'Street View answered %s: %s', status, found.get('error_message', 'no reason'))
                raise ValueError(REFUSED.get(status, f'Street View answered {status}'))
        where = 'anywhere' if country == ANYWHERE else f'in {country}'
        raise ValueError(f'Street View has no picture at {self._tries} random places {where}; '
                         'try again')

    def _get(self, path: str, **parameters) -> bytes:
        query = urllib.parse.urlencode({**parameters, 'key': self._key})
        try:
            with urllib.request.urlopen(f'{self._base_url}{path}?{query}',
                                        timeout=self._timeout) as response:
                return response.read()
        except urllib.error.HTTPError as error:
            meaning = {403: ': it refused the key', 404: ': it has no picture there'}
            raise ValueError(f'Street View answered HTTP {error.code}'
                             f'{meaning.get(error.code, "")}') from None
        except (OSError, HTTPException) as error:
            reason: object = getattr(error, 'reason', error)
            if isinstance(reason, TimeoutError):
                raise ValueError(f'Street View did not answer in {self._timeout:g} s') from None
            raise ValueError(f'Street View cannot be reached: {reason or type(reason).__name__}'
                             ) from None


def _random_place(box: tuple[float, float, float, float], rng: random.Random
                  ) -> tuple[float, float]:
    """Return latitude and longitude, uniformly distributed over the area of the box."""
    south, west, north, east = box
    while True:
        latitude = rng.uniform(south, north)
        if rng.random() < cos(radians(latitude)):
            return latitude, rng.uniform(west, east)


def _caption(found: Mapping) -> str:
    """Return place, date and the copyright line, which must be shown."""
    place = found.get('location', {})
    parts = ['Street View']
    if {'lat', 'lng'} <= place.keys():
        parts.append(f'{place["lat"]:.4f}, {place["lng"]:.4f}')
    parts += [str(found[name]) for name in ('date', 'copyright') if found.get(name)]
    return ' · '.join(parts)
