"""The decode policy against independent truths: NumPy formulae, and the picture that was drawn."""

import os
import subprocess
import sys
import threading
from typing import Any

import numpy as np
import pytest
from data import corpus
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from thalweg.data.images.decode import (
    ANIMATED,
    DARK,
    DEEP,
    FLAT,
    PADDED,
    PADDING_GREY,
    PROFILE,
    decode,
    with_channels,
)
from thalweg.data.images.formats import read_file
from thalweg.errors import DataError

S = 16
RGB = corpus.pixels(7, size=S)
GREY = np.asarray(Image.fromarray(RGB).convert("L"))
ALPHA = np.linspace(0, 255, S * S).reshape(S, S).astype(np.uint8)


SOFT = RGB // 4 + 96  # colours that CIELAB holds well in 8 bits


def over_white(colours, alpha):
    """The textbook formula, in floating point."""
    share = alpha[..., None] / 255
    return colours * share + 255 * (1 - share)


def ramp(dtype, top):
    return np.linspace(0, top, S * S).reshape(S, S).astype(dtype)


def lab_picture():
    from PIL import ImageCms

    srgb, lab = ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB")
    return ImageCms.profileToProfile(Image.fromarray(SOFT), srgb, lab, outputMode="LAB")


def transparent_palette():
    image = Image.fromarray(RGB).quantize(16)
    image.info["transparency"] = 3
    return image


def palette_reference(image):
    colours = np.array(image.getpalette()).reshape(-1, 3)[np.asarray(image)].astype(float)
    colours[np.asarray(image) == image.info.get("transparency", -1)] = 255
    return colours


BIT = (GREY > 127).astype(np.uint8) * 255
CMYK = np.stack([255 - RGB[..., 0], 255 - RGB[..., 1], 255 - RGB[..., 2], ALPHA], axis=-1)
# name → (file, expected [h, w, 1 or 3], tolerance in grey levels)
MODES = {
    "RGB": (corpus.encoded(Image.fromarray(RGB)), RGB, 0),
    "L": (corpus.encoded(Image.fromarray(GREY)), GREY[..., None], 0),
    "1": (corpus.encoded(Image.fromarray(BIT).convert("1")), BIT[..., None], 0),
    "RGBA": (
        corpus.encoded(Image.fromarray(np.dstack([RGB, ALPHA]))),
        over_white(RGB.astype(float), ALPHA),
        1,
    ),
    "LA": (
        corpus.encoded(Image.fromarray(np.dstack([GREY, ALPHA]), "LA")),
        over_white(GREY[..., None].astype(float), ALPHA),
        1,
    ),
    "P": (
        corpus.encoded(p := Image.fromarray(RGB).quantize(16)),
        palette_reference(p),
        0,
    ),
    "P with a transparent colour": (
        corpus.encoded(t := transparent_palette(), transparency=3),
        palette_reference(t),
        0,
    ),
    "RGB with a transparent colour": (
        corpus.encoded(Image.fromarray(RGB), transparency=tuple(map(int, RGB[2, 3]))),
        np.where((RGB[2, 3] == RGB).all(axis=-1, keepdims=True), 255, RGB),
        0,
    ),
    "L with a transparent grey": (
        corpus.encoded(Image.fromarray(GREY), transparency=int(GREY[2, 3])),
        np.where(GREY[2, 3] == GREY, 255, GREY)[..., None],
        0,
    ),
    "CMYK": (
        corpus.encoded(Image.fromarray(CMYK, "CMYK"), "TIFF"),
        (255 - CMYK[..., :3].astype(float)) * (255 - CMYK[..., 3:]) / 255,
        1,
    ),
    "LAB": (corpus.encoded(lab_picture(), "TIFF"), SOFT, 4),
    "I;16": (
        corpus.encoded(Image.fromarray(ramp(np.uint16, 65535))),
        ramp(np.uint16, 65535)[..., None] / 257,
        0.51,
    ),
    "I;16 big-endian": (
        corpus.encoded(Image.fromarray(ramp(np.uint16, 65535).astype(">u2")), "TIFF"),
        ramp(np.uint16, 65535)[..., None] / 257,
        0.51,
    ),
    "I": (
        corpus.encoded(Image.fromarray(ramp(np.int32, 1_000_000)), "TIFF"),
        ramp(np.float64, 255)[..., None],
        0.51,
    ),
    "F of 0..1": (
        corpus.encoded(Image.fromarray(ramp(np.float32, 1)), "TIFF"),
        ramp(np.float64, 255)[..., None],
        0.51,
    ),
    "F of 0..255": (
        corpus.encoded(Image.fromarray(ramp(np.float32, 200)), "TIFF"),
        ramp(np.float64, 200)[..., None],
        0.51,
    ),
    "F below zero": (
        corpus.encoded(Image.fromarray(ramp(np.float32, 10) - 5), "TIFF"),
        ramp(np.float64, 255)[..., None],
        0.51,
    ),
    "YCbCr": (corpus.encoded(Image.fromarray(RGB), "JPEG", quality=100, subsampling=0), RGB, 3),
    "grey JPEG": (
        corpus.encoded(Image.fromarray(GREY), "JPEG", quality=100),
        GREY[..., None],
        2,
    ),
    "BMP": (corpus.encoded(Image.fromarray(RGB), "BMP"), RGB, 0),
    "PPM": (corpus.encoded(Image.fromarray(RGB), "PPM"), RGB, 0),
    "WebP": (corpus.encoded(Image.fromarray(RGB), "WEBP", lossless=True), RGB, 0),
    "WebP with alpha": (
        corpus.encoded(Image.fromarray(np.dstack([RGB, ALPHA])), "WEBP", lossless=True, exact=True),
        over_white(RGB.astype(float), ALPHA),
        1,
    ),
    "GIF": (
        corpus.encoded(g := Image.fromarray(GREY), "GIF"),
        np.repeat(GREY[..., None], 3, -1),
        0,
    ),
}


