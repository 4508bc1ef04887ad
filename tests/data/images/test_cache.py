"""The cache: built once, never half, never stale, safe against kills, rivals and full disks."""

import os
import shutil
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from data import corpus

from thalweg.data import load_dataset
from thalweg.data.images import cache, file_survey, load_pixels
from thalweg.data.samples import Files
from thalweg.errors import DataError

BUILD = """
import sys
from pathlib import Path
from thalweg.data.images.load_pixels import load_pixels
from thalweg.data.samples import Files
root = Path(sys.argv[1])
names = tuple(sorted(str(p.relative_to(root)) for p in root.rglob("*.png")))
print("ready", flush=True)
found = load_pixels(Files(root, root, names), size=int(sys.argv[2]))
print(found.array.sum(), flush=True)
"""


@pytest.fixture
def photos(tmp_path):
    return corpus.class_folders(tmp_path / "photos", {"cat": 8, "dog": 8})


def files_in(root):
    names = tuple(sorted(str(path.relative_to(root)) for path in root.rglob("*.png")))
    return Files(root, root, names)


def age(root, seconds=60):
    """Make the files look written a while ago: their mtime then settles what they are."""
    for path in root.rglob("*.png"):
        status = path.stat()
        os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns - seconds * 10**9))


class TestReuse:
    def test_the_second_time_nothing_is_decoded(self, photos, decodes):
        first = load_dataset(photos)
        assert len(decodes) == 16
        second = load_dataset(photos)
        assert len(decodes) == 16
        assert (np.asarray(first.inputs) == np.asarray(second.inputs)).all()
        assert isinstance(second.inputs, np.memmap)

    def test_old_files_are_not_even_read(self, photos, monkeypatch):
        age(photos)
        load_dataset(photos)
        monkeypatch.setattr(load_pixels, "digest_of", lambda path: pytest.fail(f"{path} was read"))
        load_dataset(photos)

    def test_touched_files_are_read_once_and_then_remembered(self, photos, decodes, monkeypatch):
        age(photos)
        load_dataset(photos)
        age(photos, seconds=-30)
        load_dataset(photos)
        assert len(decodes) == 16
        monkeypatch.setattr(load_pixels, "digest_of", lambda path: pytest.fail(f"{path} was read"))
        load_dataset(photos)

    def test_each_size_has_an_entry(self, photos, decodes):
        for size in (8, 12, 8, 12):
            assert load_dataset(photos, image_size=size).inputs.shape[1] == size
        assert len(decodes) == 32
        assert sorted(entry.image_size for entry in cache.cache_entries()) == [8, 12]

    def test_labels_and_seeds_do_not_matter(self, photos, decodes):
        load_dataset(photos)
        load_dataset(photos, seed=7, val_fraction=0.5)
        assert len(decodes) == 16


