"""Libraries that people fine-tune with: the same weights, no false alarm, and planted faults."""

import sys
from typing import Any

import pytest
import torch
from adapters import stacks

pytest.importorskip("transformers", reason="needs the extra `transformers`")

from thalweg.adapters.script import watch_everything

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]


@pytest.fixture(autouse=True)
def _no_compiler_of_others():
    """A process in which anybody compiles is watched with fewer hooks."""
    compiler = sys.modules.get("torch._dynamo")
    if compiler is not None:
        compiler.reset()


def run(training: Any, *, watched: bool) -> tuple[list[torch.Tensor], list[Any]]:
    torch.manual_seed(0)
    watch = stacks.Watch(active=watched)
    weights = training(watch)
    watch.finish()
    return weights, watch.diagnoses


def loud(diagnosis: Any) -> list[str]:
    return [finding.rule for finding in diagnosis.findings if finding.severity != "note"]


def same(first: list[torch.Tensor], second: list[torch.Tensor]) -> bool:
    return all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


@pytest.mark.parametrize("training", stacks.SOUND, ids=lambda training: training.__name__)
def test_a_sound_training_comes_out_the_same_without_an_alarm(training):
    expected, _ = run(training, watched=False)
    weights, (diagnosis,) = run(training, watched=True)
    with watch_everything() as session:
        unaware, _ = run(training, watched=False)
    assert same(weights, expected)
    assert same(unaware, expected)
    assert session.failures == []
    for each in (diagnosis, *session.diagnoses.values()):
        assert [rule for rule in loud(each) if rule != "stopped-too-early"] == []  # they are short
        assert not [why for why in each.not_checked.values() if "broke" in why]


@pytest.mark.parametrize("training", stacks.FAULTS, ids=lambda training: training.__name__)
def test_a_planted_fault_is_named_first(training):
    _, (diagnosis,) = run(training, watched=True)
    with watch_everything() as session:
        run(training, watched=False)
    for each in (diagnosis, list(session.diagnoses.values())[-1]):
        assert each.headline is not None, str(each)
        assert each.headline.rule == stacks.FAULTS[training]
