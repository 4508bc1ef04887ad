import pytest

from thalweg.data import load_dataset
from thalweg.data.sources import samples_at
from thalweg.data.text.read_text import check_long_enough, decode_text, read_text_file
from thalweg.errors import DataError

PROSE = "The quick brown fox jumps over the lazy dog.\n" * 60


def test_marks_and_line_ends_are_no_part_of_the_text():
    assert decode_text(b"\xef\xbb\xbfone\r\ntwo\rthree\n", name="a") == "one\ntwo\nthree\n"


@pytest.mark.parametrize(
    ("data", "problem", "part"),
    [
        (b"", "is empty", "0 bytes"),
        (b" \n\t" * 900, "is empty", "white space"),
        (b"To be, or not to be.", "too short to learn from", "20 characters"),
        (b"caf\xe9\n" * 500, "is not in UTF-8", "byte 0xe9 in line 1"),
        (b"good\n" * 500 + b"\xff\n", "is not in UTF-8", "line 501"),
        (PROSE.encode("utf-16"), "is not in UTF-8", "UTF-16LE"),
        (PROSE.encode("utf-32"), "is not in UTF-8", "UTF-32LE"),
        (b"\x7fELF\x02\x01\x01\x00" * 400, "is no text", "byte 7 of 3,200"),
    ],
    ids=["empty", "blank", "short", "latin-1", "late", "utf-16", "utf-32", "binary"],
)
def test_what_cannot_be_learned_is_one_error(tmp_path, data, problem, part):
    path = tmp_path / "input.txt"
    path.write_bytes(data)
    with pytest.raises(DataError) as caught:
        samples_at(path)
    assert problem in caught.value.problem
    assert part in caught.value.seen
    assert caught.value.fix


def test_a_text_too_large_is_refused_by_its_size_alone(tmp_path):
    path = tmp_path / "large.txt"
    with path.open("wb") as file:
        file.truncate(300 << 20)  # a hole: no byte is written
    with pytest.raises(DataError, match="too large") as caught:
        read_text_file(path)
    assert "300 MiB" in caught.value.seen


def test_a_text_in_any_script_is_long_enough():
    check_long_enough("天地玄黃宇宙洪荒" * 200, name="a")


@pytest.mark.parametrize("name", ["input.txt", "INPUT.TXT", "book.text"])
def test_the_suffix_says_that_it_is_a_text(tmp_path, name):
    (tmp_path / name).write_text(PROSE)
    assert load_dataset(tmp_path / name).facts.modality == "text"


def test_a_column_cannot_be_its_target(tmp_path):
    (tmp_path / "input.txt").write_text(PROSE)
    with pytest.raises(DataError, match="is no table"):
        load_dataset(tmp_path / "input.txt", target="price")
