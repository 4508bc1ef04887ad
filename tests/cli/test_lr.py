"""The picture of the range test: dots between the ends, no bars from zero."""

import re

from thalweg.cli.lr import WIDTH, _rows, _scale
from thalweg.training.lr_range import LrRange


def range_of(smoothed):
    lrs = tuple(10.0 ** (place / 4 - 6) for place in range(len(smoothed)))
    return LrRange(lrs=lrs, losses=smoothed, smoothed=smoothed, suggestion=1e-3)


def test_a_small_fall_is_seen_over_the_whole_width():
    falling = tuple(2.30 - 0.01 * step for step in range(9))
    test = range_of((*falling, 9.0, 40.0, 80.0, 99.0))
    rows = list(_rows(test))
    assert "█" not in "".join(row[2] for row in rows)
    columns = {row[1]: len(row[2]) - len(row[2].lstrip()) for row in rows}
    assert columns["2.300"] == WIDTH - 1
    assert columns["2.220"] == 0
    assert next(row for row in rows if row[2].endswith("least"))[1] == "2.220"
    assert rows[-1][2].strip() == "▸"
    assert re.fullmatch(r"2\.220 +2\.300", _scale(test))
    assert len(_scale(test)) == WIDTH


def test_losses_that_never_fall_are_drawn_as_well():
    assert [row[1] for row in _rows(range_of((2.0, 2.0, 2.0, 3.0, 4.0)))] == ["2.000", "4.000"]
    assert list(_rows(range_of(()))) == []
