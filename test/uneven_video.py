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

"""A video with uneven intervals between its frames."""

from fractions import Fraction

import av
from rendered_pictures import picture


def write_uneven_video(path, milliseconds):
    """Write a frame at each time; phones space them unevenly in the dark."""
    with av.open(str(path), 'w', options={'movflags': 'faststart'}) as container:
        stream = container.add_stream('libx264', 30)
        stream.width, stream.height, stream.pix_fmt = 64, 48, 'yuv420p'
        stream.codec_context.time_base = Fraction(1, 1000)
        for seed, time in enumerate(milliseconds):
            frame = av.VideoFrame.from_ndarray(picture(seed, (48, 64)), 'rgb24')
            frame.pts, frame.time_base = time, Fraction(1, 1000)
            container.mux(stream.encode(frame.reformat(format='yuv420p')))
        container.mux(stream.encode())
