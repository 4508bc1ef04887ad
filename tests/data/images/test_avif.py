"""AVIF files are read where Pillow has the decoder."""

import numpy as np
import pytest
from PIL import Image

from thalweg.data import load_dataset
from thalweg.data.images import formats
from thalweg.errors import DataError

pytestmark = pytest.mark.skipif(not formats.HAS_AVIF, reason="this Pillow has no AVIF decoder")


@pytest.fixture
def photos(tmp_path):
    for number, name in enumerate(("ant", "bee")):
        (tmp_path / name).mkdir()
        for index in range(6):
            pixels = np.full((24, 32, 3), 40 + 90 * number + 5 * index, np.uint8)
            Image.fromarray(pixels).save(tmp_path / name / f"{index}.avif", quality=90)
    return tmp_path


def test_a_folder_of_avif_files_is_read(photos):
    dataset = load_dataset(photos, image_size=16)
    assert not dataset.quarantined
    for row, name in enumerate(dataset.names):
        number, index = ("ant", "bee").index(name[:3]), int(name[4])
        assert abs(int(dataset.inputs[row].mean()) - (40 + 90 * number + 5 * index)) <= 3


def test_a_cut_file_is_not_whole_and_left_out(photos):
    path = photos / "ant" / "0.avif"
    data = path.read_bytes()
    assert formats.is_whole(data)
    assert not any(formats.is_whole(data[:end]) for end in range(20, len(data)))
    path.write_bytes(data[: len(data) * 2 // 3])
    assert [item.name for item in load_dataset(photos, image_size=16).quarantined] == ["ant/0.avif"]


def test_without_the_decoder_the_file_is_named(photos, monkeypatch):
    monkeypatch.setattr(formats, "HAS_AVIF", False)
    with pytest.raises(DataError, match="AVIF"):
        formats.open_image((photos / "ant" / "0.avif").read_bytes())
