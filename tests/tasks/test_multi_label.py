"""Several labels a sample: metrics, targets and predictions."""

from math import log

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from sklearn import metrics

from thalweg.classical.linear import linear_labels
from thalweg.data.samples import Labels
from thalweg.errors import DataError
from thalweg.label_sets import label_sets
from thalweg.tasks import TASKS, multi_label
from thalweg.tasks.label_metrics import exact_match, macro_f1, mean_average_precision, micro_f1
from thalweg.tasks.multi_label import label_log_odds, label_targets, label_threshold
from thalweg.wording import join_labels, split_labels

NAMES = ("ant", "bee", "cat")


def labels(*texts, members=()):
    return Labels(np.arange(len(texts)), texts, members=members)


@given(seed=st.integers(0, 2**32 - 1), num_labels=st.integers(1, 6), samples=st.integers(2, 60))
def test_metrics_agree_with_scikit_learn(seed, num_labels, samples):
    rng = np.random.default_rng(seed)
    scores = rng.integers(0, 9, (samples, num_labels)) / 8  # with ties
    present = rng.random((samples, num_labels)) < 0.4
    present[0], present[1] = True, False
    holding = scores > 0.5
    tensors = torch.tensor(holding), torch.tensor(present)
    found = mean_average_precision(torch.tensor(scores), torch.tensor(present).float())
    assert found == pytest.approx(metrics.average_precision_score(present, scores, average="macro"))
    macro = metrics.f1_score(present, holding, average="macro", zero_division=0)
    micro = metrics.f1_score(present, holding, average="micro", zero_division=0)
    if num_labels > 1:  # scikit-learn takes one column for a binary task
        assert macro_f1(*tensors) == pytest.approx(macro)
        assert micro_f1(*tensors) == pytest.approx(micro)
        assert exact_match(*tensors) == pytest.approx(metrics.accuracy_score(present, holding))


def test_labels_that_no_sample_bears_do_not_count():
    present = torch.tensor([[1.0, 0], [0, 0]])
    assert mean_average_precision(torch.tensor([[2.0, 0], [1, 1]]), present) == 1
    assert np.isnan(mean_average_precision(torch.zeros(2, 2), torch.zeros(2, 2)))
    assert macro_f1(present > 0, present > 0) == 1


def test_outputs_of_zero_predict_the_rates_and_score_the_entropy_of_the_labels():
    rates = (0.5, 0.1, 0.01)
    task = multi_label(rates)
    decoded = task.decode(torch.zeros(1, 3))
    torch.testing.assert_close(decoded, torch.tensor([rates]))
    entropy = -sum(p * log(p) + (1 - p) * log(1 - p) for p in rates)
    assert task.chance_loss == pytest.approx(entropy)
    targets = torch.zeros(100, 3)
    for column, rate in enumerate(rates):
        targets[: int(100 * rate), column] = 1
    assert task.loss_fn(torch.zeros(100, 3), targets).item() == pytest.approx(entropy, rel=1e-5)


def test_the_loss_is_the_negative_log_likelihood_of_the_labels():
    logits, targets = torch.randn(20, 3, dtype=torch.float64), (torch.rand(20, 3) < 0.4).double()
    rates = (0.3, 0.6, 0.9)
    p = (logits + torch.tensor(label_log_odds(rates), dtype=torch.float64)).sigmoid()
    expected = -(targets * p.log() + (1 - targets) * (1 - p).log()).sum(1).mean()
    found = multi_label(rates).loss_fn(logits, targets)
    assert found.item() == pytest.approx(expected.item(), rel=1e-5)


def test_rare_labels_have_a_lower_threshold_and_frequent_ones_a_half():
    assert label_threshold(0.5) == label_threshold(0.9) == 0.5
    assert 0.02 < label_threshold(0.02) < label_threshold(0.1) < 0.5


def test_a_prediction_lists_the_labels_that_hold():
    task = multi_label((0.5, 0.5, 0.02))
    found = task.predict(torch.tensor([0.9, 0.2, 0.3]), NAMES)
    assert (found.label, found.labels) == ("ant, cat", ("ant", "cat"))
    assert found.probability == pytest.approx(0.9 * 0.8 * 0.3)
    assert found.probabilities == pytest.approx({"ant": 0.9, "bee": 0.2, "cat": 0.3})
    nothing = task.predict(torch.zeros(3), NAMES)
    assert (nothing.label, nothing.labels) == ("(none)", ())


