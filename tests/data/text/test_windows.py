import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from thalweg.data.text.vocabulary import Characters
from thalweg.data.text.windows import WindowNames, Windows, shifted_starts


def windows(length, *, border, context):
    return Windows(
        tokens=np.arange(length, dtype=np.int32),
        borders=((0, border), (border, length), (length, length)),
        context=context,
        vocabulary=Characters("ab"),
    )


@given(st.integers(2, 200), st.integers(2, 200), st.integers(1, 40))
def test_windows_fill_each_split_and_cross_no_border(train, val, context):
    rows = windows(train + val, border=train, context=context)
    assert len(rows) == len(rows.splits) == len(rows.starts)
    for split, (begin, end) in enumerate(rows.borders):
        own = [rows[row] for row in np.flatnonzero(rows.splits == split).tolist()]
        assert all(len(row) == context + 1 for row in own)
        # The inputs of a split are its first tokens, in order, and the rest fills no window.
        inputs = [token for row in own for token in row[:-1].tolist()]
        assert inputs == list(range(begin, begin + len(inputs)))
        assert end - begin - 1 - len(inputs) < context
        assert all(row[-1] < end for row in own)


def test_the_targets_are_the_tokens_that_follow():
    rows = windows(30, border=20, context=4)
    assert rows.targets.tolist()[0] == [1, 2, 3, 4]
    assert (rows.targets == np.stack(rows[:])[:, 1:]).all()


@given(st.integers(3, 100), st.integers(1, 20), st.integers(0, 19))
def test_shifted_windows_stay_in_the_training_split(train, context, offset):
    rows = windows(train + 40, border=train, context=context)
    positions = np.arange(rows.counts[0])
    starts = shifted_starts(rows, positions, offset % context)
    assert len(starts) == len(positions)
    if len(positions):
        assert rows.at(starts).max() < train
        assert (np.diff(starts) > 0).all() or context > train - 1 - offset


def test_names_say_where_a_window_stands():
    rows = windows(3_000, border=2_700, context=100)
    names = WindowNames(rows)
    assert names[0] == "characters 1 to 100"
    assert names[len(rows) - 1] == "characters 2,801 to 2,900"
    assert names[1:3] == ["characters 101 to 200", "characters 201 to 300"]
    with pytest.raises(IndexError):
        names[len(rows)]
