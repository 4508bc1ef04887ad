"""Every rule: sick, healthy, unmeasured; total on any history."""

import json
from dataclasses import replace
from math import inf, isfinite, log, nan
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from thalweg.diagnosis import Diagnosis, diagnose, rule
from thalweg.diagnosis.rules import RULES
from thalweg.recipes.recipe import Recipe
from thalweg.record import QUANTITIES, History, quantity_called
from thalweg.record.quantities import INSTRUMENT_FAILED, LOSS
from thalweg.report import render_diagnosis


def history(**series):
    """A history from name=values, name={step: value} or name={place: {step: value}}."""
    record = History()
    for name, values in series.items():
        table: Any = values if isinstance(values, dict) else dict(enumerate(values))
        table = table if any(isinstance(v, dict) for v in table.values()) else {"": table}
        for place, points in table.items():
            for step, value in points.items():
                record.add(quantity_called(name), step, {place: float(value)})
    return record


def noisy(start, end, steps=200, noise=0.02, seed=0):
    wobble = np.random.default_rng(seed).normal(1, noise, steps)
    return list(np.geomspace(start, end, steps) * wobble)


TEN = {"num_classes": [10], "chance_loss": [log(10)], "learning_rate": {"0": {0: 1.0}}}
BIG = {"update_ratio": {"0.weight": {0: 3.0, 20: 1.0}}}
FALLING = noisy(2.3, 0.1)
SLOWED = noisy(2.3, 1.0)
EARLY_END = {step: 9.0 * max(0.0, 1 - step / 12) for step in range(0, 200, 2)}
TO_THE_END = {step: 1 - step / 200 for step in range(0, 200, 2)}
CURVES = {
    "one group ends early": (
        history(loss=SLOWED, learning_rate={"0": TO_THE_END, "1": EARLY_END}),
        [],
    ),
    "all groups end early": (
        history(loss=SLOWED, learning_rate={"0": EARLY_END, "1": EARLY_END}),
        ["learning-rate-collapsed"],
    ),
    "healthy": (history(loss=FALLING, val_loss=noisy(2.3, 0.2, 10), **TEN), []),
    "just at chance": (history(loss=[log(10), *FALLING], **TEN), []),
    "above chance": (history(loss=[4.7, *FALLING], **TEN), ["initial-loss-above-chance"]),
    "a little above chance": (history(loss=[3.4, *FALLING], **TEN), []),
    "pretrained: below chance": (history(loss=noisy(0.2, 0.1), **TEN), []),
    "nan": (history(loss=[2.3, 2.0, nan, nan], **TEN), ["loss-not-finite"]),
    "diverged": (
        history(loss=[2.3, 900, 1e9, inf, nan], **TEN, **BIG),
        ["learning-rate-too-high", "loss-not-finite"],
    ),
    "leapt and stuck": (
        history(loss=[2.3, 300.0, *noisy(40, 2.4, 200)], **TEN, **BIG),
        ["learning-rate-too-high"],
    ),
    "leapt and recovered": (history(loss=[2.3, 8.0, *FALLING], **TEN, **BIG), []),
    "spike at a small rate": (
        history(loss=[2.3, 8.0, *noisy(2.3, 2.29)], update_ratio={"w": {0: 1e-2}}, **TEN),
        ["loss-not-falling"],
    ),
    "flat": (history(loss=noisy(2.3, 2.3), **TEN), ["loss-not-falling"]),
    "rising": (history(loss=noisy(2.3, 3.0), **TEN), ["loss-not-falling"]),
    "flat but learned": (history(loss=noisy(0.01, 0.01), **TEN), []),
    "too short to judge": (history(loss=noisy(2.3, 2.3, 20), **TEN), []),
    "turned": (
        history(
            loss=FALLING,
            val_loss=dict(
                zip(range(0, 200, 20), [2, 1, 0.8, 0.8, 1, 1.2, 1.4, 1.6, 1.8, 2], strict=True)
            ),
            **TEN,
        ),
        ["overfitting"],
    ),
    "one bad epoch": (
        history(
            loss=FALLING,
            val_loss=dict(
                zip(range(0, 200, 20), [2, 1, 0.8, 0.7, 0.7, 0.6, 0.6, 0.6, 0.6, 0.9], strict=True)
            ),
            **TEN,
        ),
        [],
    ),
    "turned, accuracy kept": (
        history(
            loss=FALLING,
            val_loss=dict(
                zip(range(0, 200, 20), [2, 1, 0.8, 0.8, 1, 1.2, 1.4, 1.6, 1.8, 2], strict=True)
            ),
            val_accuracy=dict(zip(range(0, 200, 20), [0.5, 0.7, 0.8, *[0.85] * 7], strict=True)),
            **TEN,
        ),
        [],
    ),
}


