"""Each fault by itself, in a real small training: the rule that names it is the headline."""

import json
from pathlib import Path

import pytest
from faults.faults import FAULTS, faulty
from faults.programs import BASES, run

FAST = (  # a fault of each stage, a second each
    "missing zero_grad",
    "train mode in validation",
    "softmax twice",
    "raw pixels",
    "NaN in inputs",
    "shuffled labels",
    "constant weights",
    "rate × 1000",
)
NIGHTLY = (
    "stale optimizer",
    "detached",
    "cleared before the step",
    "scheduler each step",
    "squared error of a softmax",
    "40 % label noise",
    "sorted batches",
    "leaked, a tenth",
    "val labels offset",
    "rate / 1000",
    "few noisy samples",
)
SLOW = pytest.mark.slow
PAIRS = [(name, base) for name, fault in FAULTS.items() for base in fault.bases]


def named(name, base, seed=0):
    """Whether the headline names the fault, and what was said."""
    diagnosis, _ = run(faulty(name, base, seed))
    headline = diagnosis.headline.rule if diagnosis.headline else "nothing"
    return headline in FAULTS[name].names, headline


@pytest.mark.parametrize("name", [*FAST, *(pytest.param(n, marks=SLOW) for n in NIGHTLY)])
def test_the_headline_names_the_fault(name):
    right, headline = named(name, "mlp")
    assert right, headline


@pytest.mark.parametrize(
    "name",
    ["loss broadcasts", *(pytest.param(n, marks=SLOW) for n in ("sigmoid output", "raw targets"))],
)
def test_the_headline_names_the_fault_of_a_regression(name):
    right, headline = named(name, "regression")
    assert right, headline


@pytest.mark.slow
@pytest.mark.parametrize("base", [*BASES, "regression"])
def test_four_in_five_are_named(base):
    pairs = [pair for pair in PAIRS if pair[1] == base]
    results = {name: named(name, base) for name, _ in pairs}
    missed = {name: said for name, (right, said) in results.items() if not right}
    assert len(missed) <= 0.2 * len(pairs), missed


def test_the_suite_is_as_broad_as_it_says():
    assert len([f for f in FAULTS.values() if len(f.bases) >= 3]) >= 30
    assert sum(f.mild for f in FAULTS.values()) >= 20
    split = json.loads((Path(__file__).parent / "split.json").read_text())
    halves = [set(split[half]["faults"]) for half in ("development", "held_out")]
    assert not halves[0] & halves[1]
    assert halves[0] | halves[1] == {base for _, base in PAIRS}
