"""Zip and tar files as data: read as the folder in them; hostile ones refused, nothing left."""

import gzip
import io
import stat
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
from data import corpus

from thalweg.api import train
from thalweg.data import load_dataset
from thalweg.data.archives import bounds
from thalweg.data.archives.bounds import RefusedArchiveError
from thalweg.data.images import cache
from thalweg.data.sources import samples_at
from thalweg.errors import DataError

ROWS = "a,b,kind\n" + "".join(f"{i},{i * i % 7},{'xy'[i % 2]}\n" for i in range(40))


@pytest.fixture
def photos(tmp_path):
    return corpus.class_folders(tmp_path / "photos", {"cat": 6, "dog": 6})


def files_of(folder):
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def zipped(path, files, *, method=zipfile.ZIP_DEFLATED):
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return path


def tarred(path, files, *, mode="w"):
    with tarfile.open(path, mode) as archive:
        for name, data in files.items():
            add(archive, name, data)
    return path


def add(archive, name, data=b"", **changes):
    info = tarfile.TarInfo(name)
    info.size = len(data)
    for key, value in changes.items():
        setattr(info, key, value)
    archive.addfile(info, io.BytesIO(data))


PACKED = {
    "a.zip": zipped,
    "a.tar": tarred,
    "a.tar.gz": lambda path, files: tarred(path, files, mode="w:gz"),
    "a.TGZ": lambda path, files: tarred(path, files, mode="w:gz"),
    "a.tar.bz2": lambda path, files: tarred(path, files, mode="w:bz2"),
    "a.tar.xz": lambda path, files: tarred(path, files, mode="w:xz"),
}


@pytest.mark.parametrize("name", PACKED)
@pytest.mark.parametrize("wrapped", ["", "photos/", "./"])
def test_an_archive_is_the_folder_in_it(photos, tmp_path, name, wrapped):
    path = PACKED[name](tmp_path / name, {wrapped + n: d for n, d in files_of(photos).items()})
    found, plain = load_dataset(path), load_dataset(photos)
    assert (np.asarray(found.inputs) == np.asarray(plain.inputs)).all()
    assert found.fingerprint == plain.fingerprint
    assert not any("cache" in str(note) for note in found.notes)


def test_it_is_unpacked_once_and_again_where_it_changed(photos, tmp_path, monkeypatch):
    path = zipped(tmp_path / "a.zip", files_of(photos))
    load_dataset(path)
    with monkeypatch.context() as patch:
        patch.setattr("thalweg.data.archives.unpack._unpack", lambda *_: pytest.fail("again"))
        load_dataset(path)
    (entry,) = [e for e in cache.cache_entries() if not e.image_size]
    assert (entry.source, entry.images) == (str(path), 12)
    next(entry.path.rglob("0003.png")).unlink()  # as a cleaner of old files would
    assert len(load_dataset(path).names) == 12
    corpus.write(photos / "dog" / "new.png", 7)
    zipped(path, files_of(photos))
    assert len(load_dataset(path).names) == 13
    assert len([e for e in cache.cache_entries() if not e.image_size]) == 1
    cache.clear_cache()
    assert not list(cache.default_cache_dir().iterdir())


def test_a_run_of_an_archive_can_be_resumed_and_names_it(photos, tmp_path):
    path = zipped(tmp_path / "a.zip", files_of(photos))
    run = train(path, model="mlp", epochs=1, out=tmp_path / "runs")
    assert run.reader.meta["source"] == str(path)
    assert not any("THALWEG" in n or "cache" in n for n in run.reader.meta["notes"])


def test_a_table_in_an_archive(tmp_path):
    path = zipped(tmp_path / "a.zip", {"data/rows.csv": ROWS, "__MACOSX/._rows.csv": b"x"})
    found = load_dataset(path)
    assert found.class_names == ("x", "y")
    assert load_dataset(path, target="b").facts.task == "classification"
    two = zipped(tmp_path / "b.zip", {"one.csv": ROWS, "two.csv": ROWS})
    with pytest.raises(DataError, match=r"b\.zip holds several tables"):
        samples_at(two)


def test_a_list_of_images_in_an_archive(photos, tmp_path):
    images = {f"images/{n.replace('/', '_')}": d for n, d in files_of(photos).items()}
    listing = "path,label\n" + "".join(f"{n},{n[7:10]}\n" for n in images)
    path = zipped(tmp_path / "a.zip", images | {"labels.csv": listing})
    assert load_dataset(path).class_names == ("cat", "dog")


def test_errors_are_in_the_users_words(tmp_path):
    path = zipped(tmp_path / "a.zip", {"readme.txt": "nothing"})
    with pytest.raises(DataError) as caught:
        samples_at(path)
    assert str(path) in caught.value.problem
    assert str(cache.default_cache_dir()) not in str(caught.value)


# Hostile archives: what is done to them, and what the error says.


def linked_zip(path):
    with zipfile.ZipFile(path, "w") as archive:
        info = zipfile.ZipInfo("cat/1.png")
        info.create_system, info.external_attr = 3, (stat.S_IFLNK | 0o777) << 16
        archive.writestr(info, "/etc/passwd")


