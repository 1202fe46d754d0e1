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


"""Test the conversions between messages and arrays against the encodings' definitions."""

import contextlib
import struct
import zlib

import cv2
from hypothesis import given, settings, strategies as st
import numpy as np
import pytest
from rclpy.serialization import deserialize_message, serialize_message
from sensor_msgs.msg import CompressedImage, Image
from std_msgs.msg import Header

from segnet_ros.encodings import ImageConversionError, SUPPORTED_ENCODINGS
from segnet_ros.ros.conversions import (
    compressed_message, image_from_message, preallocated_image)

CHANNELS = {'rgb': 'RGB', 'bgr': 'BGR', 'rgba': 'RGBA', 'bgra': 'BGRA', 'mono': 'Y',
            '8UC1': 'Y', '8UC3': 'BGR', '8UC4': 'BGRA'}
MACROPIXELS = {'yuv422': 'UYVY', 'uyvy': 'UYVY', 'yuv422_yuy2': 'YUYV', 'yuyv': 'YUYV'}
CHROMA_PAIRS = {'nv12': 'UV', 'nv21': 'VU'}
BAYER = [name for name in SUPPORTED_ENCODINGS if name.startswith('bayer')]
YUV = [*MACROPIXELS, *CHROMA_PAIRS]
PACKED = [name for name in SUPPORTED_ENCODINGS if name not in (*BAYER, *YUV)]
SIZES = [(1, 1), (1, 2), (2, 1), (2, 2), (3, 5), (4, 6), (6, 3), (5, 16)]


def channels_of(encoding):
    return CHANNELS.get(encoding) or CHANNELS[encoding.rstrip('168')]


def sample_bytes(encoding):
    return 2 if encoding.endswith('16') else 1


def row_bytes(encoding, width):
    if encoding in MACROPIXELS:
        return (width + 1) // 2 * 4
    if encoding in CHROMA_PAIRS:
        return (width + 1) // 2 * 2
    count = 1 if encoding in BAYER else len(channels_of(encoding))
    return width * count * sample_bytes(encoding)


def row_count(encoding, height):
    return height + (height + 1) // 2 if encoding in CHROMA_PAIRS else height


def make_message(encoding, height, width, padding=0, is_bigendian=0, data=None):
    """Return a message of random bytes by default, padding included."""
    step = row_bytes(encoding, width) + padding
    msg = Image(encoding=encoding, height=height, width=width, step=step,
                is_bigendian=is_bigendian)
    size = row_count(encoding, height) * step
    random = np.random.default_rng(height * 1000 + width)
    msg.data.frombytes(random.bytes(size) if data is None else data)
    return msg


def read_sample(msg, y, index):
    """Return a sample of a row, scaled to 0 to 255, byte by byte from the definition."""
    if sample_bytes(msg.encoding) == 1:
        return msg.data[y * msg.step + index]
    first, second = msg.data[y * msg.step + 2 * index:][:2]
    value = first * 256 + second if msg.is_bigendian else second * 256 + first
    return round(value * 255 / 65535)


def reference_packed(msg, y, x):
    names = channels_of(msg.encoding)
    pixel = {name: read_sample(msg, y, x * len(names) + i) for i, name in enumerate(names)}
    return [pixel['Y']] * 3 if 'Y' in pixel else [pixel[name] for name in 'RGB']


def yuv_to_rgb(y, u, v):
    """Return RGB from limited-range BT.601, by the textbook formula."""
    y, u, v = 1.164 * max(y - 16, 0), u - 128, v - 128
    return np.clip([y + 1.596 * v, y - 0.813 * v - 0.391 * u, y + 2.018 * u], 0, 255)


