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
from thalweg.diagnosis.missing import NOT_SHOWN, is_foreign
from thalweg.diagnosis.rules import RULES
from thalweg.diagnosis.rules.exploding_gradients import exploding_gradients
from thalweg.diagnosis.rules.initial_loss_above_chance import initial_loss_above_chance
from thalweg.diagnosis.rules.label_encoding_differs import label_encoding_differs
from thalweg.diagnosis.rules.labels_without_signal import labels_without_signal
from thalweg.diagnosis.rules.learning_rate_too_high import learning_rate_too_high
from thalweg.diagnosis.rules.loss_does_not_fit_task import loss_does_not_fit_task
from thalweg.diagnosis.rules.loss_not_falling import loss_not_falling
from thalweg.diagnosis.rules.over_regularised import over_regularised
from thalweg.diagnosis.rules.return_falls import return_falls
from thalweg.diagnosis.rules.vanishing_gradients import vanishing_gradients
from thalweg.diagnosis.rules.wrong_mode_in_validation import wrong_mode_in_validation
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
BEHIND = {"behind_step": {"none": {0: 0}, "0.weight": {0: 1}}, "step_function": {"round": {0: 1}}}
CLIPPED = {
    "loss": noisy(2.3, 2.25),
    "gradient_norm": {"0.weight": dict.fromkeys(range(0, 200, 20), 1.0)},
    "update_ratio": {"0.weight": dict.fromkeys(range(0, 200, 20), 1e-7)},
    "weights": [10_000],
}
HELD_UP = TEN | {
    "loss": noisy(2.3, 1.7),
    "train_mode_loss": [1.7],
    "eval_mode_loss": [0.9],
    "weight_decay": {"0": {0: 0.0}},
}
SICK_AND_HEALTHY = {
    "labels-shuffled": (
        history(labels_shuffled=[0.8, 0.9, 0.85, 0.0]),
        history(labels_shuffled=[0.0, 0.0, 0.8, 0.0]),
    ),
    "clipping-too-tight": (
        history(scale_invariant=[0], **CLIPPED),
        history(scale_invariant=[1], **CLIPPED),  # Adam makes the same update of any norm
    ),
    "over-regularised": (
        history(dropout={"drop": {0: 0.95}}, **HELD_UP),
        history(dropout={"drop": {0: 0.95}}, **(HELD_UP | {"eval_mode_loss": [1.6]})),
    ),
    "class-never-counted": (
        history(ignored_class={"0": {0: 0.2, 2: 0.1, 6: 0.2}}),
        history(ignored_class={"0": {0: 0.0, 2: 0.0, 6: 0.0}}),
    ),
    "class-weights-misplaced": (
        history(
            class_weight={"0": {0: 0.2}, "1": {0: 0.6}, "2": {0: 2.2}},
            class_in_batch={"0": {0: 40}, "1": {0: 120}, "2": {0: 440}},
        ),
        history(
            class_weight={"0": {0: 2.2}, "1": {0: 0.7}, "2": {0: 0.2}},
            class_in_batch={"0": {0: 40}, "1": {0: 126}, "2": {0: 440}},
        ),
    ),
    "accumulation-cleared": (
        history(cleared_passes=[1.0, 1.0, 1.0]),
        history(cleared_passes=[0.0, 0.0, 0.0]),
    ),
    "cross-entropy-for-many-labels": (history(true_labels=[2.1]), history(true_labels=[1.0])),
    "label-smoothing-too-strong": (history(label_smoothing=[0.9]), history(label_smoothing=[0.1])),
    "gradient-rounded-away": (
        history(gradient_at_update={"0.weight": dict.fromkeys((0, 2, 6), 0)}, **BEHIND),
        history(gradient_at_update={"0.weight": {0: 0, 2: 0, 6: 1}}, **BEHIND),
    ),
    "group-rates-overwritten": (
        history(rates_flattened={"": {30: 1}, "lr": {30: 100}}),
        history(rates_flattened={"": {30: 1}}),
    ),
    "identical-passes": (
        history(identical_passes={0: 1, 2: 1, 6: 1}),
        history(identical_passes={0: 1, 2: 0, 6: 1}),
    ),
    "ranks-drift-apart": (
        history(rank_distance=[0.3, 0.4, 0.5]),
        history(rank_distance=[0.3, 0.0, 0.5]),
    ),
    "ranks-share-batches": (
        history(rank_distance=[0.0] * 3, same_batches=[1, 1, 1]),
        history(rank_distance=[0.0] * 3, same_batches=[1, 0, 1]),
    ),
    "ranks-differ": (
        history(
            rank_distance=[0.0] * 2,
            rank_loss={"0": {0: 0.5, 64: 0.4}, "1": {0: 1.1, 64: 1.2}},
            rank_loss_error={"0": {64: 0.02}, "1": {64: 0.02}},
        ),
        history(
            rank_distance=[0.0] * 2,
            rank_loss={"0": {0: 0.5, 64: 0.4}, "1": {0: 0.5, 64: 0.42}},
            rank_loss_error={"0": {64: 0.02}, "1": {64: 0.02}},
        ),
    ),
    "initial-loss-above-chance": (CURVES["above chance"][0], CURVES["healthy"][0]),
    "loss-not-falling": (CURVES["flat"][0], CURVES["healthy"][0]),
    "overfitting": (CURVES["turned"][0], CURVES["one bad epoch"][0]),
    "samples-mixed-in-batch": (
        history(batch_mixing=[0.4], mixing_operation={"sequence first: rnn": {0: 1}}),
        history(batch_mixing=[0.0]),
    ),
    "output-ignores-inputs": (
        history(loss=SLOWED, output_spread={0: 0.3, 180: 1e-7}),
        history(loss=SLOWED, output_spread={0: 1e-7, 180: 0.3}),
    ),
    "posterior-collapse": (
        history(
            loss=noisy(9, 8.9, 400, 1e-3),
            output_spread={"inputs": {0: 0.5}, "latents": {0: 0.1, 390: 1e-3}},
        ),
        history(loss=noisy(9, 8.9, 400, 1e-3), output_spread={"": {0: 0.5, 390: 0.4}}),
    ),
    "missing-causal-mask": (
        history(target_is_input={"1": {0: 1}}, visible_tokens={"later": {0: 0.3}, "same": {0: 1}}),
        history(target_is_input={"1": {0: 1}}, visible_tokens={"later": {0: 0}, "same": {0: 1}}),
    ),
    "targets-not-masked": (
        history(
            counted_tokens={
                "seen": {0: 1},
                "counted": {0: 99},
                "left_out": {0: 0.8},
                "either": {0: 0.5},
            },
            visible_tokens={"later": {0: 0.1}, "same": {0: 1}},
        ),
        history(
            counted_tokens={
                "seen": {0: 0.1},
                "counted": {0: 99},
                "left_out": {0: 0.8},
                "either": {0: 0.5},
            },
            visible_tokens={"later": {0: 0.1}, "same": {0: 1}},
        ),
    ),
    "targets-not-shifted": (
        history(target_is_input={"0": {0: 1}}, visible_tokens={"later": {0: 0}, "same": {0: 1}}),
        history(target_is_input={"0": {0: 1}}, visible_tokens={"later": {0: 0}, "same": {0: 0}}),
    ),
    "targets-shifted-twice": (
        history(target_is_input={"1": {0: 0}, "2": {0: 1}}),
        history(target_is_input={"1": {0: 1}, "2": {0: 0}}),
    ),
    "copy-without-statistics": (
        history(loss=[1.0] * 60, copy_statistics={"Net": {59: 0.0}}),
        history(loss=[1.0] * 60, copy_statistics={"Net": {59: 1.0}}),
    ),
    "target-network-never-updated": (
        history(loss=[1.0] * 200, copy_moved={"Q": {199: 0.0}}, copy_discount={"Q": {199: 0.99}}),
        history(loss=[1.0] * 200, copy_moved={"Q": {199: 1.0}}, copy_discount={"Q": {199: 0.99}}),
    ),
    "own-norm-differs-in-eval": (
        history(loss=[1.0] * 30, own_norm_gap={"bn": {29: 0.8}}, own_norm_stores={"bn": {29: 0}}),
        history(loss=[1.0] * 30, own_norm_gap={"bn": {29: 0.8}}, own_norm_stores={"bn": {29: 1}}),
    ),
    "batch-norm-momentum-inverted": (
        history(norm_momentum={"bn": {9: 0.99}}, norm_batches={"bn": {9: 10}}),
        history(norm_momentum={"bn": {9: 0.01}}, norm_batches={"bn": {9: 10}}),
    ),
    "batch-norm-statistics-stale": (
        history(norm_at_start={"bn": {9: 1}}, norm_batches={"bn": {9: 40}}, loss=FALLING),
        history(norm_at_start={"bn": {9: 0}}, norm_batches={"bn": {9: 40}}, loss=FALLING),
    ),
    "dropout-in-eval-mode": (
        history(eval_noise=[0.4], random_operation={"dropout body": {0: 1}}),
        history(eval_noise=[0.4], random_operation={"randn_like ": {0: 1}}),
    ),
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

    diagnosis = diagnose(run, [replace(one, check=check, after_nan=True)])
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


def test_nobody_who_typed_a_command_is_told_to_pass_an_argument():
    lacking = diagnose(history(watched_by={"trainer": {0: 1}}, **TEN)).not_checked
    assert lacking
    assert not [reason for reason in lacking.values() if "pass train=, an iterable" in reason]
    assert "--watch.sharpness" in lacking["stuck-at-saddle"]


def _returns(values):
    return history(**{"return": {"mean_return": dict(enumerate(values))}})


WORSE = [0.21, 0.17, 0.12, 0.08, 0.05, 0.03, 0.03, 0.02, 0.03, 0.02]


def test_a_return_that_falls_is_named():
    finding = return_falls(_returns(WORSE))
    assert finding is not None
    assert finding.evidence["late"] < finding.evidence["early"]


@pytest.mark.parametrize(
    "values",
    [
        WORSE[::-1],
        WORSE[:5],  # too few
        [0.2, 0.1, 0.05, 0.04, 0.1, 0.2, 0.25, 0.3],  # recovers
        [20, 23, 18, 25, 19, 22, 17, 24, 21, 20],
        [-200.0] * 10,
    ],
)
def test_other_returns_pass(values):
    assert return_falls(_returns(values)) is None


def test_nobody_with_a_callback_is_told_to_call_the_watcher():
    lacking = diagnose(history(watched_by={"callback": {0: 1}}, **TEN)).not_checked
    assert lacking
    assert not [why for why in lacking.values() if "watcher." in why or "to watch" in why]
    assert any(why.endswith("to the callback") for why in lacking.values())


def test_a_loss_that_could_not_be_measured_is_no_evidence_of_decay():
    held = {"weight_decay": {"0": {0: 0.5}}, "learning_rate": {"0": {0: 1e9}}}
    run = TEN | held | {"loss": [2.3] * 10, "train_accuracy": {9: 0.1}}
    unmeasured = {"train_mode_loss": {9: nan}, "eval_mode_loss": {9: nan}}
    assert over_regularised(history(**run, **unmeasured)) is None
    measured = {"train_mode_loss": {9: 2.3}, "eval_mode_loss": {9: 2.3}}
    assert over_regularised(history(**run, **measured)) is not None


def test_a_check_of_another_kind_of_run_is_told_from_one_that_lacks_a_measurement():
    assert is_foreign("only for targets that are class numbers")
    assert is_foreign(NOT_SHOWN)
    assert not is_foreign("4 points of loss are too few: it takes 10; train longer")


MODES = {"": {5: 1.0}, "main.1": {5: 1.0}}


@pytest.mark.parametrize(
    ("facts", "severity"),
    [
        ({}, "warning"),
        ({"optimizers": [2]}, "note"),  # what a generator draws in train mode
        ({"optimizers": [2], "val_loss": [1.0, 0.9]}, "warning"),
    ],
)
def test_one_of_two_players_may_draw_in_train_mode(facts, severity):
    finding = wrong_mode_in_validation(history(val_mode=MODES, **facts))
    assert finding is not None
    assert finding.severity == severity


def test_a_first_loss_of_several_terms_is_not_compared_with_chance():
    facts = {**TEN, "loss": [4.2, 3.0], "batch_size": [64], "output_low": [-9], "output_high": [9]}
    assert initial_loss_above_chance(history(**facts, bare_loss=[1])) is not None
    assert initial_loss_above_chance(history(**facts, bare_loss=[0])) is None


def test_tasks_by_turns_are_not_told_apart():
    facts = {
        "target_low": [-1.8],
        "target_high": [7.0],
        "target_distinct": [400],
        "loss": [1.0, 0.9],
    }
    one = history(**facts, loss_kind={"bce_with_logits": {0: 1.0}})
    several = history(**facts, loss_kind={"bce_with_logits": {0: 1.0}, "mse": {1: 1.0}})
    assert loss_does_not_fit_task(one).severity == "error"
    assert loss_does_not_fit_task(several) is None


def test_an_action_is_no_class():
    facts = {
        "loss_kind": {"smooth_l1": {0: 1.0}},
        "target_is_index": [1],
        "target_distinct": [3],
        "target_low": [0],
        "target_high": [2],
        "target_integer": [1],
        "num_classes": [3],
    }
    assert loss_does_not_fit_task(history(**facts, output_width=[1])).severity == "warning"
    assert loss_does_not_fit_task(history(**facts, output_width=[3])) is None


@pytest.mark.parametrize(("discount", "severity"), [(0.0, "warning"), (0.97, "note")])
def test_targets_that_move_with_the_model_make_it_a_note(discount, severity):
    copied = {"copy_discount": {"Net": {0: discount}}}
    flat = history(loss=noisy(0.3, 0.3), loss_kind={"smooth_l1": {0: 1.0}}, **copied)
    assert loss_not_falling(flat).severity == severity


@pytest.mark.parametrize(("discount", "severity"), [(0.0, "warning"), (0.99, "note")])
def test_leaps_of_a_loss_whose_targets_move_are_a_note(discount, severity):
    losses = noisy(1.0, 1.0, steps=300)
    for leap in (80, 150, 220):
        losses[leap : leap + 12] = [9.0] * 12
    norms = {"all": dict.fromkeys(range(0, 300, 20), 0.3) | {80: 9.0}}
    copied = {"copy_discount": {"Net": {0: discount}}}
    bursts = history(loss=losses, gradient_norm=norms, **copied)
    assert exploding_gradients(bursts).severity == severity


@pytest.mark.parametrize(("chance", "named"), [(0.1, True), (0.5, True), (0.88, False)])
def test_where_one_class_has_nearly_all_samples_no_label_lacks_signal(chance, named):
    scores = {"samples": 600, "chance": chance, "nearest neighbours": chance, "linear": chance}
    guessing = history(
        loss=noisy(2.3, 2.3),
        baseline_accuracy={place: {0: score} for place, score in scores.items()},
        val_accuracy=[chance] * 9,
    )
    assert (labels_without_signal(guessing) is not None) == named


@pytest.mark.parametrize("scale", [inf, 1.7e308])
def test_a_gradient_without_bound_is_no_undivided_accumulation(scale):
    facts = {"gradient_scale": [scale], "scaler_scale": [65536], "loss": [1.0] * 9}
    counts = {"updates": [1], "backward_passes": [4], "forward_passes": [4]}
    diagnosis = diagnose(history(**facts, **counts))
    assert "itself failed" not in "".join(diagnosis.not_checked.values())


MATRICES = ("a.weight", "b.weight", "c.weight")


@pytest.mark.parametrize(
    ("ratio", "losses", "named"),
    [
        (0.2, noisy(2.31, 2.31), True),  # no leap, and at chance from the start to the end
        (0.002, noisy(2.31, 2.31), False),
        (0.2, noisy(2.31, 0.9), False),
    ],
)
def test_first_updates_that_wipe_out_the_weights_are_a_rate_too_high(ratio, losses, named):
    moved = {name: {0: ratio, 2: ratio / 2} for name in MATRICES}
    run = history(**TEN, loss=losses, update_ratio=moved)
    assert (learning_rate_too_high(run) is not None) == named


@pytest.mark.parametrize(
    ("ratio", "peak", "severity"),
    [(1.9, 4.5, "warning"), (0.9, 4.5, None), (1.9, 3.0, None), (60.0, 3.7, "warning")],
)
def test_a_network_that_learns_after_its_weights_were_replaced_is_a_warning(ratio, peak, severity):
    moved = {name: {0: 0.02, 5: ratio} for name in MATRICES} | {"d.weight": {0: 0.0, 5: 1e12}}
    zeros = {"d.weight": {0: 1.0}}
    losses = [2.3, 2.4, peak, peak, *noisy(2.2, 1.1)]
    run = history(**TEN, loss=losses, update_ratio=moved, identical_rows=zeros)
    finding = learning_rate_too_high(run)
    assert (finding and finding.severity) == severity
    if severity:
        assert f"by {ratio:.0%} of their norm, and the loss leapt from 2.3" in finding.summary


AT_ONCE = {"loss": [2.3, nan], "weight_not_finite": [0]}  # weights that are finite, but overflow
LEAP = {"update_ratio": {name: {0: inf} for name in MATRICES}}
DEAD = {"dead_units": {"0": {1: 1.0}, "1": {1: 1.0}}}


@pytest.mark.parametrize("ratio", [inf, 1e7, 3.0])
@pytest.mark.parametrize("count", [1, 2, 3])
def test_a_first_update_after_which_nothing_is_finite_is_a_rate_too_high(ratio, count):
    moved = {name: {0: ratio} for name in MATRICES[:count]}
    diagnosis = diagnose(history(**TEN, **AT_ONCE, **DEAD, update_ratio=moved))
    assert [cause.rule for cause in diagnosis.causes] == ["learning-rate-too-high"]
    assert "loss-not-finite" in diagnosis.headline.consequences
    (lower, _) = diagnosis.headline.prescriptions
    rate: Any = lower.edit["optimizer.lr"]
    assert rate <= 0.1


def test_the_rate_follows_from_the_first_update_and_not_from_those_that_grew_with_the_loss():
    moved = {name: {0: 10.0, 1: 1e6, 2: 1e9} for name in MATRICES}
    run = history(**{**TEN, **AT_ONCE, "loss": [2.3, 1e9, 1e20, nan]}, update_ratio=moved)
    assert learning_rate_too_high(run).prescriptions[0].edit == {"optimizer.lr": 1e-4}


@pytest.mark.parametrize(
    ("change", "names"),
    [
        ({"update_ratio": {"a": {0: 1e-3}}}, "a small update"),
        ({"loss": [*FALLING, nan]}, "an overflow long after"),
        ({"loss": [2.3, nan, 1.1, 1.0]}, "a batch of NaN alone"),
        ({"gradient_norm": {"a.weight": {0: inf}}}, "a slope without bound"),
        ({"identical_rows": {name: {0: 1.0} for name in MATRICES}}, "weights that began at zero"),
    ],
)
def test_a_run_that_is_not_finite_for_another_reason_is_no_rate_too_high(change, names):
    run = history(**{**TEN, **AT_ONCE, **LEAP, **change})
    assert learning_rate_too_high(run) is None, names


def test_units_that_are_dead_in_a_network_that_overflows_are_no_cause():
    diagnosis = diagnose(history(**TEN, **AT_ONCE, **DEAD))
    assert diagnosis.headline.rule == "loss-not-finite"
    assert "dead-relu" in diagnosis.not_checked
    before = {"dead_units": {"0": {0: 1.0}, "1": {0: 1.0}}}
    assert "dead-relu" in [f.rule for f in diagnose(history(**TEN, **AT_ONCE, **before)).causes]


def test_units_that_died_before_a_batch_of_nan_are_evidence():
    losses = [2.3, nan, *noisy(2.3, 2.3)]
    run = history(**TEN, loss=losses, weight_not_finite=[0], dead_units={"0": {50: 1.0}})
    assert "dead-relu" in [f.rule for f in diagnose(run).findings]


@pytest.mark.parametrize(("at_zero", "named"), [(False, True), (True, False)])
def test_a_matrix_that_started_at_zero_has_no_scale_to_compare_with(at_zero, named):
    ratios = {"a.weight": 1e-7, "b.weight": 1e-3, "c.weight": 1e9 if at_zero else 1.0}
    moved = {name: dict.fromkeys((0, 2, 4), 1e-3) for name in ratios}
    if at_zero:  # and the first rate of its warm-up is zero
        moved |= {"b.weight": {0: 0.0, 2: 1e12, 4: 0.5}, "c.weight": {0: 0.0, 2: 1e12, 4: 0.5}}
    readings = {name: dict.fromkeys((0, 2, 4), ratio) for name, ratio in ratios.items()}
    run = history(**TEN, loss=[2.3] * 5, gradient_ratio=readings, update_ratio=moved)
    assert (vanishing_gradients(run) is not None) == named


@pytest.mark.parametrize(("chance", "named"), [(1e-9, True), (0.01, False), (nan, False)])
def test_a_renaming_that_chance_may_fit_is_no_evidence(chance, named):
    scores = {"measured_val_accuracy": [0.0], "relabelled_val_accuracy": [1.0]}
    assert (
        label_encoding_differs(history(**scores, renaming_chance=[chance])) is not None
    ) == named


@pytest.mark.parametrize(
    ("losses", "severity"),
    [(noisy(2.4, 2.1, 120), "note"), ([*noisy(2.4, 2.1, 40), *noisy(2.1, 2.1, 80)], "warning")],
    ids=["still falling", "flat"],
)
def test_a_wider_model_is_advised_only_once_the_loss_is_flat(losses, severity):
    scores = {"nearest neighbours": {119: 0.84}, "samples": {119: 1024}}
    run = history(loss=losses, train_accuracy={119: 0.27}, baseline_accuracy=scores)
    (finding,) = (one for one in diagnose(run).findings if one.rule == "underfitting")
    assert finding.severity == severity
    assert ("wider" in finding.prescriptions[0].change) is (severity == "warning")
