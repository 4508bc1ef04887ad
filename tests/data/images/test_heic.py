"""HEIC files are read where pillow-heif is installed; else the error says how to have it."""

from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from thalweg.data import load_dataset
from thalweg.data.images import formats
from thalweg.data.images.decode import decode
from thalweg.errors import DataError

HEADER = b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(40)
needs_decoder = pytest.mark.skipif(not formats.HAS_HEIC, reason="pillow-heif is not installed")


def heic(pixels, **options):
    heif = pytest.importorskip("pillow_heif")
    file = BytesIO()
    heif.from_pillow(Image.fromarray(pixels)).save(file, quality=90, **options)
    return file.getvalue()


@needs_decoder
def test_a_folder_of_heic_files_is_read(tmp_path):
    for number, name in enumerate(("ant", "bee")):
        (tmp_path / name).mkdir()
        for index in range(6):
            pixels = np.full((64, 96, 3), 40 + 90 * number + 5 * index, np.uint8)
            (tmp_path / name / f"{index}.HEIC").write_bytes(heic(pixels))
    dataset = load_dataset(tmp_path, image_size=32)
    assert not dataset.quarantined
    for row, name in enumerate(dataset.names):
        number, index = ("ant", "bee").index(name[:3]), int(name[4])
        assert abs(int(dataset.inputs[row].mean()) - (40 + 90 * number + 5 * index)) <= 4


@needs_decoder
def test_the_orientation_is_applied_once():
    pixels = np.zeros((64, 64, 3), np.uint8)
    pixels[:32] = 255  # the upper half
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by a quarter
    turned = decode(heic(pixels, exif=exif.tobytes()), size=64).pixels
    plain = decode(heic(pixels), size=64).pixels
    assert plain[:24].mean() > 240
    assert turned[:, 40:].mean() > 240
    assert turned[:, :24].mean() < 15


@needs_decoder
def test_a_cut_file_is_not_whole_and_damaged():
    data = heic(np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8))
    assert formats.is_whole(data)
    for end in range(16, len(data), 97):
        assert not formats.is_whole(data[:end])
        with pytest.raises(DataError):
            decode(data[:end], size=32)


def test_without_the_decoder_the_command_is_named(monkeypatch):
    monkeypatch.setattr(formats, "HAS_HEIC", False)
    with pytest.raises(DataError, match=r"HEIC.*pip install pillow-heif"):
        formats.open_image(HEADER)
