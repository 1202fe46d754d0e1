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
A result as HTML: input above, segmentation below, legend, downloads.

All pictures are in it, so that overlay, confidence and the class under the pointer need no server:
resource/page/result.js does these in the browser. Knows nothing of gradio.
"""

from html import escape

import numpy as np

from segnet_ros.page.models import Result
from segnet_ros.page.pictures import data_uri

_VIEW = """
<figure class="segnet-input">
  <figcaption>Input <small>{caption}</small></figcaption>
  <div class="segnet-frame" style="--aspect: {width} / {height}">
    <img class="photo" src="{photo}" alt="The input"><output></output>
  </div>
</figure>
<figure class="segnet-output">
  <figcaption>Segmentation <small>{made_by}</small></figcaption>
  <div class="segnet-frame" style="--aspect: {width} / {height}">
    <img class="backdrop" alt="">
    <img class="colors" src="{colors}" alt="The class of every pixel">
    <img class="confidence" src="{confidence}" alt="How sure the network is" hidden>
    <img class="ids" src="{ids}" alt="" hidden><output></output>
  </div>
</figure>
<div class="segnet-controls">
  <div role="group" aria-label="View">
    <button type="button" data-view="classes">Classes</button
    ><button type="button" data-view="confidence">Confidence</button>
  </div>
  <label>Overlay <input type="range" min="0" max="100" aria-label="Overlay"></label>
</div>
<ul class="segnet-legend">{legend}</ul>
<nav class="segnet-downloads">Download
  <a download="mask.png" href="{ids}" title="Grey PNG, the class id in each pixel">Mask (ids)</a>
  <a download="color_mask.png" href="{colors}">Colour mask</a>
  <a download="overlay.png" href="#" data-overlay>Overlay</a>
</nav>
"""

_LEGEND_ROW = """
<li class="{presence}" data-id="{id}" data-name="{name}">
  <i style="background: rgb({color})"></i><span>{name}</span>
  <b style="--share: {fraction:.4f}"></b><em>{percent}</em>
</li>"""


def render_result(result: Result, caption: str) -> str:
    """
    Return the HTML of a result.

    :param caption: where the picture comes from; plain text.
    """
    height, width = result.label_map.shape
    made_by = f'{result.made_by}, {seconds_text(result.seconds)}'
    return _VIEW.format(
        caption=escape(caption), made_by=escape(made_by), width=width, height=height,
        photo=data_uri(result.image, 'jpeg'),
        colors=data_uri(result.color_mask, 'png'), ids=data_uri(result.label_map, 'png'),
        confidence=data_uri(result.confidence, 'jpeg'), legend=_legend(result))


def _legend(result: Result) -> str:
    """Return the rows of all classes, the largest share first."""
    return ''.join(
        _LEGEND_ROW.format(
            presence='present' if result.fractions[class_id] else 'absent', id=class_id,
            name=escape(display_name(result.label_set.class_names[class_id])),
            color=', '.join(map(str, result.label_set.colors[class_id])),
            fraction=result.fractions[class_id],
            percent=escape(_percent(result.fractions[class_id])))
        for class_id in np.argsort(-result.fractions, kind='stable'))


def display_name(class_name: str) -> str:
    """Return a class's name for display: 'Sign symbol' for 'sign_symbol'."""
    name = class_name.replace('_', ' ').strip()
    return name[:1].upper() + name[1:]


def seconds_text(seconds: float) -> str:
    """Return a duration as people say it: '63 ms', '1.5 s'."""
    return f'{seconds * 1e3:.0f} ms' if seconds < 1 else f'{seconds:.1f} s'


def _percent(fraction: float) -> str:
    if 0 < fraction < 0.001:
        return '< 0.1 %'
    return f'{fraction:.1%}'.replace('%', ' %')