def test_the_surest_wrong_list_comes_first():
    logits = torch.tensor([[9.0, -9, -9], [9, 9, -9], [1, -9, -9]])
    targets = torch.tensor([[1.0, 0, 0], [1, 0, 0], [0, 0, 1]])
    readout = multi_label((0.5, 0.5, 0.5)).read(logits, targets, NAMES)
    assert readout.targets == ["ant", "ant", "cat"]
    assert readout.predicted == ["ant", "ant, bee", "ant"]
    assert readout.worst == [1, 2]


@pytest.mark.parametrize("names", [NAMES, ("a, b", "c"), ("a, b", "c | d"), ("(none)", "x; y")])
def test_a_list_of_labels_is_taken_apart_as_it_was_joined(names):
    for chosen in ([], list(names), list(names[1:])):
        assert split_labels(join_labels(chosen, names), names) == chosen


@pytest.mark.parametrize(
    ("texts", "labels_expected"),
    [
        (("ant", "bee", "ant|bee"), 2),
        (("ant;", "bee", "ant; bee"), 2),
        (("ant,bee", "ant", "bee,cat", "cat"), 3),
        (("ant bee", "ant", "bee"), 2),
        (("ant bee", "bee cat", "ant cat", "ant bee cat"), 3),
        (("['ant', 'bee']", "['ant']", "[]"), 2),
        (("Edema|Mass", "Mass", "Edema", "No Finding"), 3),
        (("polar bear", "brown bear", "black bear"), 0),
        (("ice cream", "orange", "orange juice", "apple pie"), 0),
        (("Smith, John", "Smith, Jane", "Doe, John"), 0),
        (("red, large", "red, small", "blue, large", "blue, small"), 0),
        (("ant ant", "ant", "bee"), 0),
        (("ant", "bee", "cat"), 0),
        (("", "ant"), 0),
        ((), 0),
    ],
)
def test_cells_that_combine_few_labels_are_told_from_classes_of_several_words(
    texts, labels_expected
):
    sets = label_sets(texts).sets
    assert len({label for members in sets for label in members}) == labels_expected


def test_targets_are_a_row_of_zeros_and_ones_and_a_note_names_the_other_way():
    found = label_targets(labels("ant", "bee", "ant|bee", "cat|bee|ant"), "column 'tags'")
    assert found.class_names == NAMES
    assert found.values.tolist() == [[1, 0, 0], [0, 1, 0], [1, 1, 0], [1, 1, 1]]
    assert "multi-label, 3 labels in column 'tags'" in found.notes[0]
    assert "--task classification" in found.notes[0]


def test_one_label_a_sample_is_not_multi_label():
    assert label_targets(labels("ant", "bee", "cat"), "column 'y'") is None
    assert label_targets(np.arange(4.0), "column 'y'") is None


@pytest.mark.parametrize("members", [((), ()), (("ant",), ("ant",))], ids=["none", "all"])
def test_labels_that_tell_nothing_apart_are_refused(members):
    with pytest.raises(DataError):
        label_targets(labels("x", "y", members=members), "column 'y'")


def test_samples_are_divided_by_their_rarest_label():
    found = label_targets(labels("a|b", "a", "a|c", "b", "a|b|c", "a"), "column 'y'")
    names = [found.class_names[code] for code in found.strata.tolist()]
    assert names == ["b", "a", "c", "b", "c", "a"]
    assert found.class_counts(np.arange(6)).tolist() == [5, 3, 2]
    assert found.label_rates(np.array([0, 1])) == (1.0, 0.5, 0.0)


def test_a_combination_is_a_class_for_those_who_ask_for_it():
    combined = labels("a + b", "a", "(none)", members=(("a", "b"), ("a",), ()))
    found = TASKS["classification"].targets(combined, "column 'y'")
    assert found.class_names == ("(none)", "a", "a + b")


def test_a_logistic_regression_a_label_has_no_slope_left():
    torch.manual_seed(0)
    inputs = torch.randn(300, 5, dtype=torch.float64)
    targets = (inputs[:, :3] + torch.randn(300, 3, dtype=torch.float64) > 0.5).double()
    fit = linear_labels(inputs, targets, penalty=0.01, tolerance=1e-12)
    weight = fit.map.weight.clone().requires_grad_()
    bias = fit.map.bias.clone().requires_grad_()
    loss = F.binary_cross_entropy_with_logits(inputs @ weight + bias, targets) * 3
    (loss + 0.005 * weight.square().sum()).backward()
    assert weight.grad.abs().max() < 1e-5
    assert bias.grad.abs().max() < 1e-5
