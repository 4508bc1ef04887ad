"""Pixels that the disk has damaged are never used: each row has a checksum, and is decoded anew."""

import json

import numpy as np
import pytest
from data import corpus

from thalweg.api import Progress, train
from thalweg.data import load_dataset
from thalweg.data.images import cache
from thalweg.data.images.cache_index import damaged_rows, read_index

ROW = 16 * 16 * 3  # bytes


@pytest.fixture
def photos(tmp_path):
    return corpus.class_folders(tmp_path / "photos", {"cat": 8, "dog": 8})


def change(byte, *, name=cache.PIXELS):
    """Flip a bit of the only entry."""
    path = cache.cache_entries()[0].path / name
    data = bytearray(path.read_bytes())
    data[byte] ^= 4
    path.write_bytes(bytes(data))


def swap_rows():
    path = cache.cache_entries()[0].path / cache.PIXELS
    pixels = np.memmap(path, dtype=np.uint8, mode="r+", shape=(16, ROW))
    pixels[[2, 9]] = pixels[[9, 2]]
    pixels.flush()


@pytest.mark.parametrize(
    ("harm", "rows"),
    [
        (lambda: change(5 * ROW + 17), ["0005.png"]),
        (lambda: [change(0), change(16 * ROW - 1)], ["0000.png", "0007.png"]),
        (swap_rows, ["0001.png", "0002.png"]),
    ],
    ids=["a bit", "the first and the last byte", "two rows swapped"],
)
def test_damaged_rows_are_decoded_anew_and_said(photos, decodes, harm, rows):
    clean = load_dataset(photos)
    expected = np.array(clean.inputs)
    decodes.clear()
    harm()
    again = load_dataset(photos)
    assert (np.asarray(again.inputs) == expected).all()
    assert sorted(decodes) == rows, "and no other"
    said = f"{len(rows)} cached images were damaged on the disk: decoded anew"
    assert [note for note in again.notes if "damaged" in note] == [said]
    assert again.fingerprint == clean.fingerprint
    assert not [note for note in load_dataset(photos).notes if "damaged" in note], "mended"


def test_a_damaged_entry_that_is_stale_gives_no_damaged_row(photos, decodes):
    load_dataset(photos)
    change(3 * ROW)
    corpus.write(photos / "dog" / "new.png", 900)
    decodes.clear()
    found = load_dataset(photos)
    assert sorted(decodes) == ["0003.png", "new.png"]
    assert (found.inputs[3] == corpus.pixels(1003)).all()


def test_a_manifest_of_other_sizes_is_not_believed(photos):
    expected = np.array(load_dataset(photos).inputs)
    path = cache.cache_entries()[0].path / cache.MANIFEST
    manifest = json.loads(path.read_text())
    path.write_text(json.dumps(manifest | {"size": 8, "original_size": [4, 4]}))
    found = load_dataset(photos)
    assert (np.asarray(found.inputs) == expected).all()
    assert found.facts.original_size == (16, 16)


def test_a_training_does_not_see_the_damage(photos, tmp_path):
    options = {"out": tmp_path / "runs", "model": "mlp", "epochs": 1, "seed": 3}
    clean = train(photos, **options)
    for row in range(16):
        change(row * ROW + row)
    progress = Progress()
    damaged = train(photos, progress=progress, **options)
    assert damaged.metrics == clean.metrics
    assert any("16 cached images were damaged" in message for message in progress.messages)


def test_rows_that_could_not_be_decoded_have_no_pixels_to_check(photos):
    (photos / "cat" / "0000.png").write_bytes(corpus.cut("PNG"))
    load_dataset(photos)
    entry = cache.cache_entries()[0].path
    pixels = np.memmap(entry / cache.PIXELS, dtype=np.uint8, mode="c", shape=(16, 16, 16, 3))
    index = read_index(entry)
    assert index is not None
    assert not len(damaged_rows(index, pixels))
    pixels[0] += 1
    assert not len(damaged_rows(index, pixels))
    pixels[7, 3, 3, 1] += 1
    assert damaged_rows(index, pixels).tolist() == [7]