class TestStale:
    @pytest.mark.parametrize("old", [True, False], ids=["old files", "files just written"])
    def test_changed_contents_of_the_same_size(self, photos, old):
        path = photos / "cat" / "0000.png"
        raw = corpus.encoded(corpus.picture(1), "BMP")
        path.write_bytes(raw)
        if old:
            age(photos)
        load_dataset(photos)
        path.write_bytes(corpus.encoded(corpus.picture(2), "BMP"))
        found = load_dataset(photos)
        assert path.stat().st_size == len(raw)
        row = found.names.index("cat/0000.png")
        assert (found.inputs[row] == corpus.pixels(2)).all()
        assert len(cache.cache_entries()) == 1, "the stale entry is gone"

    def test_added_removed_and_vanished_files(self, photos):
        load_dataset(photos)
        corpus.write(photos / "cat" / "new.png", 500)
        assert len(load_dataset(photos).names) == 17
        (photos / "cat" / "new.png").unlink()
        assert len(load_dataset(photos).names) == 16
        files = files_in(photos)
        (photos / "cat" / "0000.png").unlink()
        found = load_pixels.load_pixels(files)
        assert found.reasons == {0: "No such file or directory"}

    def test_a_quarantined_file_that_is_repaired(self, photos):
        bad = photos / "cat" / "0000.png"
        bad.write_bytes(corpus.cut("PNG"))
        assert len(load_dataset(photos).quarantined) == 1
        corpus.write(bad, 77)
        assert not load_dataset(photos).quarantined

    def test_another_decode_policy(self, photos, decodes, monkeypatch):
        load_dataset(photos)
        monkeypatch.setattr(file_survey, "POLICY_VERSION", 999)
        load_dataset(photos)
        assert len(decodes) == 32

    @pytest.mark.parametrize("name", [cache.PIXELS, cache.INDEX, cache.MANIFEST])
    @pytest.mark.parametrize("harm", ["cut", "gone", "garbage"])
    def test_a_damaged_entry_is_rebuilt(self, photos, name, harm):
        expected = np.array(load_dataset(photos).inputs)
        path = cache.cache_entries()[0].path / name
        data = path.read_bytes()
        path.unlink()
        if harm == "cut":
            path.write_bytes(data[: len(data) // 2])
        elif harm == "garbage":
            path.write_bytes(b"x" * (len(data) + 1))
        assert (np.asarray(load_dataset(photos).inputs) == expected).all()


class TestCrash:
    def start(self, root, size=64):
        process = subprocess.Popen(
            [sys.executable, "-c", BUILD, str(root), str(size)],
            stdout=subprocess.PIPE,
            text=True,
        )
        assert process.stdout.readline() == "ready\n"
        return process

    def test_a_killed_build_leaves_nothing_that_is_used(self, tmp_path, cache_dir):
        root = corpus.class_folders(tmp_path / "photos", {"a": 40}, size=400)
        for wait in (0.01, 0.05, 0.1, 0.2):
            with self.start(root) as process:
                time.sleep(wait)
                process.send_signal(signal.SIGKILL)
        found = load_pixels.load_pixels(files_in(root), size=64)
        assert len(cache.cache_entries()) == 1
        assert not list(cache_dir.glob("building-*")), "leftovers are swept"
        shutil.rmtree(cache_dir)
        cache_dir.mkdir()
        again = load_pixels.load_pixels(files_in(root), size=64)
        assert (found.array == again.array).all()

    def test_an_interrupted_build_cleans_up(self, photos, cache_dir):
        def interrupt(done, total):
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            load_dataset(photos, progress=interrupt)
        assert not list(cache_dir.iterdir())
        assert len(load_dataset(photos).names) == 16

    def test_two_processes_at_once_get_the_same(self, tmp_path, cache_dir):
        root = corpus.class_folders(tmp_path / "photos", {"a": 30}, size=200)
        rivals = [self.start(root) for _ in range(2)]
        sums = {process.communicate(timeout=60)[0] for process in rivals}
        assert [process.returncode for process in rivals] == [0, 0]
        assert len(sums) == 1
        assert len(cache.cache_entries()) == 1
        assert len(list(cache_dir.iterdir())) == 1

    def test_threads_at_once_get_the_same(self, photos):
        with ThreadPoolExecutor(4) as pool:
            found = list(pool.map(lambda _: load_dataset(photos).fingerprint, range(4)))
        assert len(set(found)) == 1


class TestRoom:
    def test_the_least_recently_used_go_first(self, photos, cache_dir):
        for index, size in enumerate((8, 16, 24)):
            load_dataset(photos, image_size=size)
            entry = next(e for e in cache.cache_entries() if e.image_size == size)
            os.utime(entry.path / cache.MANIFEST, (index, index))
        load_dataset(photos, image_size=8)  # used again: now the last to go
        keep = next(e.path for e in cache.cache_entries() if e.image_size == 24)
        cache.evict(cache_dir, keep=keep, limit=16 * 3 * (8 * 8 + 24 * 24))
        assert sorted(entry.image_size for entry in cache.cache_entries()) == [8, 24]
        cache.evict(cache_dir, keep=keep, limit=0)
        assert [entry.path for entry in cache.cache_entries()] == [keep]

    def test_show_and_clear(self, photos, cache_dir):
        dataset = load_dataset(photos)
        (entry,) = cache.cache_entries()
        assert entry.source == str(photos)
        assert (entry.images, entry.image_size, entry.num_bytes) == (16, 16, 16 * 16 * 16 * 3)
        assert abs(entry.used - time.time()) < 60
        assert cache.clear_cache() == entry.num_bytes
        assert not list(cache_dir.iterdir())
        assert int(dataset.inputs[3].sum()) > 0, "a training that has it mapped goes on"
        assert cache.clear_cache() == 0

    def test_a_cache_dir_that_vanishes_is_made_again(self, photos, cache_dir):
        load_dataset(photos)
        shutil.rmtree(cache_dir)
        assert len(load_dataset(photos).names) == 16

    def test_a_cache_dir_that_cannot_be_written(self, photos, tmp_path, monkeypatch):
        (tmp_path / "file").write_text("not a folder")
        (tmp_path / "tmp").mkdir()
        monkeypatch.setenv("THALWEG_CACHE", str(tmp_path / "file" / "cache"))
        monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "tmp"))
        found = load_dataset(photos)
        assert any("cannot be written" in n and "set THALWEG_CACHE" in n for n in found.notes)
        assert cache.cache_entries() == []

    def test_a_full_disk_is_an_error_that_says_so(self, photos, monkeypatch):
        def full(*_):
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(os, "posix_fallocate", full)
        with pytest.raises(DataError, match="disk of the cache is full") as caught:
            load_dataset(photos)
        assert "THALWEG_CACHE" in caught.value.fix

    @pytest.mark.parametrize("name", ["fsync", "pwrite", "rename", "mkdir"])
    def test_an_io_error_anywhere_leaves_no_entry(self, photos, cache_dir, name, monkeypatch):
        def fail(*_, **__):
            raise OSError(5, "Input/output error")

        with monkeypatch.context() as patch:
            owner = Path if name in ("rename", "mkdir") else os
            load_dataset(photos, image_size=8)
            patch.setattr(owner, name, fail)
            if name == "mkdir":
                patch.setattr(cache, "writable_cache_dir", lambda: (cache_dir, ""))
            with pytest.raises(DataError, match="cache cannot be written"):
                load_dataset(photos)
        assert [entry.image_size for entry in cache.cache_entries()] == [8]
        assert load_dataset(photos).inputs.shape[1] == 16

    def test_where_it_is(self, monkeypatch, tmp_path):
        monkeypatch.setenv("THALWEG_CACHE", "~/somewhere")
        assert cache.default_cache_dir() == Path.home() / "somewhere"
        monkeypatch.delenv("THALWEG_CACHE")
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
        assert cache.default_cache_dir() == tmp_path / "thalweg"
        monkeypatch.delenv("XDG_CACHE_HOME")
        assert cache.default_cache_dir() == Path.home() / ".cache" / "thalweg"


def test_progress_is_told_to_the_end(photos):
    told = []
    load_dataset(photos, progress=lambda done, total: told.append((done, total)))
    assert told[-1] == (16, 16)
    assert [done for done, _ in told] == sorted(done for done, _ in told)