def device_zip(path):
    with zipfile.ZipFile(path, "w") as archive:
        info = zipfile.ZipInfo("cat/1.png")
        info.create_system, info.external_attr = 3, (stat.S_IFBLK | 0o777) << 16
        archive.writestr(info, "")


def encrypted_zip(path):
    zipped(path, {"cat/1.png": b"x" * 50})
    data = bytearray(path.read_bytes())
    data[data.index(b"PK\x01\x02") + 8] |= 1
    path.write_bytes(bytes(data))


def damaged_zip(path):
    zipped(path, {"cat/1.png": bytes(range(256)) * 20}, method=zipfile.ZIP_STORED)
    data = bytearray(path.read_bytes())
    data[300] ^= 1
    path.write_bytes(bytes(data))


def lying_zip(path):
    """The directory says 100 bytes, the member has 4 million."""
    zipped(path, {"cat/1.png": bytes(4_000_000)})
    data = bytearray(path.read_bytes())
    place = data.index(b"PK\x01\x02")
    data[place + 24 : place + 28] = (100).to_bytes(4, "little")
    path.write_bytes(bytes(data))


def endless_directory(path):
    zipped(path, {"cat/1.png": b"x"})
    data = bytearray(path.read_bytes())
    place = data.index(b"PK\x05\x06")
    data[place + 12 : place + 16] = (2**31).to_bytes(4, "little")
    path.write_bytes(bytes(data))


def of_type(kind, **changes):
    def write(path):
        with tarfile.open(path, "w") as archive:
            add(archive, "cat/0.png", b"x")
            add(archive, "cat/1.png", type=kind, **changes)

    return write


def bomb_tar(path):
    with gzip.open(path, "wb") as file, tarfile.open(fileobj=file, mode="w") as archive:
        add(archive, "cat/1.png", bytes(3_000_000))


def long_header(path):
    """A header of a gigabyte of names, from a kilobyte."""
    info = tarfile.TarInfo("x")
    info.type, info.size = tarfile.XHDTYPE, 1 << 30
    path.write_bytes(info.tobuf(tarfile.GNU_FORMAT) + bytes(1024))


def cut_tar(path):
    tarred(path, {f"cat/{i}.png": b"y" * 3000 for i in range(9)})
    path.write_bytes(path.read_bytes()[:9000])


def overwritten_tar(path):
    """A header in the middle that is none: tarfile alone takes it for the end."""
    tarred(path, {f"cat/{i}.png": b"y" * 600 for i in range(9)})
    data = bytearray(path.read_bytes())
    data[1536 * 3 : 1536 * 3 + 64] = b"z" * 64
    path.write_bytes(bytes(data))


