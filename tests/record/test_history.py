"""A history is read by names, as a data frame, and as a table in a notebook."""

import sys
from types import ModuleType

import pytest

from thalweg.errors import UnknownNameError, UsageError
from thalweg.record import History
from thalweg.record.quantities import GRADIENT_NORM, LOSS, VAL_LOSS


@pytest.fixture
def history():
    history = History()
    for step in range(4):
        history.add(LOSS, step, {"": 4.0 - step})
        history.add(GRADIENT_NORM, step, {"head.weight": 0.5, "stem.weight": float(step)})
    history.add(VAL_LOSS, 3, {"": 0.25})
    return history


def test_a_series_is_found_by_name(history):
    assert dict(history["loss"]) == {0: 4.0, 1: 3.0, 2: 2.0, 3: 1.0}
    assert dict(history["gradient_norm", "stem.weight"]) == {0: 0.0, 1: 1.0, 2: 2.0, 3: 3.0}
    assert "val_loss" in history
    assert "val_accuracy" not in history
    assert VAL_LOSS in history


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("val_los", "did you mean val_loss"),
        ("gradient_norm", r"history\['gradient_norm', 'head.weight'\]"),
        (("gradient_norm", "head.wait"), "did you mean head.weight"),
    ],
)
def test_a_name_that_was_not_measured_is_answered_with_one_that_was(history, name, text):
    with pytest.raises(UnknownNameError, match=text):
        history[name]
    with pytest.raises(KeyError):
        history[name]


def test_a_frame_has_a_row_a_step_and_a_column_a_series(history):
    pytest.importorskip("pandas")
    frame = history.to_frame()
    assert list(frame.columns) == ["loss", "val_loss"]
    assert frame.index.tolist() == [0, 1, 2, 3]
    assert frame.index.name == "step"
    assert frame["loss"].tolist() == [4.0, 3.0, 2.0, 1.0]
    assert frame["val_loss"].isna().tolist() == [True, True, True, False]
    weights = history.to_frame("gradient_norm")
    assert list(weights.columns) == ["gradient_norm/head.weight", "gradient_norm/stem.weight"]


class Frame(dict):
    """As much of a data frame as `to_frame` calls."""

    def sort_index(self):
        return self

    def rename_axis(self, name):
        self.name = name
        return self


def test_the_columns_of_a_frame_are_the_series(history, monkeypatch):
    pandas = ModuleType("pandas")
    vars(pandas)["DataFrame"] = Frame
    monkeypatch.setitem(sys.modules, "pandas", pandas)
    frame = history.to_frame()
    assert frame == {"loss": {0: 4.0, 1: 3.0, 2: 2.0, 3: 1.0}, "val_loss": {3: 0.25}}
    assert frame.name == "step"
    with pytest.raises(UnknownNameError, match="val_loss"):
        history.to_frame("val_los")


def test_without_pandas_the_error_says_what_to_install(history, monkeypatch):
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(UsageError, match="pip install pandas"):
        history.to_frame()
