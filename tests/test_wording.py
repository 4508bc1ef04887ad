"""Numbers, times and names as text."""

import pytest

from thalweg.wording import (
    clock_time,
    count_or_figure,
    duration,
    figure,
    large,
    percent,
    some,
    visible,
)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (figure(0.0), "0"), (figure(1234567.0), "1.23 × 10⁶"), (figure(-0.5), "−0.500"),
        (figure(12.345), "12.3"), (figure(2508.0), "2,508"), (figure(2.1e-7), "2.10 × 10⁻⁷"),
        (figure(float("nan")), "not a number"), (figure(float("-inf")), "−∞"),
        (percent(0.8866), "88.7\u202f%"), (percent(float("nan")), "–"),
        (duration(0.0), "0\u202fs"), (duration(0.42), "0.42\u202fs"),
        (duration(59.7), "1\u202fmin 0\u202fs"), (duration(3599.9), "1\u202fh 0\u202fmin"),
        (large(11_200_000), "11.2\u202fM"), (large(970), "970"),
        (visible("a\tb\x1b[0m\udcff"), "a\\tb\\x1b[0m\\udcff"),
    ],
)  # fmt: skip
def test_numbers_and_names_as_text(text, expected):
    assert text == expected


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0:00"), (7.4, "0:07"), (59.6, "1:00"), (750, "12:30"), (11045, "3:04:05")],
)
def test_clock_time(seconds, text):
    assert clock_time(seconds) == text


def test_some_names_and_the_count_of_the_rest():
    assert some(["a", "b"]) == "a, b"
    assert some([*"abcd"], most=2) == "a, b and 2 more"


@pytest.mark.parametrize(
    ("value", "text"),
    [(2.0, "2"), (41_000.0, "41,000"), (-3.0, "−3"), (0.0123, "0.0123")],
)
def test_a_count_has_no_digits_behind_the_point(value, text):
    assert count_or_figure(value) == text