@pytest.mark.parametrize("name", CURVES)
def test_findings_of_example_histories(name):
    run, expected = CURVES[name]
    assert [f.rule for f in diagnose(run).findings if f.severity != "note"] == expected


# Rule → a history on which it fires, if only with a note, and one that it passes.
SICK_AND_HEALTHY = {
    "initial-loss-above-chance": (CURVES["above chance"][0], CURVES["healthy"][0]),
    "loss-not-falling": (CURVES["flat"][0], CURVES["healthy"][0]),
    "overfitting": (CURVES["turned"][0], CURVES["one bad epoch"][0]),
}


@pytest.mark.parametrize("name", SICK_AND_HEALTHY)
def test_a_rule_fires_on_the_sick_and_passes_the_healthy(name):
    sick, healthy = SICK_AND_HEALTHY[name]
    assert name in {finding.rule for finding in diagnose(sick).findings}
    assert name in diagnose(healthy).passed


def test_nothing_measured_is_nothing_passed():
    diagnosis = diagnose(History())
    assert diagnosis.passed == ()
    assert diagnosis.findings == ()
    assert set(diagnosis.not_checked) == {one.name for one in RULES}
    assert all(diagnosis.not_checked.values())


numbers = st.floats() | st.sampled_from([0.0, -1.0, 1.0, 2.3, inf, -inf, nan])
places = st.sampled_from(["", "0", "0.weight", "1.weight", "a.b", "cross_entropy"])
tables = st.dictionaries(
    places, st.dictionaries(st.integers(0, 500), numbers, min_size=1, max_size=12), max_size=3
)


@given(st.dictionaries(st.sampled_from(sorted(QUANTITIES)), tables, max_size=20))
def test_rules_are_total(content):
    run = history(**{name: table for name, table in content.items() if table})
    diagnosis = diagnose(run)
    broken = [why for why in diagnosis.not_checked.values() if "itself failed" in why]
    assert not broken
    json.loads(diagnosis.to_json())
    assert str(diagnosis)
    assert render_diagnosis(diagnosis)


PLACES = {
    "run": [""],
    "kind": ["mse", "cross_entropy", "sigmoid", "softmax", "relu", "chance", "linear", "median"],
    "class": ["0", "1", "2"],
    "reason": ["loss: OSError: gone"],
}
lengths = st.sampled_from([1, 2, 5, 30, 130])


@st.composite
def measured(draw, quantity):
    """The series of a quantity: any length, any number at any step."""
    places = draw(
        st.lists(
            st.sampled_from(PLACES.get(quantity.per, ["", "0.weight", "1.weight", "2"])),
            min_size=1,
            max_size=4,
            unique=True,
        )
    )
    table = {}
    for place in places:
        values = draw(st.lists(numbers, min_size=3, max_size=6)) * 50
        table[place] = dict(enumerate(values[: draw(lengths)]))
    return table


