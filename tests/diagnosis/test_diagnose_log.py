"""Logged curves alone: sound ones raise no alarm, sick ones do; gaps are reported as such."""

import csv

import numpy as np
import pytest

import thalweg
from thalweg.diagnosis.diagnose_log import NOT_IN_CURVES
from thalweg.diagnosis.rules import RULES


@pytest.fixture
def diagnosed(tmp_path):
    """The diagnosis of a CSV file with those columns."""

    def diagnose(columns, **about):
        path = tmp_path / "curves.csv"
        with path.open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(columns)
            writer.writerows(zip(*columns.values(), strict=True))
        return thalweg.diagnose(path, **about)

    return diagnose


def epochs(count):
    return np.arange(count)


def falling(count, *, start=2.3, end=0.1, speed=8.0):
    return end + (start - end) * np.exp(-speed * np.arange(count) / count)


def sound_runs():
    """(seed, count) of losses, short and long."""
    return [(seed, count) for count in (3, 12, 25, 45, 300, 1000) for seed in range(20)]


def sound(seed, count):
    random = np.random.default_rng(seed)
    speed, end = random.uniform(2, 15), random.uniform(0.02, 0.8)
    noise = random.uniform(0.0, 0.15)
    loss = falling(count, end=end, speed=speed) * np.exp(noise * random.normal(size=count))
    val = falling(count, end=end * random.uniform(1.0, 1.3), speed=speed)
    val = val * np.exp(0.03 * random.normal(size=count))
    rate = 1e-3 * (1 + np.cos(np.pi * np.arange(count) / count)) / 2
    accuracy = np.clip(0.95 - val / 4 + 0.01 * random.normal(size=count), 0, 1)
    return {"train_loss": loss, "val_loss": val, "val_acc": accuracy, "lr": rate}


@pytest.mark.parametrize("counter", ["step", "epoch"])
@pytest.mark.slow
def test_sound_curves_raise_no_alarm(diagnosed, counter):
    alarms = {}
    for seed, count in sound_runs():
        diagnosis = diagnosed({counter: epochs(count)} | sound(seed, count))
        if diagnosis.causes:
            alarms[seed, count] = str(diagnosis.causes[0])
    assert alarms == {}


def test_a_steep_fall_over_few_epochs_is_a_fall(diagnosed):
    losses = np.concatenate([[2.3, 0.8, 0.4, 0.3, 0.2, 0.15, 0.12, 0.1], np.full(32, 0.05)])
    for count in (10, 20, 40):
        diagnosis = diagnosed({"epoch": epochs(count), "loss": losses[:count]})
        assert diagnosis.headline is None, str(diagnosis)
        assert "loss-not-falling" in diagnosis.passed


@pytest.mark.parametrize("count", [12, 60])
def test_a_validation_loss_that_turns_is_overfitting(diagnosed, count):
    val = 0.6 + 1.7 * np.exp(-np.arange(count) * 12 / count) + 1.8 * np.arange(count) / count
    columns = {"epoch": epochs(count), "loss": falling(count, end=0.01), "val_loss": val}
    assert diagnosed(columns).headline.rule == "overfitting"


def test_a_confident_model_that_stays_right_is_a_note(diagnosed):
    val = 0.6 + 1.7 * np.exp(-np.arange(60) / 5) + 0.9 * np.arange(60) / 60
    columns = {"epoch": epochs(60), "loss": falling(60, end=0.01), "val_loss": val}
    columns["val_accuracy"] = 0.9 - 0.5 * np.exp(-np.arange(60) / 5)
    diagnosis = diagnosed(columns)
    assert diagnosis.headline is None
    assert [f.rule for f in diagnosis.findings if f.severity == "note"] == ["overfitting"]


def test_a_loss_that_leaps_and_stays_up_is_too_high_a_rate(diagnosed):
    losses = np.concatenate([[2.3, 40.0, 900.0], np.full(97, 2.6)])
    columns = {"step": epochs(100), "train/loss": losses, "lr": np.full(100, 3.0)}
    assert diagnosed(columns).headline.rule == "learning-rate-too-high"


def test_a_loss_that_became_nan_is_reported_with_its_step(diagnosed):
    losses = [2.0, 1.5, *["nan"] * 60]
    finding = diagnosed({"step": epochs(62), "loss": losses}).headline
    assert finding.rule == "loss-not-finite"
    assert finding.where == "step 2"


@pytest.mark.parametrize(("counter", "count"), [("epoch", 12), ("epoch", 30), ("step", 200)])
def test_a_flat_loss_is_not_falling(diagnosed, counter, count):
    losses = 2.303 + 0.01 * np.random.default_rng(0).normal(size=count)
    assert diagnosed({counter: epochs(count), "loss": losses}).headline.rule == "loss-not-falling"


def test_a_plateau_is_a_note_where_chance_is_known(diagnosed):
    losses = 1.9 + 0.4 * np.exp(-np.arange(400) / 20)
    losses += 0.01 * np.random.default_rng(0).normal(size=400)
    columns = {"step": epochs(400), "loss": losses}
    severities = {f.rule: f.severity for f in diagnosed(columns, num_classes=10).findings}
    assert severities["training-plateau"] == "note"  # the noise of the data may set that floor
    assert "num-classes" in diagnosed(columns).not_checked["training-plateau"]


def test_a_rate_that_collapsed_early_is_named(diagnosed):
    rate = np.concatenate([np.full(50, 1e-2), np.full(150, 1e-7)])
    losses = np.concatenate([falling(50, end=1.2), np.full(150, 1.2)])
    losses += 0.01 * np.random.default_rng(0).normal(size=200)
    columns = {"step": epochs(200), "loss": losses, "learning_rate": rate}
    assert diagnosed(columns).headline.rule == "learning-rate-collapsed"


def test_every_rule_is_accounted_for_and_says_what_it_would_take(diagnosed):
    diagnosis = diagnosed({"epoch": epochs(4), "loss": [2.0, 1.0, 0.5, 0.4]})
    findings = {finding.rule for finding in diagnosis.findings}
    accounted = findings | set(diagnosis.passed) | diagnosis.not_checked.keys()
    assert accounted == {rule.name for rule in RULES}
    why = diagnosis.not_checked
    assert why["loss-not-falling"] == "4 points of loss are too few: it takes 10; train longer"
    assert why["overfitting"] == (
        "no column was read as val_loss: --column val_loss=COLUMN names one"
    )
    assert why["dead-relu"] == NOT_IN_CURVES
    assert diagnosis.passed == ("loss-not-finite",)


def test_a_first_epochs_mean_is_no_initial_loss(diagnosed):
    columns = {"epoch": epochs(20), "loss": falling(20)}
    assert "initial-loss-above-chance" in diagnosed(columns, num_classes=10).not_checked
    columns = {"step": epochs(20), "loss": falling(20)}
    assert "initial-loss-above-chance" in diagnosed(columns, num_classes=10).passed
