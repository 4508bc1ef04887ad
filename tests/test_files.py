"""Files in a stranger's folder: read within limits, replaced and never followed."""

import os

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from thalweg.files import (
    check_tensor_file,
    delete,
    draft_of,
    json_text,
    read_bytes,
    read_json,
    read_json_object,
    replace_file,
    write_new,
)


@pytest.fixture
def own(tmp_path):
    path = tmp_path / "own.txt"
    path.write_text("the user's")
    return path


def test_a_link_is_replaced_and_its_target_kept(tmp_path, own):
    link = tmp_path / "report.html"
    link.symlink_to(own)
    replace_file(link, "page")
    assert own.read_text() == "the user's"
    assert link.read_text() == "page"
    assert not link.is_symlink()


def test_an_old_text_stays_where_the_new_cannot_be_written(tmp_path):
    path = tmp_path / "report.html"
    path.write_text("old")
    with pytest.raises(OSError, match="No such file"), draft_of(path):
        pass  # the draft was never written, so it cannot be renamed
    assert [(file.name, file.read_text()) for file in tmp_path.iterdir()] == [(path.name, "old")]


def test_a_new_file_takes_the_place_of_nothing(tmp_path, own):
    link = tmp_path / "new"
    link.symlink_to(tmp_path / "nowhere")
    for path in (own, link):
        with pytest.raises(FileExistsError):
            write_new(path, b"x")


def test_links_pipes_folders_and_long_files_are_refused(tmp_path, own):
    link, pipe, long = tmp_path / "link", tmp_path / "pipe", tmp_path / "long"
    link.symlink_to(own)
    os.mkfifo(pipe)
    with long.open("wb") as file:
        file.truncate(1 << 40)
    for path, reason in [(link, "a symbolic link"), (pipe, "a FIFO"), (tmp_path, "a folder")]:
        with pytest.raises(OSError, match=reason):
            read_bytes(path)
    with pytest.raises(OSError, match="more than 64"):
        read_bytes(long)


@pytest.mark.parametrize("text", ["[" * 100_000, "9" * 5000, "{", "\ud800"])
def test_odd_json_is_one_kind_of_error(tmp_path, text):
    path = tmp_path / "model.json"
    path.write_bytes(text.encode(errors="surrogatepass"))
    with pytest.raises(ValueError, match=r"\w"):
        read_json(path)


def test_an_object_is_an_object(tmp_path):
    path = tmp_path / "model.json"
    path.write_text("[1]")
    with pytest.raises(ValueError, match="no JSON object"):
        read_json_object(path)


def test_only_tensors_as_long_as_their_header_says(tmp_path):
    path = tmp_path / "weights.safetensors"
    save_file({"a": torch.arange(10.0)}, path)
    check_tensor_file(path)
    whole = path.read_bytes()
    for contents in (whole[:-1], whole + b"0", b"", bytes(100), np.arange(9).tobytes()):
        path.write_bytes(contents)
        with pytest.raises(ValueError, match=r"\w"):
            check_tensor_file(path)


def test_deleting_a_link_leaves_its_folder(tmp_path):
    folder, link = tmp_path / "folder", tmp_path / "link"
    folder.mkdir()
    (folder / "file").touch()
    link.symlink_to(folder)
    delete(link)
    assert (folder / "file").exists()
    assert not link.is_symlink()
    delete(folder)
    assert not folder.exists()


def test_json_is_in_its_own_letters_where_these_can_be_written(tmp_path):
    for value, text in ((["Ä", 1], "Ä"), ({"a\udcff": 2}, "\\udcff")):
        replace_file(tmp_path / "a.json", json_text(value))
        assert text in (tmp_path / "a.json").read_text(encoding="utf-8")
        assert read_json(tmp_path / "a.json") == value
    replace_file(tmp_path / "a.txt", "class \udcff")
    assert (tmp_path / "a.txt").read_text() == "class \\udcff"
