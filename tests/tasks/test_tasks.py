from math import isfinite, isnan, log
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from sklearn import metrics

from thalweg.data.samples import Labels
from thalweg.data.text.pairs import TargetTexts, target_texts
from thalweg.errors import UsageError
from thalweg.recipes.recipe import TaskRecipe
from thalweg.tasks import TASKS, classification, confusion, per_class_recall, regression

BUILT = [
    classification(2),
    classification(7, label_smoothing=0.1),
    regression(target_mean=3.0, target_std=2.0),
]


@pytest.mark.parametrize("task", BUILT, ids=lambda task: f"{task.name}-{task.outputs}")
def test_every_task_is_whole(task):
    assert task.name in TASKS
    assert task.headline in task.metrics
    logits = torch.randn(20, task.outputs)
    targets = torch.randint(task.outputs, (20,)) if task.outputs > 1 else torch.randn(20)
    assert task.loss_fn(logits, targets).shape == ()
    assert all(isinstance(metric(logits, targets), float) for metric in task.metrics.values())
    assert task.decode(logits).shape[0] == 20


# Task → labels that it takes.
LABELS: dict[str, Labels | TargetTexts | np.ndarray] = {
    "multi-label": Labels(np.arange(60) % 4, ("ant", "bee", "ant|bee", "ant|bee|cat")),
    "classification": np.arange(60.0) % 3,
    "regression": np.random.default_rng(0).normal(50, 7, 60),
    "next-token": np.random.default_rng(0).integers(0, 4, (60, 5)),
    "sequence": target_texts([f"{number % 7} {number % 3}" for number in range(60)]),
    "forecast": np.random.default_rng(0).normal(size=(60, 4)).astype(np.float32),
}


def test_every_task_has_its_row():
    assert set(LABELS) == set(TASKS)


@pytest.mark.parametrize("name", LABELS)
def test_a_task_goes_from_labels_to_predictions_and_knowing_nothing_scores_chance(name):
    kind = TASKS[name]
    assert kind.standard_loss in kind.losses
    found = kind.targets(LABELS[name], "column 'y'")
    assert (found.task, len(found.values)) == (name, 60)
    values, class_names = torch.from_numpy(found.values), found.class_names
    facts = SimpleNamespace(
        num_classes=len(class_names) or 1,
        target_mean=values.double().mean().item(),
        target_std=values.double().std(correction=0).item(),
        label_rates=found.label_rates(np.arange(60)),
        token_bytes=(b"a", b"b", b"c", b"\n"),
        horizon=2,  # the last two columns of targets are location and scale
    )
    task = kind.build(facts, TaskRecipe())
    assert task.name == name
    tokens: tuple[int, ...] = values.shape[1:] if kind.answers == "tokens" else ()
    if kind.answers == "sequences":  # a batch has their tokens
        values, tokens = values[:, None].repeat(1, 5) % 4, (5,)
    logits = torch.zeros(60, *tokens, task.outputs)
    if isfinite(task.chance_loss):
        assert task.loss_fn(logits, values).item() == pytest.approx(task.chance_loss, rel=1e-4)
    readout = task.read(task.condense(logits, values), values, class_names)
    assert len(readout.targets) == len(readout.predicted) == len(readout.probabilities) == 60
    label = task.predict(task.decode(logits)[0], class_names).label
    assert label == readout.predicted[0] or kind.answers in ("tokens", "steps")


@pytest.mark.parametrize("num_classes", [2, 10, 1000])
@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_an_undecided_classifier_scores_the_chance_loss(num_classes, smoothing):
    task = classification(num_classes, label_smoothing=smoothing)
    loss = task.loss_fn(torch.zeros(5, num_classes), torch.arange(5) % num_classes)
    assert loss.item() == pytest.approx(log(num_classes), rel=1e-6)
    assert task.chance_loss == log(num_classes)


