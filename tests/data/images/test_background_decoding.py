"""A set that is decoded while it is already used is the set that it is afterwards, bit for bit."""

import os
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from data import corpus

from thalweg.api import Progress, train
from thalweg.data import Augment, Batches, load_dataset
from thalweg.data.images import cache, cache_writer, file_survey, formats
from thalweg.data.images.background_decoding import BackgroundDecoding, DamagedLateError, DecodedRow
from thalweg.data.images.formats import is_whole
from thalweg.data.load import wait_for_decoding
from thalweg.record.quantities import LOSS

MANY = file_survey.FEW + 44


@pytest.fixture
def photos(tmp_path):
    return corpus.class_folders(tmp_path / "photos", {"cat": MANY // 2, "dog": MANY // 2})


@pytest.fixture
def few_first(monkeypatch):
    """Statistics of some samples only, as in a large set: the others are decoded later."""
    monkeypatch.setattr("thalweg.data.statistics.MOST_VALUES", 16 * 16 * 3 * 8)


@pytest.fixture
def read_late(monkeypatch):
    """The seventh cat is decoded after the split, as the last files of a large set are."""
    sealed, decode, seal = threading.Event(), cache_writer._decode_file, BackgroundDecoding.seal

    def wait(path, size, channels):
        if path.name == "0007.png" and path.parent.name == "cat":
            sealed.wait(30)
        return decode(path, size, channels)

    def tell(*arguments):
        found = seal(*arguments)
        sealed.set()
        return found

    monkeypatch.setattr(cache_writer, "_decode_file", wait)
    monkeypatch.setattr(BackgroundDecoding, "seal", tell)


def forget(folder):
    for path in folder.glob("*-*"):
        cache.remove(path)


def broken_between(path):
    """A file whose ends are a whole image's."""
    data = bytearray(corpus.encoded(corpus.picture(3), "PNG"))
    start = data.index(b"IDAT") + 8
    data[start : start + 40] = bytes(40)
    path.write_bytes(bytes(data))


def test_first_and_later_readings_agree(photos, cache_dir, few_first):
    cold = load_dataset(photos, overlap=True)
    assert cold.decoding is not None
    wait_for_decoding(cold)
    warm, plain = load_dataset(photos, overlap=True), None
    assert warm.decoding is None
    forget(cache_dir)
    plain = load_dataset(photos)
    for other in (warm, plain):
        assert other.fingerprint == cold.fingerprint
        assert other.preprocessing == cold.preprocessing
        assert (np.asarray(other.inputs) == np.asarray(cold.inputs)).all()


def test_batches_wait_for_their_own_rows(photos, few_first, decodes, monkeypatch):
    gate = threading.Event()
    real, begun = cache_writer._decode_file, []

    def slow(path, size, channels):
        begun.append(path.name)
        if len(begun) > 150:
            gate.wait(30)
        return real(path, size, channels)

    monkeypatch.setattr(cache_writer, "_decode_file", slow)
    dataset = load_dataset(photos, overlap=True)
    augment = Augment(flip=True)
    batches = Batches(dataset, "train", batch_size=16, shuffle=True, augment=augment)
    first: Any = next(iter(batches))
    assert not gate.is_set()
    assert len(begun) < MANY
    gate.set()
    wait_for_decoding(dataset)
    again = Batches(load_dataset(photos), "train", batch_size=16, shuffle=True, augment=augment)
    assert (next(iter(again)).inputs == first.inputs).all()


def test_damage_at_the_ends_is_known_before_the_split(photos, few_first):
    (photos / "cat" / "0000.png").write_bytes(corpus.cut("PNG"))
    (photos / "dog" / "0001.png").write_bytes(b"")
    dataset = load_dataset(photos, overlap=True)
    assert {sample.name for sample in dataset.quarantined} == {"cat/0000.png", "dog/0001.png"}
    wait_for_decoding(dataset)
    assert load_dataset(photos).fingerprint == dataset.fingerprint


def test_damage_between_is_found_late_and_known_from_then_on(photos, few_first, read_late):
    broken_between(photos / "cat" / "0007.png")
    with pytest.raises(DamagedLateError) as late:
        wait_for_decoding(load_dataset(photos, overlap=True))
    late.value.decoding.join()
    (sample,) = load_dataset(photos, overlap=True).quarantined
    assert sample.name == "cat/0007.png"
    assert late.value.seen == sample.reason


@pytest.mark.slow
def test_a_training_that_finds_damage_begins_again(photos, tmp_path, few_first, read_late):
    broken_between(photos / "cat" / "0007.png")
    options = {"out": tmp_path / "runs", "model": "mlp", "epochs": 1, "batch_size": 16}
    progress = Progress()
    cold = train(photos, progress=progress, **options)
    assert any("starts again" in message for message in progress.messages)
    assert [path.name for path in (tmp_path / "runs").iterdir()] == [cold.path.name]
    warm = train(photos, **options)
    assert cold.history.series(LOSS) == warm.history.series(LOSS)
    assert cold.reader.quarantined == warm.reader.quarantined
    assert len(cold.reader.quarantined) == 1


def test_a_training_on_a_cold_cache_equals_one_on_a_warm_one(photos, tmp_path, few_first):
    options = {"out": tmp_path / "runs", "model": "convnet", "epochs": 2, "batch_size": 16}
    cold, warm = (train(photos, **options) for _ in range(2))
    weights = [(run.path / "model" / "weights.safetensors").read_bytes() for run in (cold, warm)]
    assert weights[0] == weights[1]
    assert cold.metrics == warm.metrics


@pytest.mark.parametrize("overlap", [True, False])
def test_of_a_grown_set_only_what_is_new_is_decoded(photos, decodes, overlap):
    wait_for_decoding(load_dataset(photos, overlap=overlap))
    assert len(decodes) == MANY
    corpus.write(photos / "cat" / "new.png", 500)
    (photos / "dog" / "0002.png").rename(photos / "dog" / "renamed.png")
    (photos / "dog" / "0003.png").unlink()
    grown = load_dataset(photos, overlap=overlap)
    wait_for_decoding(grown)
    assert decodes[MANY:] == ["new.png"]
    assert len(cache.cache_entries()) == 1
    forget(cache.default_cache_dir())
    assert (np.asarray(load_dataset(photos).inputs) == np.asarray(grown.inputs)).all()


def test_files_that_are_known_are_not_even_read(photos, monkeypatch):
    for path in photos.rglob("*.png"):
        os.utime(path, ns=(0, path.stat().st_mtime_ns - 60 * 10**9))
    load_dataset(photos)
    corpus.write(photos / "cat" / "new.png", 500)
    read, real = [], formats.read_file
    for module in (cache_writer, file_survey):
        monkeypatch.setattr(
            module, "read_file", lambda path: (read.append(path.name), real(path))[1]
        )
    load_dataset(photos)
    assert set(read) == {"new.png"}


def test_an_error_of_a_thread_reaches_whoever_waits():
    def work(row):
        if row == 3:
            raise OSError(5, "Input/output error")
        return DecodedRow(b"")

    decoding = BackgroundDecoding(8, work, commit=lambda rows: None, threads=2)
    with pytest.raises(OSError, match="Input/output"):
        decoding.finish()


def test_what_is_needed_comes_first_and_pauses_hold():
    order, gate = [], threading.Event()

    def work(row):
        gate.wait(30)
        order.append(row)
        return DecodedRow(b"%d" % row)

    decoding = BackgroundDecoding(100, work, commit=lambda rows: None, threads=1)
    with decoding.paused():
        gate.set()
        decoding.wait_for(np.array([90, 91]))
        assert sorted(order) == [90, 91]
    assert [row.digest for row in decoding.finish()] == [b"%d" % row for row in range(100)]
    assert len(order) == 100


@pytest.mark.parametrize("name", ["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "PPM"])
def test_whole_files_look_whole(name):
    data = corpus.encoded(corpus.picture(1), name)
    assert is_whole(data)
    if name in {"JPEG", "PNG", "WEBP"}:
        assert not is_whole(data[: len(data) * 2 // 3])
    assert not is_whole(b"")


def test_the_folder_is_left_tidy(photos, cache_dir, few_first):
    wait_for_decoding(load_dataset(photos, overlap=True))
    assert [Path(entry.path).parent for entry in cache.cache_entries()] == [cache_dir]
    assert not list(cache_dir.glob("building-*"))


def test_pauses_may_lie_in_one_another():
    done = []

    def work(row):
        done.append(row)
        return DecodedRow(b"")

    decoding = BackgroundDecoding(100, work, commit=lambda rows: None, threads=1)
    with decoding.paused():
        decoding.prefer(range(100))
        with decoding.paused():
            decoding.wait_for(np.array([5]))
        decoding.wait_for(np.array([6]))
        assert sorted(done) == [5, 6]
    decoding.finish()
    assert len(done) == 100
