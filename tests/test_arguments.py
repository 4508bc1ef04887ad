"""Each public function answers a value of a wrong type with one error that names it."""

from typing import Any

import numpy as np
import pytest
from torch import nn
from torch.optim import SGD

import thalweg
from thalweg.arguments import check_arguments
from thalweg.borrow import check_module
from thalweg.errors import UsageError

WRONG = (None, 3, [], b"x", {}, 2.5, np.zeros(3))
OF_A_RUN = ("load", "final", "resume", "forecast", "generate", "diagnose")


@pytest.mark.parametrize("value", WRONG, ids=lambda value: type(value).__name__)
@pytest.mark.parametrize("name", OF_A_RUN)
def test_a_run_is_named_by_a_path(name, value):
    with pytest.raises(UsageError, match="is named by a path") as caught:
        getattr(thalweg, name)(value)
    assert type(value).__name__ in caught.value.seen
    assert caught.value.fix


@pytest.mark.parametrize("name", ["plan", "find_lr", "cross_validate"])
def test_data_are_named_by_a_path(name):
    with pytest.raises(UsageError, match="path is named by a path"):
        getattr(thalweg, name)(b"x")


@pytest.mark.parametrize("name", OF_A_RUN)
def test_an_empty_path_is_not_the_current_folder(name):
    with pytest.raises(UsageError, match="empty"):
        getattr(thalweg, name)("")


@pytest.mark.parametrize(
    ("name", "wrong"),
    [
        ("generate", {"length": "x"}),
        ("generate", {"top_k": 2.5}),
        ("generate", {"temperature": np.zeros(3)}),
        ("generate", {"greedy": "yes"}),
        ("generate", {"seed": None}),
        ("cross_validate", {"folds": "5"}),
        ("cross_validate", {"repeats": True}),
        ("find_lr", {"steps": []}),
        ("ladder", {"minutes": "1"}),
        ("ladder", {"rungs": "knn"}),
        ("train", {"edits": "lr=1"}),
        ("train", {"target": np.zeros(3)}),
        ("diagnose", {"num_classes": "x"}),
    ],
    ids=str,
)
def test_a_value_of_a_wrong_type_is_named(name, wrong):
    with pytest.raises(UsageError, match=f"{next(iter(wrong))} must be") as caught:
        getattr(thalweg, name)("nothing-here", **wrong)
    assert caught.value.seen
    assert caught.value.fix.startswith("such as")


@pytest.mark.parametrize(
    ("value", "problem"), [("3", "must be a whole number"), (-1, "two classes"), (1, "two classes")]
)
def test_watch_refuses_a_number_of_classes_that_cannot_be(value, problem):
    model = nn.Linear(2, 2)
    with pytest.raises(UsageError, match=problem) as caught:
        thalweg.watch(model, SGD(model.parameters(), lr=0.1), num_classes=value)
    assert repr(value) in caught.value.seen
    assert "num_classes=" in caught.value.fix


@pytest.mark.parametrize(
    ("name", "large"),
    [
        ("generate", {"length": 10**400}),
        ("find_lr", {"steps": 10**400}),
        ("ladder", {"minutes": float("inf")}),
        ("train", {"epochs": 10**400}),
        ("train", {"lr": 10**400}),
        ("train", {"seed": "9" * 5000}),
    ],
    ids=lambda value: value if isinstance(value, str) else next(iter(value)),
)
def test_a_number_that_is_too_large_is_called_so(name, large):
    with pytest.raises(UsageError, match="is too large") as caught:
        getattr(thalweg, name)("nothing-here", **large)
    assert len(caught.value.seen) < 80


def test_numbers_of_numpy_are_numbers():
    @check_arguments
    def area(width: int, *, height: float = 1.0) -> float:
        return width * height

    numbers: tuple[Any, Any] = np.int64(3), np.float32(0.5)
    assert area(numbers[0], height=numbers[1]) == 1.5
    with pytest.raises(UsageError, match="width must be a whole number"):
        area(True)


@pytest.mark.parametrize("value", [None, 3, "x"])
def test_a_model_is_a_module(value):
    with pytest.raises(UsageError, match="no module of PyTorch"):
        check_module(value)