def test_predicting_the_mean_scores_the_chance_loss():
    targets = torch.tensor(np.random.default_rng(0).normal(50, 7, 1000), dtype=torch.float32)
    mean, std = targets.mean().item(), targets.std(correction=0).item()
    task = regression(target_mean=mean, target_std=std)
    assert task.loss_fn(torch.zeros(1000, 1), targets).item() == pytest.approx(1, rel=1e-5)
    assert task.metrics["r2"](torch.zeros(1000, 1), targets) == pytest.approx(0, abs=1e-6)


def test_label_smoothing_is_the_cross_entropy_to_the_mixed_target():
    logits, targets = torch.randn(30, 6), torch.randint(6, (30,))
    mixed = 0.8 * F.one_hot(targets, 6) + 0.2 / 6
    expected = -(mixed * logits.log_softmax(1)).sum(1).mean()
    smoothed = classification(6, label_smoothing=0.2).loss_fn(logits, targets)
    torch.testing.assert_close(smoothed, expected)


@given(seed=st.integers(0, 2**32 - 1), num_classes=st.integers(2, 12), samples=st.integers(1, 60))
def test_classification_metrics_agree_with_scikit_learn(seed, num_classes, samples):
    rng = np.random.default_rng(seed)
    logits = torch.tensor(rng.normal(size=(samples, num_classes)))
    targets = torch.tensor(rng.integers(num_classes, size=samples))
    classes, predicted = np.arange(num_classes), logits.argmax(1).numpy()
    task = classification(num_classes)
    assert task.metrics["accuracy"](logits, targets) == pytest.approx(
        metrics.accuracy_score(targets, predicted)
    )
    assert (num_classes > 5) == ("top5_accuracy" in task.metrics)
    if num_classes > 5:
        assert task.metrics["top5_accuracy"](logits, targets) == pytest.approx(
            metrics.top_k_accuracy_score(targets, logits.numpy(), k=5, labels=classes)
        )
    table = metrics.confusion_matrix(targets, predicted, labels=classes)
    assert confusion(logits, targets).tolist() == table.tolist()
    present = np.unique(targets)
    expected = metrics.recall_score(targets, predicted, labels=present, average=None)
    recall = per_class_recall(logits, targets)
    assert recall[present].tolist() == pytest.approx(expected)
    assert recall.isnan().sum() == num_classes - len(present)


@given(seed=st.integers(0, 2**32 - 1), samples=st.integers(2, 60))
def test_regression_metrics_agree_with_scikit_learn(seed, samples):
    rng = np.random.default_rng(seed)
    targets = torch.tensor(rng.normal(200_000, 100_000, samples), dtype=torch.float32)
    logits = torch.tensor(rng.normal(size=(samples, 1)), dtype=torch.float32)
    task = regression(target_mean=190_000.0, target_std=90_000.0)
    values = task.decode(logits)
    torch.testing.assert_close(values, logits[:, 0] * 90_000 + 190_000)
    assert task.metrics["mae"](logits, targets) == pytest.approx(
        metrics.mean_absolute_error(targets.double(), values.double()), rel=1e-6
    )
    assert task.metrics["r2"](logits, targets) == pytest.approx(
        metrics.r2_score(targets.double(), values.double()), rel=1e-6, abs=1e-9
    )


def test_probabilities_are_float32_and_sum_to_one_from_bfloat16_logits():
    found = classification(10).decode(torch.randn(8, 10, dtype=torch.bfloat16) * 5)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found.sum(1), torch.ones(8))


def test_r2_of_equal_targets_is_not_a_number():
    task = regression(target_mean=0.0, target_std=1.0)
    assert isnan(task.metrics["r2"](torch.randn(4, 1), torch.ones(4)))


@pytest.mark.parametrize(
    "build",
    [
        lambda: classification(1),
        lambda: classification(3, label_smoothing=1.0),
        lambda: classification(3, label_smoothing=-0.1),
        lambda: regression(target_mean=1.0, target_std=0.0),
        lambda: regression(target_mean=1.0, target_std=float("nan")),
    ],
    ids=["one class", "all smooth", "negative smoothing", "constant target", "no target"],
)
def test_what_cannot_be_meant_is_refused_with_advice(build):
    with pytest.raises(UsageError) as caught:
        build()
    assert caught.value.fix