@pytest.mark.parametrize("name", MODES)
def test_every_mode_becomes_the_pixels_that_it_means(name):
    data, expected, tolerance = MODES[name]
    found = decode(data, size=S).pixels
    assert found.dtype == np.uint8
    assert found.shape[-1] == np.shape(expected)[-1]
    worst = np.abs(found.astype(float) - expected).max()
    assert worst <= tolerance, f"{worst} levels off"


def test_cmyk_jpeg_is_not_a_negative():
    bright = np.full((S, S, 4), (0, 0, 0, 10), dtype=np.uint8)
    data = corpus.encoded(Image.fromarray(bright, "CMYK"), "JPEG", quality=100)
    assert decode(data, size=S).pixels.min() > 235


def test_sixteen_bits_are_neither_clipped_nor_silent():
    grey = corpus.encoded(Image.fromarray(np.full((S, S), 40_000, dtype=np.uint16)))
    assert (decode(grey, size=S).pixels == round(40_000 / 257)).all()
    assert DEEP in decode(grey, size=S).remarks
    dark = corpus.encoded(Image.fromarray(np.full((S, S), 4000, dtype=np.uint16)))
    assert DARK in decode(dark, size=S).remarks


def test_hidden_colours_of_transparent_pixels_do_not_show():
    hidden = np.zeros((S, S, 4), dtype=np.uint8)
    hidden[..., 0] = 255
    assert (decode(corpus.encoded(Image.fromarray(hidden)), size=S).pixels == 255).all()


def test_floats_that_are_not_finite_are_refused():
    values = ramp(np.float32, 1)
    values[3, 3] = np.nan
    with pytest.raises(DataError, match="not finite"):
        decode(corpus.encoded(Image.fromarray(values), "TIFF"), size=S)


