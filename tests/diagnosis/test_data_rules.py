"""Rules about targets and data, on histories: a fault, its sound look-alikes, too few samples."""

from math import log, nan

import pytest

from thalweg.diagnosis import diagnose
from thalweg.record import History, quantity_called


def history(**values):
    """A history from name=value or name={place: value}; a list is a series."""
    record = History()
    for name, value in values.items():
        places = value if isinstance(value, dict) else {"": value}
        for place, one in places.items():
            for step, number in enumerate(one if isinstance(one, list) else [one]):
                record.add(quantity_called(name), step, {place: float(number)})
    return record


def severity(rule, **values):
    findings = {f.rule: f.severity for f in diagnose(history(**values)).findings}
    return findings.get(rule)


def neighbours(samples):
    return {"nearest neighbours": 0.7, "linear": 0.6, "chance": 0.1, "samples": samples}


@pytest.mark.parametrize(
    ("suspects", "samples", "expected"),
    [(0.3, 1000, "warning"), (0.3, 384, None), (0.3, 511, None), (0.01, 1000, None)],
)
def test_label_noise_needs_512_samples(suspects, samples, expected):
    measured = {"suspect_labels": suspects, "baseline_accuracy": neighbours(samples)}
    assert severity("label-noise", **measured) == expected


@pytest.mark.parametrize(
    ("leaked", "copies", "samples", "expected"),
    [
        (0.1, 0.0, 400, "warning"),
        (1.0, 0.0, 3, "warning"),
        (1 / 30, 0.0, 30, "note"),  # one row of thirty
        (0.03, 0.014, 128, None),  # short sentences coincide by nature
        (0.0, 0.0, 400, None),
        (0.2, 0.3, 400, None),
    ],
)
def test_a_leak_is_more_than_a_coincidence(leaked, copies, samples, expected):
    measured = {"leaked": leaked, "duplicated": copies, "val_samples": samples}
    assert severity("train-val-leakage", **measured) == expected


@pytest.mark.parametrize(
    ("near", "leaked", "samples", "expected"),
    [
        (0.2, 0.0, 400, "warning"),
        (0.02, 0.0, 150, "note"),  # three of 150
        (0.008, 0.0, 2000, None),  # as of CIFAR-10's own splits
        (0.02, 0.0, 50, None),  # one
        (0.0, 0.2, 400, "warning"),
        (nan, 0.0, 400, None),
    ],
)
def test_near_copies_across_the_splits_are_a_leak(near, leaked, samples, expected):
    measured = {"near_copied": near, "leaked": leaked, "duplicated": 0.0, "val_samples": samples}
    assert severity("train-val-leakage", **measured) == expected


@pytest.mark.parametrize(("batch", "expected"), [(64, "warning"), (16, "warning"), (5, None)])
def test_the_first_loss_of_few_samples_says_little(batch, expected):
    measured = {
        "loss": [6.0, *[2.0] * 20],
        "chance_loss": log(10),
        "num_classes": 10,
        "batch_size": batch,
        "output_low": -5.0,
        "output_high": 5.0,
    }
    assert severity("initial-loss-above-chance", **measured) == expected


@pytest.mark.parametrize(
    ("logged", "measured", "expected"),
    [
        ([0.2, 0.3, 0.3], 0.9, "warning"),
        ([0.2, 0.91, 0.3], 0.9, None),  # the best weights were restored
        ([0.2, 0.8, 0.82], 0.9, None),
    ],
)
def test_an_accuracy_logged_earlier_may_be_that_of_restored_weights(logged, measured, expected):
    record = history(val_accuracy=logged, val_samples=400)
    record.add(quantity_called("measured_val_accuracy"), 2, {"": measured})
    severities = {f.rule: f.severity for f in diagnose(record).findings}
    assert severities.get("metric-disagrees-with-loss") == expected


EMPTY = {"share": [1.0] * 4, "samples": [1.0] * 4, "batch": [1.0] * 4}
PARTLY = {"share": [0.7] * 4, "samples": [0.7] * 4, "batch": [0.0] * 4}
NONE = {"share": [0.0] * 4, "samples": [0.0] * 4, "batch": [0.0] * 4}


@pytest.mark.parametrize(
    ("ignored", "losses", "expected"),
    [
        (EMPTY, [nan] * 40, "error"),
        (PARTLY, [2.0, nan, 2.0, 1.9] * 10, "error"),
        (PARTLY, [2.0] * 40, None),  # a mask of prompts: every batch has targets
        (NONE, [2.0, nan, 2.0, 1.9] * 10, None),  # NaN for another reason
        (PARTLY, [2.0] * 20 + [nan] * 20, None),  # and it stays NaN: the weights are
    ],
)
def test_batches_without_targets(ignored, losses, expected):
    assert severity("no-targets-left", targets_ignored=ignored, loss=losses) == expected


