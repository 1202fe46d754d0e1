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
The page: what is on it and what happens on a click, in gradio.

Three inputs (samples, the visitor's own, a random street) each give a Picture; when the picture
or the model changes, so does the result. Everything the page loads comes from this machine.
"""

from collections.abc import Callable, Mapping, Sequence
import contextlib
import functools
import logging
from pathlib import Path
import random
import shutil
import socket
import tempfile
import threading
import time

import gradio as gr

from segnet_ros.page import clips
from segnet_ros.page.models import Models
from segnet_ros.page.pictures import Picture, read_picture, thumbnail
from segnet_ros.page.result_view import display_name, render_result
from segnet_ros.page.streets import ANYWHERE, MISSING, Sample, Streets
from segnet_ros.processes import ignore_signals
from segnet_ros.resources import share_directory

GALLERY_PAGE = 24
MAX_UPLOAD = '500mb'
END_SECONDS = 5.0  # for the frame that is being segmented when the page closes
SESSIONS = 200  # visitors whose last result gradio keeps in memory, a few MB each
HEADER = """
<header class="segnet-header"><h1>SegNet</h1>
<p>Give it a picture of a street and it names every pixel: road, pavement, building, car, person,
sky and more. Pick a sample, bring your own picture, or draw a random street.</p></header>"""
SYSTEM_FONTS = ['system-ui', '-apple-system', 'Segoe UI', 'Roboto', 'sans-serif']
MONO_FONTS = ['ui-monospace', 'Menlo', 'Consolas', 'monospace']


def build_page(models: Models, samples: Sequence[Sample], streets: Mapping[str, Streets]
               ) -> gr.Blocks:
    """
    Return the page.

    :param samples: of the gallery, at least one; the first readable one is shown at the start.
    :param streets: where random streets come from, by the name that visitors read.
    """
    first = _first_readable(samples)
    with gr.Blocks(title='SegNet', analytics_enabled=False, delete_cache=(3600, 3600)) as page:
        gr.HTML(HEADER, apply_default_css=False)
        model = gr.Dropdown(model_choices(models), value=models.names[0], label='Model',
                            visible=len(models.names) > 1, elem_id='model')
        with gr.Tab('Picture'), gr.Row():
            picture = gr.State(first)
            with gr.Column(scale=4, min_width=280, elem_classes='segnet-ways-in'):
                with gr.Tab('Samples'):
                    _add_samples(samples, picture)
                with gr.Tab('Upload'):
                    _add_upload(picture)
                with gr.Tab('Random'):
                    _add_random(streets, picture)
            with gr.Column(scale=6, min_width=280):
                result = gr.HTML(
                    _segment(models, models.names[0], first), apply_default_css=False,
                    elem_classes='segnet-result', js_on_load=_asset('result.js').read_text())
            gr.on([picture.change, model.change], functools.partial(_segment, models),
                  [model, picture], result, concurrency_limit=1, show_progress='minimal')
        with gr.Tab('Video'):
            _add_video(models, model)
    return page


def serve(page: gr.Blocks, host: str = '127.0.0.1', port: int | None = None, wait: bool = True
          ) -> str:
    """
    Serve the page and return its address.

    :param port: None for the first free one from 7860.
    :param wait: return only when interrupted.
    :raises ValueError: if there is no such address here, the port is taken, or nothing answers.
    """
    theme = gr.themes.Default(primary_hue='teal', neutral_hue='slate', radius_size='lg',
                              font=SYSTEM_FONTS, font_mono=MONO_FONTS)
    logging.getLogger('httpx').setLevel(logging.WARNING)  # gradio polls itself to see if it is up
    try:
        # gradio would try a hundred ports of an address that is not ours, for five seconds each.
        family, _, _, _, address = socket.getaddrinfo(host, 0)[0]
        with socket.socket(family) as found:
            found.bind(address)
        _, url, _ = page.queue().launch(
            server_name=host, server_port=port or None, share=False, prevent_thread_lock=True,
            quiet=True, theme=theme, css_paths=_asset('page.css'), footer_links=[],
            run_history=False, ssr_mode=False, max_file_size=MAX_UPLOAD,
            state_session_capacity=SESSIONS)
    except ValueError as error:  # gradio asks itself whether it is up, through any proxy
        raise ValueError(f'the page does not answer on {host}: if HTTP_PROXY is set, name {host} '
                         'in NO_PROXY; if this machine is busy, try again') from error
    except (OSError, OverflowError) as error:
        raise ValueError(f'cannot serve on {host}, port {port or "7860 and following"}: '
                         'choose another with --host and --port') from error
    if wait:
        print(f'SegNet demo on {url} (press Ctrl-C to stop)', flush=True)
        with contextlib.suppress(KeyboardInterrupt):
            while True:  # a signal that another thread takes would not end an endless wait
                time.sleep(1)
        _close(page)
    return url


def _close(page: gr.Blocks):
    """Stop serving, even while a visitor's clip is segmented, which keeps a connection open."""
    ignore_signals()  # a second Ctrl-C would end the process amid this
    logging.getLogger('uvicorn.error').setLevel(logging.CRITICAL)  # tracebacks of what is cut off
    page.server.config.timeout_graceful_shutdown = 1
    page.close(verbose=False)
    # A thread that is still within C++ when Python ends makes it abort. gradio's functions run in
    # AnyIO's, which end after the frame that they are at.
    for thread in threading.enumerate():
        if thread.name.startswith('AnyIO worker'):
            thread.join(END_SECONDS)


def _asset(name: str) -> Path:
    return share_directory() / 'resource' / 'page' / name


def _or_warn(function: Callable) -> Callable:
    """Show a ValueError's message on the page and leave the rest of the page unchanged."""
    @functools.wraps(function)
    def warning(*args, **kwargs):
        try:
            return function(*args, **kwargs)
        except ValueError as error:
            gr.Warning(str(error))
            return gr.skip()
    return warning


def _segment(models: Models, name: str, picture: Picture) -> str:
    return render_result(models.segment(name, picture.image), picture.caption)


def model_choices(models: Models) -> list[tuple[str, str]]:
    """Return (label, name) of each model; the label adds the mIoU on unseen frames, if known."""
    choices = []
    for name in models.names:
        score = models.info(name).unseen_miou()
        words = name if score is None else f'{name} (mIoU {score:.1%})'
        choices.append((words, name))
    return choices


def _first_readable(samples: Sequence[Sample]) -> Picture:
    for sample in samples:
        with contextlib.suppress(ValueError):
            return sample()
    raise ValueError('none of the samples can be read')


def _add_samples(samples: Sequence[Sample], picture: gr.State):
    """Lay out the gallery; it shows one page of a large folder at a time."""
    pages = -(-len(samples) // GALLERY_PAGE)

    @functools.lru_cache(maxsize=20 * GALLERY_PAGE)
    def small(index: int):
        try:
            return thumbnail(samples[index]().image)
        except ValueError:
            return MISSING

    def shown(page: int):
        start = (page - 1) * GALLERY_PAGE
        return [small(i) for i in range(start, min(start + GALLERY_PAGE, len(samples)))], start

    @_or_warn
    def pick(start: int, event: gr.SelectData) -> Picture:
        return samples[start + event.index]()

    first = gr.State(0)  # which sample the gallery begins with
    gallery = gr.Gallery(shown(1)[0], columns=2, height='auto', object_fit='cover', format='jpeg',
                         allow_preview=False, show_label=False, buttons=[], interactive=False,
                         elem_classes='segnet-samples')
    page = gr.Slider(1, max(2, pages), 1, step=1, label=f'Page of {pages}', visible=pages > 1)
    # While visitors type a number, it may be empty or beyond the last page.
    page.preprocess = lambda number: min(max(1, int(number or 1)), pages)  # type: ignore
    # Not on release: only a pointer triggers that, not the arrow keys.
    page.change(shown, page, [gallery, first], show_progress='hidden')
    # Otherwise gradio would drop a click while the previous picture is being drawn.
    gallery.select(pick, first, picture, show_progress='hidden', trigger_mode='multiple')


def _add_upload(picture: gr.State):
    upload = gr.Image(type='filepath', sources=['upload', 'clipboard', 'webcam'], height=320,
                      show_label=False, buttons=[], elem_id='upload',
                      placeholder='Drop a picture here\n- or -\nClick to choose one',
                      webcam_options=gr.WebcamOptions(
                          mirror=False, constraints={'video': {'facingMode': 'environment'}}))
    # Gradio would open the file itself, and show visitors the local path of a broken one.
    upload.preprocess = lambda payload: payload.path  # type: ignore
    gr.Markdown('Your picture stays on the machine that serves this page.')

    # Cleared at once: the result shows the picture, and the next one can be dropped. Not on input:
    # choosing a source triggers that too, and a response to it closes the camera again.
    upload.upload(_or_warn(read_picture), upload, picture, show_progress='hidden').then(
        lambda: None, None, upload, show_progress='hidden')


def _add_random(streets: Mapping[str, Streets], picture: gr.State):
    names = list(streets)
    source = gr.Radio(names, value=names[0], label='From', visible=len(names) > 1)

    def countries(name: str):
        choices = streets[name].countries
        return gr.Dropdown([(display_name(c), c) for c in choices], value=choices[0],
                           label='Country', visible=len(choices) > 1, elem_id='country')

    @_or_warn
    def draw(name: str, country: str) -> Picture:
        # A click may come before the list of the source just chosen.
        known = country if country in streets[name].countries else ANYWHERE
        return streets[name].random_picture(known, random.Random())

    country = countries(names[0])
    button = gr.Button('Random street', variant='primary')
    gr.Markdown('Another street with every click.')
    source.change(countries, source, country, show_progress='hidden')
    button.click(draw, [source, country], picture, show_progress_on=button)


def _add_video(models: Models, model: gr.Dropdown):
    gr.Markdown('Upload a clip from a car or a bicycle: its first '
                f'{clips.MAX_SECONDS:.0f} seconds come back segmented, even if your browser '
                'cannot play the clip itself.')
    with gr.Row():
        clip = gr.Video(sources=['upload'], label='Your clip', height=560, buttons=[],
                        elem_classes='segnet-clip')
        video = gr.Video(label='Input above, segmentation below', interactive=False, height=560,
                         autoplay=True, loop=True, buttons=['download'], elem_id='segmented')

    def segment(name: str, path: str, progress=gr.Progress()):  # noqa: B008 (gradio's way)
        # Where gradio keeps what it serves.
        folder = Path(tempfile.mkdtemp(dir=video.GRADIO_CACHE))
        target = folder / f'{Path(path).stem}_segmented.mp4'
        try:
            # A generator, which gradio closes when the visitor leaves; a function would run on
            # and keep others waiting.
            for done in clips.segment_clip(path, target, functools.partial(models.overlay, name),
                                           gr.Warning):
                yield gr.skip(), gr.skip()
                progress(done, desc='Segmenting')  # after the yield, which hides it
        except (ValueError, OSError) as error:  # OSError: this machine's disk is full
            shutil.rmtree(folder)  # gradio deletes only what it has served
            if isinstance(error, OSError):  # whose path is for the host, not for visitors
                logging.getLogger(__name__).error('%s', error)
            gr.Warning(getattr(error, 'strerror', None) or str(error))
            yield gr.skip(), None  # cleared, so that another clip can be dropped
        except BaseException:  # GeneratorExit among them
            shutil.rmtree(folder)
            raise
        else:
            video.temp_files.add(str(target))  # gradio deletes it when it is old
            yield target, gr.skip()
    segmenting = clip.upload(segment, [model, clip], [video, clip], concurrency_limit=1,
                             show_progress_on=video)
    # Whoever takes a clip away wants another one segmented instead, which would else be dropped.
    clip.clear(None, cancels=segmenting)