@pytest.mark.parametrize("one", RULES, ids=lambda one: one.name)
@settings(max_examples=10, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data())
def test_each_rule_is_total_where_it_is_reached(one, data):
    others = data.draw(st.lists(st.sampled_from(list(QUANTITIES.values())), max_size=4))
    quantities = {quantity.name: quantity for quantity in (*one.needs, *others)}
    run = history(**{name: data.draw(measured(quantity)) for name, quantity in quantities.items()})
    calls = []

    def check(content):
        calls.append(content)
        return one.check(content)

    diagnosis = diagnose(run, [replace(one, check=check)])
    assert calls == [run]
    assert "itself failed" not in "".join(diagnosis.not_checked.values())
    json.loads(diagnosis.to_json())
    assert str(diagnosis)
    assert render_diagnosis(diagnosis)


@pytest.mark.parametrize("one", RULES, ids=lambda one: one.name)
def test_each_rule_breaks_in_turn(one):
    def check(content):
        raise ZeroDivisionError("by hand")

    run = history(
        **{
            quantity.name: {"": {0: 1.0, 1: 1.0}}
            for quantity in QUANTITIES.values()
            if quantity is not INSTRUMENT_FAILED
        }
    )
    whole = diagnose(run)
    diagnosis = diagnose(
        run, [replace(rule, check=check) if rule is one else rule for rule in RULES]
    )
    assert "ZeroDivisionError: by hand" in diagnosis.not_checked[one.name]
    assert set(diagnosis.passed) == set(whole.passed) - {one.name}
    assert {f.rule for f in diagnosis.findings} == {f.rule for f in whole.findings} - {one.name}


@given(st.lists(numbers, min_size=1, max_size=80), st.integers(2, 10**6))
def test_rules_are_total_on_any_loss(losses, num_classes):
    run = history(loss=losses, chance_loss=[log(num_classes)], learning_rate={"0": {0: 0.1}})
    for finding in diagnose(run).findings:
        assert all(isfinite(value) for value in finding.evidence.values())


@pytest.mark.parametrize("one", RULES, ids=lambda one: one.name)
def test_every_rule_has_its_page(one):
    for heading in ("Why it matters:", "Evidence:", "Threshold:", "False alarms:", "Source:"):
        assert heading in one.doc
    assert "Convicted by:" in one.doc
    assert set(one.explains) <= {other.name for other in RULES}


@pytest.mark.parametrize("name", CURVES)
def test_edits_are_recipe_keys(name):
    for finding in diagnose(CURVES[name][0]).findings:
        for prescription in finding.prescriptions:
            Recipe().edited(prescription.edit)


def test_the_cause_is_the_headline_and_the_symptom_its_consequence():
    diagnosis = diagnose(CURVES["diverged"][0])
    assert diagnosis.headline.rule == "learning-rate-too-high"
    assert diagnosis.headline.consequences == ("loss-not-finite",)
    assert diagnosis.causes == (diagnosis.headline,)


def broken_rule():
    @rule("broken", stage="wiring", needs=(LOSS,))
    def broken(run):
        raise ZeroDivisionError("by hand")

    return broken


def test_a_broken_rule_is_not_checked():
    diagnosis = diagnose(history(loss=[1.0]), [broken_rule()])
    assert diagnosis == Diagnosis((), (), {"broken": diagnosis.not_checked["broken"]})
    assert "ZeroDivisionError: by hand" in diagnosis.not_checked["broken"]


def test_a_broken_measurement_is_not_checked():
    run = history(loss=FALLING, learning_rate=TEN["learning_rate"])
    run.add(INSTRUMENT_FAILED, 3, {"val_loss: OSError: gone": 1.0})
    run.add(INSTRUMENT_FAILED, 3, {"learning_rate: OSError: gone": 1.0})
    unchecked = diagnose(run).not_checked
    assert "OSError: gone" in unchecked["overfitting"]
    assert "OSError: gone" in unchecked["learning-rate-too-high"]  # had readings, then broke


def test_the_page_says_what_to_do():
    text = str(diagnose(CURVES["leapt and stuck"][0]))
    assert text.startswith("Diagnosis: learning-rate-too-high")
    assert "lower the learning rate from 1 to about" in text
    assert "val_loss" in text  # not checked, and how to have it checked
    assert max(map(len, text.splitlines())) <= 92
