"""What reaches a terminal."""

from io import StringIO

import pytest

from thalweg.cli.terminal import error_text, styled, table, uses_color
from thalweg.errors import DataError, printable


class Terminal(StringIO):
    def isatty(self):
        return True


@pytest.mark.parametrize(
    ("text", "seen"),
    [
        ("Katze.jpg", "Katze.jpg"),
        ("ねこ 猫 🐈 é", "ねこ 猫 🐈 é"),
        ("\x1b[2J", "\\x1b[2J"),
        ("two\nlines", "two\\nlines"),
        ("\u202egpj.exe", "\\u202egpj.exe"),  # right-to-left override
        ("\udcff.png", "\\udcff.png"),  # a byte of a name that is not UTF-8
        ("\u200bhidden", "\\u200bhidden"),
    ],
    ids=ascii,
)
def test_names_are_shown_and_control_characters_are_escaped(text, seen):
    assert printable(text) == seen


@pytest.mark.parametrize(
    ("environment", "colored"),
    [
        ({"TERM": "xterm"}, True),
        ({"TERM": "dumb"}, False),
        ({"TERM": "xterm", "NO_COLOR": "1"}, False),
        ({"TERM": "dumb", "FORCE_COLOR": "1"}, True),
        ({"TERM": "xterm", "NO_COLOR": "1", "FORCE_COLOR": "1"}, False),
    ],
)
def test_colour_follows_the_conventions(monkeypatch, environment, colored):
    for name in ("TERM", "NO_COLOR", "FORCE_COLOR"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert uses_color(Terminal()) is colored
    assert (styled("x", "red", Terminal()) != "x") is colored


def test_a_pipe_gets_no_colour(monkeypatch):
    monkeypatch.delenv("FORCE_COLOR", raising=False)
    assert not uses_color(StringIO())


def test_columns_are_aligned_by_what_a_terminal_shows():
    lines = table(("name", "n"), [("猫", 1), ("cat", 22), ("a\tb", 3)]).splitlines()
    assert lines == ["name  n", "猫    1", "cat   22", "a\\tb  3"]


def test_an_error_has_three_labelled_parts():
    error = DataError("no images", seen="a\x1bb", fix="one folder\nper class")
    assert error_text(error) == "error: no images\n  seen: a\\x1bb\n  fix:  one folder\nper class"