HOSTILE = {
    "zip, parent": ("a.zip", lambda p: zipped(p, {"../../out.png": b"x"}), "leads out"),
    "zip, parent on Windows": ("a.zip", lambda p: zipped(p, {"..\\out.png": b"x"}), "leads out"),
    "zip, absolute": ("a.zip", lambda p: zipped(p, {"/tmp/out.png": b"x"}), "absolute path"),
    "zip, drive": ("a.zip", lambda p: zipped(p, {"C:/out.png": b"x"}), "absolute path"),
    "zip, link": ("a.zip", linked_zip, "holds a link"),
    "zip, device": ("a.zip", device_zip, "holds a device"),
    "zip, encrypted": ("a.zip", encrypted_zip, "is encrypted"),
    "zip, damaged": ("a.zip", damaged_zip, "is damaged"),
    "zip, a size that lies": ("a.zip", lying_zip, "is damaged"),
    "zip, directory": ("a.zip", endless_directory, "members, or is damaged"),
    "zip, bomb": ("a.zip", lambda p: zipped(p, {"cat/1.png": bytes(3_000_000)}), "200 times"),
    "zip, many small bombs": (
        "a.zip",
        lambda p: zipped(p, {f"cat/{i}.png": bytes(900_000) for i in range(30)}),
        "200 times",
    ),
    "zip, nested": ("a.zip", lambda p: zipped(p, {"train.zip": b"PK"}), "another archive"),
    "zip, lzma": (
        "a.zip",
        lambda p: zipped(p, {"cat/1.png": b"x" * 99}, method=zipfile.ZIP_LZMA),
        "another way than deflate",
    ),
    "zip, one name is a folder too": (
        "a.zip",
        lambda p: zipped(p, {"cat": b"x", "cat/1.png": b"x"}),
        "names clash",
    ),
    "zip, long name": ("a.zip", lambda p: zipped(p, {"x" * 999: b"x"}), "too long"),
    "zip, deep": ("a.zip", lambda p: zipped(p, {"a/" * 99 + "1.png": b"x"}), "too long"),
    "zip, no zip": ("a.zip", lambda p: p.write_bytes(b"hello" * 99), "no zip file"),
    "zip, empty": ("a.zip", lambda p: p.write_bytes(b""), "no zip file"),
    "tar, parent": ("a.tar", lambda p: tarred(p, {"a/../../out.png": b"x"}), "leads out"),
    "tar, absolute": ("a.tar", lambda p: tarred(p, {"/tmp/out.png": b"x"}), "absolute path"),
    "tar, symbolic link": ("a.tar", of_type(tarfile.SYMTYPE, linkname="/etc"), "holds a link"),
    "tar, hard link": ("a.tar", of_type(tarfile.LNKTYPE, linkname="cat/0.png"), "holds a link"),
    "tar, pipe": ("a.tar", of_type(tarfile.FIFOTYPE), "a pipe"),
    "tar, device": ("a.tar", of_type(tarfile.CHRTYPE, devmajor=1, devminor=5), "a device"),
    "tar, holes": ("a.tar", of_type(tarfile.GNUTYPE_SPARSE), "damaged|holes"),
    "tar, bomb": ("a.tar.gz", bomb_tar, "200 times"),
    "tar, long header": ("a.tar", long_header, "is damaged"),
    "tar, cut": ("a.tar", cut_tar, "is damaged"),
    "tar, overwritten": ("a.tar", overwritten_tar, "is damaged"),
    "tar, same name twice": (
        "a.tar",
        lambda p: [tarred(p, {"cat/1.png": b"x"}), tarred(p, {"cat/1.png": b"y"}, mode="a")],
        "names clash",
    ),
    "tar, nested": ("a.tar", lambda p: tarred(p, {"in/train.tar.gz": b"x"}), "another archive"),
    "tar, no tar": ("a.tar", lambda p: p.write_bytes(b"hello" * 999), "no tar file"),
    "tar, empty": ("a.tar.gz", lambda p: p.write_bytes(b""), "no tar file"),
    "tar, cut gzip": (
        "a.tar.gz",
        lambda p: [
            tarred(p, {"cat/1.png": np.random.default_rng(0).bytes(9000)}, mode="w:gz"),
            p.write_bytes(p.read_bytes()[:4000]),
        ],
        "is damaged",
    ),
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_a_hostile_archive_is_one_error_and_leaves_nothing(tmp_path, kind):
    name, write, reason = HOSTILE[kind]
    path = tmp_path / "in" / name
    path.parent.mkdir()
    write(path)
    with pytest.raises(RefusedArchiveError, match=reason) as caught:
        samples_at(path)
    assert str(path) in caught.value.problem
    assert "unpack it yourself" in caught.value.fix
    assert sorted(p.name for p in tmp_path.rglob("*") if p.is_file()) == [name]
    assert not list(cache.default_cache_dir().iterdir())
    assert not Path("/tmp/out.png").exists()


def test_too_many_members_and_bytes(tmp_path, monkeypatch):
    monkeypatch.setattr(bounds, "MOST_FILES", 5)
    many = {f"cat/{i}.png": b"x" for i in range(6)}
    for path in (zipped(tmp_path / "a.zip", many), tarred(tmp_path / "a.tar", many)):
        with pytest.raises(RefusedArchiveError, match="more than 5 members"):
            samples_at(path)
    monkeypatch.setattr(bounds, "MOST_FILES", 50)
    monkeypatch.setattr(bounds, "MOST_BYTES", 5)
    for path in (tmp_path / "a.zip", tmp_path / "a.tar"):
        with pytest.raises(RefusedArchiveError, match="more than 0 GiB"):
            samples_at(path)


def test_a_disk_without_room_is_said_before_it_is_full(photos, tmp_path, monkeypatch):
    path = zipped(tmp_path / "a.zip", files_of(photos))
    monkeypatch.setattr("shutil.disk_usage", lambda _: type("Usage", (), {"free": 1000}))
    with pytest.raises(DataError, match="no room"):
        samples_at(path)


def test_archives_that_are_not_read_are_named(tmp_path):
    (tmp_path / "a.7z").write_bytes(b"7z\xbc\xaf'\x1c")
    with pytest.raises(DataError, match="kind that is not read"):
        samples_at(tmp_path / "a.7z")


@pytest.mark.parametrize("name", ["a.csv.gz", "a.npz"])
def test_compressed_tables_and_arrays_are_bounded_too(tmp_path, name):
    path = tmp_path / name
    if name.endswith(".gz"):
        with gzip.open(path, "wb") as file:
            file.write(b"a,b\n" + b"\n" * 5_000_000)
    else:
        np.savez_compressed(path, x=np.zeros((70, 1_000_000), np.uint8), y=np.arange(70) % 2)
    with pytest.raises(RefusedArchiveError, match="200 times its size"):
        samples_at(path)


def test_a_damaged_compressed_table_is_one_error(tmp_path):
    path = tmp_path / "a.csv.gz"
    data = bytearray(gzip.compress(ROWS.encode() * 50))
    data[len(data) // 2] ^= 0xFF
    path.write_bytes(bytes(data))
    with pytest.raises(DataError, match="cannot be read"):
        samples_at(path)
