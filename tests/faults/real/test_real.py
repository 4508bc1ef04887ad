"""People's own programs: as asked, a recorded cause is the headline; as repaired, no alarm."""

import pytest
from faults.real.run import REAL, TIERS, run

FAST = ("33641799", "umlaut-b")
NIGHTLY = ("46577203", "48221692", "43636736", "58237726", "66468006")


def verdict(name, seed=0):
    diagnosis, metric = run(name, fixed=False, seed=seed)
    headline = diagnosis.headline.rule if diagnosis.headline else "nothing"
    return headline in REAL[name].names, headline, metric


@pytest.mark.parametrize(
    "name", [*FAST, *(pytest.param(name, marks=pytest.mark.slow) for name in NIGHTLY)]
)
def test_a_recorded_cause_is_the_headline(name):
    right, headline, _ = verdict(name)
    assert right, headline


@pytest.mark.slow
@pytest.mark.parametrize("tier", TIERS)
def test_three_in_four_are_named(tier):
    said = {(name, seed): verdict(name, seed)[:2] for name in TIERS[tier] for seed in range(5)}
    missed = {key: headline for key, (right, headline) in said.items() if not right}
    assert len(missed) <= 0.25 * len(said), missed


@pytest.mark.slow
@pytest.mark.parametrize("name", REAL)
def test_the_pair_separates(name):
    good = REAL[name].good
    asked = [good(run(name, fixed=False, seed=seed)[1]) for seed in range(5)]
    repaired = [good(run(name, fixed=True, seed=seed)[1]) for seed in range(5)]
    assert sum(repaired) - sum(asked) >= 4
