"""Paths that a user names: what names nothing is refused; what cannot be used has a cure."""

import errno
import subprocess
from pathlib import Path

import pytest

from thalweg.errors import RunError, UsageError, shell_word
from thalweg.files import replace_file
from thalweg.paths import as_path, check_path, check_writable_run, unusable, unwritable


@pytest.mark.parametrize("value", [None, 3, [], b"x", {}, 2.5], ids=repr)
def test_another_type_is_no_path(value):
    with pytest.raises(UsageError, match="the run is named by a path") as caught:
        as_path(value, role="the run")
    assert type(value).__name__ in caught.value.seen
    assert caught.value.fix


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "empty"),
        ("a\0b", "NUL"),
        ("a" * 5000, "too long"),
        ("https://a.org/x", "downloads nothing"),
        ("s3://bucket/x", "downloads nothing"),
        ("file:///home/x", "an address"),
    ],
    ids=lambda text: text[:9],
)
def test_a_text_that_names_nothing_here_is_refused(text, problem):
    with pytest.raises(UsageError, match=problem) as caught:
        check_path(text, role="PATH")
    assert caught.value.seen
    assert caught.value.fix


def test_a_web_address_is_shown_with_both_slashes():
    with pytest.raises(UsageError) as caught:
        as_path(Path("https://a.org/x.csv"), role="PATH")
    assert caught.value.seen == "https://a.org/x.csv"
    assert "curl -LO https://a.org/x.csv" in caught.value.fix


@pytest.mark.parametrize("text", [".", "a b", "C:/x", "C://x", "a:b", "x/y//z"])
def test_odd_names_are_paths(text):
    assert as_path(text, role="PATH") == Path(text)


def test_a_folder_in_place_of_a_file_is_said_and_left_as_it_is(tmp_path):
    (tmp_path / "report.html").mkdir()
    (tmp_path / "report.html" / "mine").touch()
    with pytest.raises(RunError, match=r"report\.html could not be written") as caught:
        replace_file(tmp_path / "report.html", "page")
    assert "is a folder" in caught.value.seen
    assert caught.value.fix.startswith("move it away")
    assert [path.name for path in tmp_path.rglob("*")] == ["report.html", "mine"]


@pytest.mark.parametrize(
    ("number", "cure"),
    [
        (errno.EACCES, "chmod u+w"),
        (errno.EROFS, "another disk"),
        (errno.ENOSPC, "free some space"),
        (errno.EIO, "another place"),
    ],
    ids=errno.errorcode.get,
)
def test_the_cure_fits_the_cause(tmp_path, number, cure):
    error = unwritable(tmp_path / "x", OSError(number, "no"), instead="--out FILE")
    assert cure in error.fix
    assert error.fix.endswith("; or --out FILE")
    assert error.errno == number


def test_a_missing_folder_is_to_be_made(tmp_path):
    error = unwritable(tmp_path / "no" / "x", FileNotFoundError(errno.ENOENT, "no"))
    assert error.fix == f"mkdir -p {tmp_path / 'no'}"


def test_a_file_that_cannot_be_used_is_named_with_a_cure():
    error = unusable(PermissionError(errno.EACCES, "denied", "x.csv"))
    assert (error.problem, error.seen) == ("x.csv cannot be used", "denied")
    assert "chmod u+rw x.csv" in error.fix


@pytest.mark.parametrize("name", ["", "run.db", "checkpoints"])
def test_a_read_only_run_is_refused_before_it_is_resumed(tmp_path, monkeypatch, name):
    (tmp_path / "run.db").touch()
    (tmp_path / "checkpoints").mkdir()
    monkeypatch.setattr("os.access", lambda path, mode: Path(path) != tmp_path / name)
    with pytest.raises(RunError, match="may not be written") as caught:
        check_writable_run(tmp_path)
    assert "chmod -R u+w" in caught.value.fix
    assert "resume a copy" in caught.value.fix


@pytest.mark.parametrize(
    ("name", "word"),
    [
        ("runs/flowers-1", "runs/flowers-1"),
        ("my runs/a;rm -rf b", "'my runs/a;rm -rf b'"),
        ("it's", "'it'\"'\"'s'"),
        ("a\x1b[2Jb\n", r"$'a\x1b[2Jb\n'"),
    ],
)
def test_a_path_in_a_command_is_one_word_of_the_shell(name, word):
    assert shell_word(name) == word
    done = subprocess.run(["bash", "-c", f"printf %s {word}"], capture_output=True, check=True)
    assert done.stdout.decode() == name