@pytest.mark.parametrize(
    ("share", "expected"), [(0.8, "warning"), (0.1, "note"), (0.01, None), (0.0, None)]
)
def test_padding_weighs_by_its_share(share, expected):
    assert severity("padding-in-loss", padding={"targets": share, "token": 0}) == expected


TINY = {"std": 0.0015, "mean": 0.002, "largest": 0.004}


@pytest.mark.parametrize(
    ("scale", "layer", "loss", "expected"),
    [
        (TINY, 0.0015, 2.3, "warning"),
        (TINY, 0.0015, 0.1, "note"),  # it learns all the same
        (TINY, 1.0, 2.3, None),  # the model normalises
        ({"std": 0.3, "mean": 0.5, "largest": 1.0}, 0.3, 2.3, None),
        ({"std": 0.019, "mean": 0.0, "largest": 0.9}, 0.019, 2.3, None),  # sparse counts
    ],
)
def test_small_inputs_are_judged_by_their_harm(scale, layer, loss, expected):
    measured = {
        "input_scale": scale,
        "input_std": {"lowest": layer, "median": layer, "highest": layer},
        "input_offset": 1.0,
        "loss": [2.3, *[loss] * 60],
        "chance_loss": 2.3,
    }
    assert severity("unscaled-inputs", **measured) == expected


@pytest.mark.parametrize(
    ("dead", "gradient", "expected"),
    [
        (1.0, [0, 0, 0, 0], "warning"),
        (1.0, [0, 0, 0, 1], "note"),  # its weights learn through another branch
        (1.0, [0, 0], "note"),  # a branch that starts at zero
        (0.97, [0, 0, 0, 0], "note"),  # the other units suffice
    ],
)
def test_a_layer_without_a_live_unit_is_a_fault_however_low_the_loss(dead, gradient, expected):
    run = {
        "dead_units": {"0": dead},
        "gradient_at_update": {"0.weight": gradient},
        "gradient_present": {"0.weight": 1.0},
        "loss": [2.3, *[0.1] * 60],
        "chance_loss": 2.3,
    }
    assert severity("dead-relu", **run) == expected


@pytest.mark.parametrize(
    ("stds", "spread", "late", "expected"),
    [
        ({"gru": 7e-4, "gru#2": 0.08, "head": 0.07}, 9e-6, 2.3, "warning"),  # biases alone
        ({"gru": 7e-4, "gru#2": 0.08, "head": 0.07}, 9e-6, 0.2, "note"),
        ({"gru": 7e-4, "gru#2": 0.08, "head": 0.07}, 0.3, 2.3, None),
        ({"down": 0.0, "last": 0.4, "head": 0.4}, 0.3, 2.3, None),  # an adapter that starts at zero
        ({"down": 0.0, "last": 0.4, "head": 0.4}, 0.0, 2.3, None),  # and a head that does
        ({"up": 0.4, "down": 0.3, "head": 1e-4}, 5e-4, 2.3, None),  # a small head
    ],
)
def test_biases_do_not_hide_a_signal_that_dies_out(stds, spread, late, expected):
    run = {"activation_std": stds, "output_spread": spread, "chance_loss": 2.3}
    assert severity("initialisation-scale", loss=[2.3, *[late] * 60], **run) == expected


@pytest.mark.parametrize(
    ("lows", "losses", "expected"),
    [
        ([-1.0, -1.0], [0.7, 0.6], "error"),
        ([0.0, -1.0], [0.7, 0.6], "error"),  # a later batch
        ([-1.0, -1.0], [0.7, 900.0], "error"),
        ([0.0, -3e5], [0.7, 900.0], None),  # read off outputs that have run away
    ],
)
def test_targets_are_not_read_after_a_leap(lows, losses, expected):
    run = {"loss_kind": {"bce_with_logits": 1.0}, "target_low": lows, "target_high": 1.0}
    assert severity("loss-does-not-fit-task", loss=losses, **run) == expected


@pytest.mark.parametrize(("discount", "expected"), [(0.9, "note"), (0.0, "warning")])
def test_a_loss_whose_targets_move_with_a_copy_need_not_fall(discount, expected):
    measured = {"copy_discount": {"copy": discount}, "loss_kind": {"mse": 1.0}}
    assert severity("loss-not-falling", loss=[0.2, 0.3] * 40, **measured) == expected


def test_layers_that_were_added_later_are_no_part_of_the_initialisation():
    record = history(activation_std={"first": 0.5, "second": 0.4, "head": 0.3}, loss=[2.3] * 60)
    record.add(quantity_called("activation_std"), 50, {"adapter": 400.0, "last": 1.0})
    assert "initialisation-scale" in diagnose(record).passed
