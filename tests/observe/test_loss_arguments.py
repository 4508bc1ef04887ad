"""What reaches each loss function, for a wrong argument of each kind and for the right ones."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from thalweg.diagnosis import diagnose
from thalweg.observe import watch

CLASSES = 4
LABELS = torch.arange(12) % CLASSES


def soft():
    return torch.rand(12, CLASSES, generator=torch.Generator().manual_seed(0)).softmax(1)


def bits():
    return (soft() > 0.25).float()


def pixels(scores, dim):
    """Twelve samples of a picture of one row: [3, 4 classes, 4 pixels]."""
    return F.nll_loss(scores.reshape(3, CLASSES, 4).log_softmax(dim), LABELS.reshape(3, 4))


def share_of_sum(numbers):
    return numbers / (numbers.sum(1, keepdim=True) + 1e-9)


FAULTY = {
    "softmax before cross-entropy": (lambda s: F.cross_entropy(s.softmax(1), LABELS), "squashed"),
    "softmax before soft targets": (lambda s: F.cross_entropy(s.softmax(1), soft()), "squashed"),
    "softmax as exp(log_softmax)": (
        lambda s: F.cross_entropy(s.log_softmax(1)[:6].exp(), LABELS[:6]),
        "squashed",
    ),
    "softmax by hand": (
        lambda s: F.cross_entropy(share_of_sum((s - s.max()).exp()), LABELS),
        "squashed",
    ),
    "tanh before cross-entropy": (lambda s: F.cross_entropy(s.tanh(), LABELS), "squashed"),
    "softmax before the second term": (
        lambda s: F.mse_loss(s, soft()) + 0.5 * F.cross_entropy(s.softmax(1), LABELS),
        "squashed",
    ),
    "sigmoid before binary logits": (
        lambda s: F.binary_cross_entropy_with_logits(s.sigmoid(), bits()),
        "squashed",
    ),
    "sigmoid before binary logits, one term": (
        lambda s: (
            F.cross_entropy(s, LABELS)
            + F.binary_cross_entropy_with_logits(s[:, :2].sigmoid(), bits()[:, :2])
        ),
        "squashed",
    ),
    "likelihood of probabilities": (lambda s: F.nll_loss(s.softmax(1), LABELS), "fit"),
    "likelihood of probabilities, one term": (
        lambda s: F.cross_entropy(s, LABELS) + F.nll_loss(s.softmax(1), LABELS),
        "fit",
    ),
    "divergence of probabilities": (
        lambda s: F.kl_div(s.softmax(1), soft(), reduction="batchmean"),
        "fit",
    ),
    "divergence of probabilities, distillation": (
        lambda s: (
            0.5 * F.cross_entropy(s, LABELS)
            + 2 * F.kl_div((s / 2).softmax(1), soft(), reduction="batchmean")
        ),
        "fit",
    ),
    "divergence of sigmoids": (lambda s: F.kl_div(s.sigmoid(), soft(), reduction="sum"), "fit"),
    "binary entropy of scores that are clamped": (
        lambda s: F.binary_cross_entropy(s.clamp(0, 1), bits()),
        "fit",
    ),
    "binary entropy of a ReLU": (lambda s: F.binary_cross_entropy((s / 90).relu(), bits()), "fit"),
    "softmax over the pixels": (lambda s: pixels(s, dim=2), "fit"),
    "softmax over the samples": (lambda s: F.nll_loss(s.log_softmax(0), LABELS), "fit"),
    "softmax over the time steps": (
        lambda s: F.nll_loss(s.reshape(3, 4, CLASSES).log_softmax(1).reshape(-1, CLASSES), LABELS),
        "fit",
    ),
}
SOUND = {
    "cross-entropy": lambda s: F.cross_entropy(s, LABELS),
    "label smoothing": lambda s: F.cross_entropy(s, LABELS, label_smoothing=0.1),
    "log-softmax twice": lambda s: F.cross_entropy(s.log_softmax(1), LABELS),
    "a tanh with a factor": lambda s: F.cross_entropy(10 * s.tanh(), LABELS),
    "distances": lambda s: F.cross_entropy(-s.square(), LABELS),
    "likelihood": lambda s: F.nll_loss(s.log_softmax(-1), LABELS),
    "likelihood of pixels": lambda s: pixels(s, dim=1),
    "classes moved to the front": lambda s: F.nll_loss(
        s.reshape(3, 4, CLASSES).log_softmax(-1).transpose(1, 2), LABELS.reshape(3, 4)
    ),
    "classes moved by a permutation": lambda s: F.nll_loss(
        s.reshape(3, 2, 2, CLASSES).log_softmax(-1).permute(0, 3, 1, 2).contiguous(),
        LABELS.reshape(3, 2, 2),
    ),
    "time steps in one row": lambda s: F.nll_loss(
        s.reshape(3, 4, CLASSES).log_softmax(-1).reshape(-1, CLASSES), LABELS
    ),
    "a divergence": lambda s: F.kl_div(s.log_softmax(1), soft(), reduction="batchmean"),
    "distillation": lambda s: (
        F.cross_entropy(s, LABELS)
        + 4 * F.kl_div((s / 2).log_softmax(1), soft(), reduction="batchmean")
    ),
    "logarithms on both sides": lambda s: F.kl_div(
        s.log_softmax(1), soft().log(), reduction="batchmean", log_target=True
    ),
    "the reverse divergence": lambda s: F.kl_div(soft().log(), s.softmax(1), reduction="batchmean"),
    "logits over a temperature": lambda s: F.cross_entropy(s / torch.full((1, 1), 0.5), LABELS),
    "log-probabilities": lambda s: F.cross_entropy(s.log_softmax(1), LABELS),
    "binary entropy": lambda s: F.binary_cross_entropy(s.sigmoid(), bits()),
    "binary entropy, clamped": lambda s: F.binary_cross_entropy(
        s.sigmoid().clamp(1e-6, 1 - 1e-6), bits()
    ),
    "binary entropy of a tanh that was moved": lambda s: F.binary_cross_entropy(
        (s.tanh() + 1) / 2, bits()
    ),
    "binary logits": lambda s: F.binary_cross_entropy_with_logits(s, bits()),
    "an overlap": lambda s: 1 - 2 * (s.sigmoid() * bits()).sum() / (s.sigmoid() + bits()).sum(),
    "an expected reward": lambda s: -(s.softmax(1) * soft()).sum(1).mean(),
    "a penalty on probabilities": lambda s: (
        F.cross_entropy(s, LABELS) + (s.softmax(1) * s.log_softmax(1)).sum(1).mean()
    ),
}
RULES = {"squashed": "logits-squashed-twice", "fit": "loss-does-not-fit-task"}


def findings(loss_fn):
    return diagnosis(loss_fn).findings


def diagnosis(loss_fn, last=None, steps=2):
    torch.manual_seed(0)
    model = nn.Linear(6, CLASSES) if last is None else nn.Sequential(nn.Linear(6, CLASSES), last)
    optimizer = torch.optim.SGD(model.parameters(), 0.01)
    watcher = watch(model, optimizer)
    for _ in range(steps):
        loss = loss_fn(model(torch.randn(12, 6)))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        watcher.step(loss)
    return diagnose(watcher.history)


@pytest.mark.parametrize("name", FAULTY)
def test_an_argument_that_the_loss_does_not_take_is_named(name):
    loss_fn, rule = FAULTY[name]
    loud = [one.rule for one in findings(loss_fn) if one.severity != "note"]
    assert RULES[rule] in loud


@pytest.mark.parametrize("name", SOUND)
def test_right_arguments_pass(name):
    named = [one.rule for one in findings(SOUND[name]) if one.severity != "note"]
    assert not {*RULES.values(), "impossible-loss"} & set(named)


class Unnamed(torch.autograd.Function):
    """The numbers as they are, by an operation that is in no table."""

    @staticmethod
    def forward(ctx, numbers):
        return numbers.clone()

    @staticmethod
    def backward(ctx, gradient):
        return gradient


class Normalised(nn.Module):
    def forward(self, numbers):
        return Unnamed.apply(numbers.softmax(1))


def test_outputs_that_are_probabilities_are_squashed_whatever_made_them():
    found = diagnosis(lambda s: F.cross_entropy(s, LABELS), Normalised(), steps=8)
    (finding,) = (one for one in found.findings if one.rule == "logits-squashed-twice")
    assert "below 0.744 nat (4 classes)" in finding.prescriptions[0].expect  # ln(1 + 3/e)


def test_a_loss_whose_input_cannot_be_read_is_not_checked():
    unread = diagnosis(lambda s: F.cross_entropy(Unnamed.apply(s), LABELS))
    assert "logits-squashed-twice" in unread.not_checked
    read = diagnosis(lambda s: F.cross_entropy(s, LABELS))
    assert "logits-squashed-twice" in read.passed


def test_an_average_over_the_classes_too_is_a_note():
    notes = findings(lambda s: F.kl_div(s.log_softmax(1), soft(), reduction="none").mean())
    assert "divides by the number of classes" in " ".join(one.summary for one in notes)