def reference_yuv(msg, y, x):
    if msg.encoding in MACROPIXELS:
        order = MACROPIXELS[msg.encoding]
        four = [read_sample(msg, y, x // 2 * 4 + i) for i in range(4)]
        luma = four[[i for i in range(4) if order[i] == 'Y'][x % 2]]
        return yuv_to_rgb(luma, four[order.index('U')], four[order.index('V')])
    order = CHROMA_PAIRS[msg.encoding]
    pair = [read_sample(msg, msg.height + y // 2, x // 2 * 2 + i) for i in range(2)]
    return yuv_to_rgb(read_sample(msg, y, x), pair[order.index('U')], pair[order.index('V')])


def mosaic_color(encoding, y, x):
    return encoding.removeprefix('bayer_')[y % 2 * 2 + x % 2].upper()


def reference_bayer(msg, y, x):
    """Return the pixel by bilinear interpolation: the mean of each colour's nearest samples."""
    pixel = []
    for color in 'RGB':
        around = [(y + dy, x + dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1)]
        if mosaic_color(msg.encoding, y, x) == color:
            around = [(y, x)]
        pixel.append(np.mean([read_sample(msg, j, i) for j, i in around
                              if mosaic_color(msg.encoding, j, i) == color]))
    return pixel


def reference_image(msg, reference, margin=0):
    return np.array([[reference(msg, y, x) for x in range(margin, msg.width - margin)]
                     for y in range(margin, msg.height - margin)])


def assert_close(image, expected, tolerance):
    assert image.dtype == np.uint8
    assert image.shape == expected.shape
    assert np.abs(image - expected).max() <= tolerance


@pytest.mark.parametrize('size', SIZES)
@pytest.mark.parametrize('padding', [0, 1, 8])
@pytest.mark.parametrize('is_bigendian', [0, 1])
@pytest.mark.parametrize('encoding', PACKED)
def test_packed_encodings_match_their_definition(encoding, is_bigendian, padding, size):
    msg = make_message(encoding, *size, padding, is_bigendian)
    assert_close(image_from_message(msg), reference_image(msg, reference_packed), 0)


@pytest.mark.parametrize('size', SIZES)
@pytest.mark.parametrize('padding', [0, 1, 8])
@pytest.mark.parametrize('encoding', YUV)
def test_yuv_matches_bt601(encoding, padding, size):
    msg = make_message(encoding, *size, padding)
    assert_close(image_from_message(msg), reference_image(msg, reference_yuv), 1)


@pytest.mark.parametrize('size', [(3, 3), (4, 6), (7, 5), (8, 16)])
@pytest.mark.parametrize('padding', [0, 1, 8])
@pytest.mark.parametrize('is_bigendian', [0, 1])
@pytest.mark.parametrize('encoding', BAYER)
def test_bayer_interpolates_between_samples(encoding, is_bigendian, padding, size):
    msg = make_message(encoding, *size, padding, is_bigendian)
    inside = image_from_message(msg)[1:-1, 1:-1]
    assert_close(inside, reference_image(msg, reference_bayer, margin=1), 1)


def flat_mosaic(encoding, height, width, color):
    samples = [[color['RGB'.index(mosaic_color(encoding, y, x))] for x in range(width)]
               for y in range(height)]
    dtype, factor = ('<u2', 257) if encoding.endswith('16') else (np.uint8, 1)
    return (np.array(samples) * factor).astype(dtype)


@pytest.mark.parametrize('size', [(2, 2), (2, 7), (7, 2), (3, 3), (9, 12)])
@pytest.mark.parametrize('encoding', BAYER)
def test_bayer_of_one_color_is_that_color_to_the_edges(encoding, size):
    mosaic = flat_mosaic(encoding, *size, (200, 90, 10))
    image = image_from_message(make_message(encoding, *size, data=mosaic.tobytes()))
    assert image.shape == (*size, 3)
    assert (image == (200, 90, 10)).all()


@pytest.mark.parametrize('encoding', BAYER)
def test_bayer_of_one_pixel_is_grey(encoding):
    msg = make_message(encoding, 1, 1)
    assert image_from_message(msg).tolist() == [[[read_sample(msg, 0, 0)] * 3]]


def test_cv_bridge_agrees_wherever_it_answers():
    """Skip 8UC3 and 8UC4: cv_bridge takes their channel order to be the one asked for."""
    bridge = pytest.importorskip('cv_bridge').CvBridge()
    answered = []
    for encoding in set(SUPPORTED_ENCODINGS) - {'8UC3', '8UC4'}:
        msg = make_message(encoding, 12, 16)
        try:
            theirs = bridge.imgmsg_to_cv2(msg, 'rgb8')
        except Exception:  # noqa: BLE001  Each version raises a different error.
            continue
        answered.append(encoding)
        assert_close(image_from_message(msg), theirs, int(encoding.endswith('16')))
    assert {'rgb8', 'bgr8', 'rgba8', 'bgra8', 'mono8', 'bayer_rggb8', 'bayer_bggr8',
            'bayer_gbrg8'} <= set(answered)


@pytest.mark.parametrize('padding', [0, 5])
def test_rgb8_is_a_view_of_the_message(padding):
    msg = make_message('rgb8', 4, 6, padding)
    image = image_from_message(msg)
    assert np.shares_memory(image, np.frombuffer(msg.data, np.uint8))
    assert image.strides == (msg.step, 3, 1)


@pytest.mark.parametrize('encoding', SUPPORTED_ENCODINGS)
def test_rows_of_pixels_are_contiguous(encoding):
    image = image_from_message(make_message(encoding, 3, 5, padding=3))
    assert image[0].flags.c_contiguous


@pytest.mark.parametrize('encoding', ['rgb8', 'bayer_rggb8', 'nv12', 'mono16'])
def test_8k(encoding):
    size = row_bytes(encoding, 7680) * row_count(encoding, 4320)
    image = image_from_message(make_message(encoding, 4320, 7680, data=b'\x80' * size))
    assert image.shape == (4320, 7680, 3)
    assert image[-1, -1].tolist() == ([130] * 3 if encoding == 'nv12' else [128] * 3)


def test_a_grey_image_of_no_colour_s_name_is_no_depth_image():
    grey = np.arange(48, dtype=np.uint8).reshape(6, 8)
    msg = compressed_message(grey, 'png', Header())
    msg.format = '8UC1; png compressed '
    assert (image_from_message(msg) == grey[..., None]).all()


@pytest.mark.parametrize('encoding', ['rgb8', 'bgr8', 'mono16', 'bayer_rggb8', 'uyvy', 'nv12'])
def test_what_a_driver_leaves_behind_the_image_is_not_read(encoding):
    """Such as the rest of a buffer that is filled up to whole pages."""
    msg = make_message(encoding, 4, 6)
    expected = image_from_message(msg).copy()
    msg.data.frombytes(bytes(4096))
    assert np.array_equal(image_from_message(msg), expected)


@pytest.mark.parametrize('change, message', [
    ({'encoding': '32FC1'}, "encoding '32FC1' is not supported; supported are rgb8, .*nv21$"),
    ({'encoding': ''}, "encoding '' is not supported"),
    ({'encoding': 'yuv999'}, "encoding 'yuv999' is not supported"),
    ({'width': 0}, '0x4 rgb8 image: it is empty'),
    ({'height': 0}, '6x0 rgb8 image: it is empty'),
    ({'step': 17}, '6x4 rgb8 image: a row needs at least 18 bytes, but step is 17'),
    ({'height': 5}, '6x5 rgb8 image: 5 rows of step 18 are 90 bytes, but data has 72'),
    ({'encoding': 'mono16', 'width': 10}, 'a row needs at least 20 bytes, but step is 18'),
    ({'encoding': 'uyvy', 'width': 9}, 'a row needs at least 20 bytes, but step is 18'),
    ({'encoding': 'nv12'}, '6 rows of step 18 are 108 bytes, but data has 72'),
    ({'width': 2 ** 32 - 1}, 'a row needs at least 12884901885 bytes'),
    ({'height': 2 ** 32 - 1}, 'but data has 72'),
])
def test_bad_messages_get_one_clear_line(change, message):
    msg = make_message('rgb8', 4, 6)
    for field, value in change.items():
        setattr(msg, field, value)
    with pytest.raises(ImageConversionError, match=message) as caught:
        image_from_message(msg)
    assert '\n' not in str(caught.value)


@pytest.mark.parametrize('encoding', SUPPORTED_ENCODINGS)
def test_one_byte_too_few_is_an_error(encoding):
    msg = make_message(encoding, 3, 5, padding=1)
    msg.data.pop()
    with pytest.raises(ImageConversionError,
                       match=f'are {len(msg.data) + 1} bytes, but data has {len(msg.data)}'):
        image_from_message(msg)


NUMBERS = st.one_of(st.integers(0, 12), st.integers(0, 100), st.integers(2 ** 31, 2 ** 32 - 1))


@settings(max_examples=300, deadline=None)
@given(st.one_of(st.sampled_from(SUPPORTED_ENCODINGS), st.text(max_size=8)),
       NUMBERS, NUMBERS, NUMBERS, st.integers(0, 255), st.integers(0, 3000))
def test_any_message_is_an_image_or_an_error(encoding, height, width, step, big, size):
    msg = Image(encoding=encoding, height=height, width=width, step=step, is_bigendian=big)
    msg.data.frombytes(bytes(i % 251 for i in range(size)))
    with contextlib.suppress(ImageConversionError):
        image = image_from_message(msg)
        assert image.shape == (height, width, 3)
        assert image.dtype == np.uint8


def smooth_image(height=48, width=64, channels=3):
    noise = np.random.default_rng(3).integers(0, 256, (6, 8, channels), np.uint8)
    return cv2.resize(noise, (width, height), interpolation=cv2.INTER_CUBIC)


def compressed(pixels, extension, message_format=None):
    """Return a compressed message of pixels in OpenCV's order, BGR(A)."""
    msg = CompressedImage(format=message_format or extension)
    msg.data.frombytes(cv2.imencode(f'.{extension}', pixels)[1])
    return msg


@pytest.mark.parametrize('message_format', [
    'jpeg', 'jpg', '', 'rgb8; jpeg compressed bgr8', 'bgr8; jpeg compressed bgr8'])
def test_jpeg(message_format):
    rgb = smooth_image()
    msg = compressed(rgb[..., ::-1], 'jpeg', message_format)
    assert np.abs(image_from_message(msg).astype(int) - rgb).mean() < 3


def test_webp():
    rgb = smooth_image()
    image = image_from_message(compressed(rgb[..., ::-1], 'webp'))
    assert image.dtype == np.uint8
    assert np.abs(image.astype(int) - rgb).mean() < 3


@pytest.mark.parametrize('dtype', [np.uint8, np.uint16])
@pytest.mark.parametrize('channels', [1, 3, 4])
def test_any_png_becomes_rgb(channels, dtype):
    pixels = smooth_image(channels=channels).reshape(48, 64, channels)
    rgb = np.repeat(pixels, 3, 2) if channels == 1 else pixels[..., 2::-1]
    factor = 257 if dtype is np.uint16 else 1
    image = image_from_message(compressed(pixels.astype(dtype) * dtype(factor), 'png'))
    assert_close(image, rgb.astype(int), 0)


@pytest.mark.parametrize('encoding', BAYER)
def test_compressed_bayer_is_demosaicked(encoding):
    mosaic = flat_mosaic(encoding, 6, 8, (200, 90, 10))
    msg = compressed(mosaic, 'png', f'{encoding}; png compressed ')
    assert (image_from_message(msg) == (200, 90, 10)).all()
    if mosaic.dtype != np.uint8:
        return  # WebP has only 8 bits
    _, lossless = cv2.imencode('.webp', mosaic, (cv2.IMWRITE_WEBP_QUALITY, 101))
    msg = CompressedImage(format=f'{encoding}; webp compressed ', data=lossless.tobytes())
    assert (image_from_message(msg) == (200, 90, 10)).all()


def test_what_is_compressed_in_colour_is_no_mosaic_whatever_its_format_says():
    rgb = smooth_image()
    msg = compressed(rgb[..., ::-1], 'png', 'bayer_rggb8; jpeg compressed bgr8')
    assert_close(image_from_message(msg), rgb.astype(int), 0)


@pytest.mark.parametrize('stored', ['mono8', 'bgr8'])
def test_a_grey_picture_of_a_bayer_camera_is_no_mosaic(stored):
    """image_transport makes JPEGs of Bayer images grey, unless jpeg_compress_bayer is set."""
    grey = np.zeros((48, 64), np.uint8)
    grey[:, ::4] = 255
    pixels = grey if stored == 'mono8' else np.repeat(grey[..., None], 3, 2)
    image = image_from_message(
        compressed(pixels, 'png', f'bayer_rggb8; jpeg compressed {stored}'))
    assert_close(image, np.repeat(grey[..., None], 3, 2).astype(int), 0)


@pytest.mark.parametrize('stored', ['', 'bayer_rggb8'])
def test_a_mosaic_in_a_jpeg_is_demosaicked(stored):
    mosaic = flat_mosaic('bayer_rggb8', 6, 8, (200, 90, 10))
    msg = compressed(mosaic, 'png', f'bayer_rggb8; jpeg compressed {stored}')
    assert (image_from_message(msg) == (200, 90, 10)).all()


def test_exif_orientation_is_ignored():
    msg = compressed(smooth_image(), 'jpeg')
    quarter_turn = struct.pack('<2sHIHHHIII', b'II', 42, 8, 1, 0x112, 3, 1, 6, 0)
    exif = b'Exif\0\0' + quarter_turn
    data = msg.data.tobytes()
    turned = data[:2] + b'\xff\xe1' + struct.pack('>H', len(exif) + 2) + exif + data[2:]
    assert cv2.imdecode(np.frombuffer(turned, np.uint8), cv2.IMREAD_COLOR).shape == (64, 48, 3)
    msg.data = turned
    assert image_from_message(msg).shape == (48, 64, 3)


@pytest.mark.parametrize('image_format', [
    '16UC1; compressedDepth png', '16UC1; png compressed ', '32FC1; compressedDepth'])
def test_compressed_depth_is_refused(image_format):
    msg = compressed(np.zeros((4, 6), np.uint16), 'png', image_format)
    with pytest.raises(ImageConversionError, match='this is a depth image'):
        image_from_message(msg)


@pytest.mark.parametrize('extension', ['jpeg', 'png', 'webp'])
def test_cut_images_are_refused(extension):
    whole = compressed(smooth_image(480, 640), extension)
    for percent in (0, 1, 10, 50, 90, 98):
        size = len(whole.data) * percent // 100
        with pytest.raises(ImageConversionError, match=f'the {size} bytes are not a whole jpeg'):
            image_from_message(CompressedImage(format=extension, data=whole.data[:size]))


def test_cut_jpeg_with_a_thumbnail_never_reaches_opencv(monkeypatch):
    """The end marker of an embedded thumbnail is not the end of the image."""
    data = compressed(smooth_image(480, 640), 'jpeg').data.tobytes()
    thumbnail = compressed(smooth_image(8, 8), 'jpeg').data.tobytes()
    comment = b'\xff\xfe' + struct.pack('>H', len(thumbnail) + 2) + thumbnail
    whole = data[:2] + comment + data[2:]
    assert image_from_message(CompressedImage(data=whole)).shape == (480, 640, 3)
    monkeypatch.setattr(cv2, 'imdecode', None)  # An old OpenCV would decode it.
    with pytest.raises(ImageConversionError):
        image_from_message(CompressedImage(data=whole[:-len(data) // 2]))


def test_a_png_too_large_for_opencv_is_refused():
    data = compressed(smooth_image(), 'png').data.tobytes()
    header = b'IHDR' + struct.pack('>II', 2 ** 16, 2 ** 16) + data[24:29]
    huge = data[:12] + header + struct.pack('>I', zlib.crc32(header)) + data[33:]
    with pytest.raises(ImageConversionError):
        image_from_message(CompressedImage(data=huge))


def test_bytes_after_a_jpeg_do_no_harm():
    msg = compressed(smooth_image(), 'jpeg')
    msg.data.frombytes(bytes(100))
    assert image_from_message(msg).shape == (48, 64, 3)


def test_other_formats_and_garbage_lengths_never_reach_opencv(monkeypatch):
    """Try a format that OpenCV can read, and a length it would allocate gigabytes for."""
    monkeypatch.setattr(cv2, 'imdecode', None)
    for data in (cv2.imencode('.bmp', smooth_image())[1].tobytes(),
                 b'\x89PNG\r\n\x1a\n\xf1\x13\xa5\xf2IHDR' + bytes(50)):
        with pytest.raises(ImageConversionError, match='are not a whole jpeg, png or webp image'):
            image_from_message(CompressedImage(data=data))


@settings(max_examples=100, deadline=None)
@given(st.sampled_from([b'', b'\xff\xd8\xff', b'\x89PNG\r\n\x1a\n', b'RIFF\0\0\0\0WEBP']),
       st.binary(max_size=200), st.text(max_size=12))
def test_any_compressed_bytes_are_an_image_or_an_error(start, rest, message_format):
    with contextlib.suppress(ImageConversionError):
        image = image_from_message(CompressedImage(format=message_format, data=start + rest))
        assert image.ndim == 3
        assert image.dtype == np.uint8


@settings(max_examples=100, deadline=None)
@given(st.sampled_from(['jpeg', 'png', 'webp']), st.floats(0.5, 1, exclude_max=True),
       st.integers(0, 255))
def test_a_damaged_byte_gives_an_image_or_an_error(extension, place, value):
    msg = compressed(smooth_image(240, 320), extension)
    msg.data[int(place * len(msg.data))] = value
    with contextlib.suppress(ImageConversionError):
        assert image_from_message(msg).shape == (240, 320, 3)


@pytest.mark.parametrize('encoding, shape', [('mono8', (3, 5)), ('rgb8', (3, 5, 3))])
def test_preallocated_image_is_written_through_its_view(encoding, shape):
    msg, view = preallocated_image(encoding, 3, 5)
    assert view.shape == shape
    assert (msg.encoding, msg.height, msg.width) == (encoding, 3, 5)
    assert (msg.step, msg.is_bigendian) == (view[0].size, 0)
    assert np.shares_memory(view, np.frombuffer(msg.data, np.uint8))
    for offset in (0, 100):  # The message is reused, each time with new content.
        view[...] = np.arange(view.size).reshape(shape) + offset
        received = deserialize_message(serialize_message(msg), Image)
        expected = view if encoding == 'rgb8' else np.repeat(view[..., None], 3, 2)
        assert np.array_equal(image_from_message(received), expected)
        assert received.data[:2].tolist() == [offset, offset + 1]


def test_compressed_mask_keeps_every_value():
    mask = np.random.default_rng(5).integers(0, 256, (7, 9), np.uint8)
    header = Header(frame_id='camera')
    msg = compressed_message(mask, 'png', header)
    received = deserialize_message(serialize_message(msg), CompressedImage)
    assert received.header == header
    assert received.format == 'mono8; png compressed '
    stored = cv2.imdecode(np.frombuffer(received.data, np.uint8), cv2.IMREAD_UNCHANGED)
    assert np.array_equal(stored, mask)


@pytest.mark.parametrize('codec, tolerance', [('png', 0), ('jpeg', 6)])
def test_compressed_colors_come_back(codec, tolerance):
    image = np.full((16, 16, 3), (250, 120, 20), np.uint8)
    msg = compressed_message(image, codec, Header())
    assert msg.format == f'rgb8; {codec} compressed bgr8'
    assert_close(image_from_message(msg), image.astype(int), tolerance)