@pytest.mark.parametrize("format_", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(format_, orientation):
    upright = np.asarray(corpus.picture(5, size=32))
    stored = {  # how a camera held so writes the upright scene (Exif 2.32, table 6)
        1: upright,
        2: upright[:, ::-1],
        3: upright[::-1, ::-1],
        4: upright[::-1],
        5: upright.transpose(1, 0, 2),
        6: np.rot90(upright, 1),
        7: upright[::-1, ::-1].transpose(1, 0, 2),
        8: np.rot90(upright, -1),
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    options: dict[str, Any] = {
        "JPEG": {"quality": 95, "subsampling": 0},
        "WEBP": {"lossless": True},
    }
    image = Image.fromarray(np.ascontiguousarray(stored))
    data = corpus.encoded(image, format_, exif=exif, **options.get(format_, {}))
    found = decode(data, size=32).pixels.astype(int)
    assert np.abs(found - upright).mean() < 3


def test_damaged_exif_is_no_orientation():
    data = corpus.encoded(corpus.picture(), "JPEG", exif=b"Exif\0\0MM\0*\0\0\0\x08\xff\xff\x01")
    assert decode(data, size=S).pixels.shape == (S, S, 3)


@pytest.mark.parametrize("format_", ["GIF", "PNG", "WEBP", "TIFF"])
def test_of_an_animation_the_first_frame_is_taken_and_said(format_):
    first, second = Image.fromarray(GREY), Image.fromarray(255 - GREY)
    options = {"lossless": True} if format_ == "WEBP" else {}
    data = corpus.encoded(first, format_, save_all=True, append_images=[second], **options)
    found = decode(data, size=S)
    assert np.abs(found.pixels[..., 0].astype(int) - GREY).max() <= 1
    assert ANIMATED in found.remarks


def test_a_phones_multi_picture_jpeg_is_one_picture():
    first, second = corpus.picture(1), corpus.picture(2)
    data = corpus.encoded(first, "MPO", save_all=True, append_images=[second])
    found = decode(data, size=S)
    assert ANIMATED not in found.remarks
    assert np.abs(found.pixels.astype(int) - np.asarray(first)).mean() < 12


def test_colour_profiles_are_ignored_and_only_foreign_ones_remarked():
    from PIL import ImageCms

    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    lab = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes()
    image = Image.fromarray(RGB)
    plain = decode(corpus.encoded(image, icc_profile=srgb), size=S)
    foreign = decode(corpus.encoded(image, icc_profile=lab), size=S)
    assert (plain.pixels == RGB).all()
    assert (foreign.pixels == RGB).all()
    assert PROFILE in foreign.remarks
    assert PROFILE not in plain.remarks


class TestFit:
    def test_ordinary_ones_are_cropped_in_the_middle(self):
        wide = np.zeros((30, 50, 3), dtype=np.uint8)
        wide[:, 10:40] = 200
        found = decode(corpus.encoded(Image.fromarray(wide)), size=10).pixels
        assert (found[:, 2:-2] == 200).all()
        assert found[0, 0, 0] > 180  # bicubic looks a little past the edge

    def test_extreme_ones_are_padded_whole(self):
        wide = np.full((20, 60, 3), 250, dtype=np.uint8)
        found = decode(corpus.encoded(Image.fromarray(wide)), size=30)
        assert PADDED in found.remarks
        assert (found.pixels[10:20] == 250).all()
        assert (found.pixels[:10] == PADDING_GREY).all()
        assert (found.pixels[20:] == PADDING_GREY).all()

    @pytest.mark.parametrize("shape", [(1, 1), (1, 500), (500, 1), (2, 1), (1, 3), (3, 2)])
    @pytest.mark.parametrize("size", [8, 33])
    def test_any_shape_becomes_a_square(self, shape, size):
        image = Image.fromarray(np.full((*shape, 3), 9, dtype=np.uint8))
        assert decode(corpus.encoded(image), size=size).pixels.shape == (size, size, 3)

    def test_shrinking_is_antialiased(self):
        stripes = np.zeros((256, 256), dtype=np.uint8)
        stripes[:, ::2] = 255
        found = decode(corpus.encoded(Image.fromarray(stripes)), size=32).pixels
        assert np.abs(found[2:-2, 2:-2].astype(int) - 127).max() <= 4

    def test_a_scaled_jpeg_is_close_to_the_full_decode(self):
        image = corpus.picture(11, size=512)
        full = np.asarray(image.resize((48, 48), Image.Resampling.BICUBIC)).astype(int)
        found = decode(corpus.encoded(image, "JPEG", quality=95), size=48).pixels
        assert np.abs(found - full).mean() < 2

    def test_the_size_itself_is_left_alone(self):
        assert (decode(corpus.encoded(Image.fromarray(RGB)), size=S).pixels == RGB).all()

    def test_one_colour_is_remarked(self):
        assert FLAT in decode(corpus.encoded(Image.new("RGB", (9, 9), "red")), size=S).remarks


class TestChannels:
    def test_luminance_is_pillows(self):
        assert (with_channels(RGB, 1)[..., 0] == GREY).all()

    def test_grey_is_repeated(self):
        assert (with_channels(GREY[..., None], 3) == GREY[..., None]).all()

    def test_grey_in_three_channels_loses_nothing(self):
        every = np.arange(256, dtype=np.uint8).reshape(16, 16, 1)
        assert (with_channels(np.repeat(every, 3, -1), 1) == every).all()


class TestFaults:
    @pytest.mark.parametrize("name", corpus.UNREADABLE)
    def test_what_cannot_be_decoded_is_refused_with_its_reason(self, name):
        data, reason = corpus.UNREADABLE[name]
        with pytest.raises(DataError) as caught:
            decode(data, size=S)
        assert reason in caught.value.problem
        assert "\n" not in caught.value.problem

    def test_png_under_another_name_is_what_it_is(self, tmp_path):
        path = tmp_path / "photo.jpg"
        path.write_bytes(MODES["RGB"][0])
        assert (decode(read_file(path), size=S).pixels == RGB).all()

    def test_bombs_are_refused_before_they_are_unpacked(self):
        code = """
import resource
import sys
from data import corpus
from thalweg.data.images.decode import decode
from thalweg.errors import DataError
decode(corpus.encoded(corpus.picture()), size=8)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
for data in corpus.BOMBS.values():
    try:
        decode(data, size=8)
    except DataError:
        continue
    sys.exit("decoded")
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""
        found = subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "PYTHONPATH": f"tests:{os.environ.get('PYTHONPATH', '')}"},
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        )
        assert int(found.stdout) < 20_000  # kB

    def test_the_number_of_pixels_is_named(self):
        with pytest.raises(DataError, match=r"60,000 × 60,000 pixels: the limit is 179 million"):
            decode(corpus.BOMBS["png"], size=S)

    def test_a_pipe_is_refused_at_once(self, tmp_path):
        pipe = tmp_path / "pipe.png"
        os.mkfifo(pipe)
        caught = []
        thread = threading.Thread(target=lambda: caught.append(_refused(pipe)), daemon=True)
        thread.start()
        thread.join(10)
        assert caught == ["not a regular file"]

    def test_a_folder_and_a_missing_file_are_refused(self, tmp_path):
        assert _refused(tmp_path)
        assert _refused(tmp_path / "none.png") == "No such file or directory"

    @settings(max_examples=150, deadline=None)
    @given(
        st.sampled_from(sorted({n for n in MODES if n not in ("LAB",)})),
        st.lists(st.tuples(st.integers(0, 5000), st.integers(0, 255)), min_size=1, max_size=8),
        st.integers(0, 400),
    )
    def test_damage_of_any_kind_raises_nothing_else(self, name, changes, lost):
        data = bytearray(MODES[name][0])
        for position, value in changes:
            data[position % len(data)] = value
        try:
            found = decode(bytes(data[: max(1, len(data) - lost)]), size=S)
        except DataError:
            return
        assert found.pixels.shape[:2] == (S, S)


def _refused(path):
    try:
        read_file(path)
    except DataError as error:
        return error.problem
    return ""
