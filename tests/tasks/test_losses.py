"""Losses and penalties against formulae, torch's own and numeric gradients."""

from math import exp, log

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from thalweg.tasks import classification
from thalweg.tasks.losses import LOSSES, focal, mse, multiclass_svm, soft, takes_soft_targets
from thalweg.tasks.penalties import elastic_net, l1, l2
from thalweg.tasks.value_losses import VALUE_LOSSES

torch.manual_seed(0)
LOGITS = torch.randn(6, 4, dtype=torch.float64)
TARGETS = torch.tensor([0, 1, 2, 3, 1, 1])


def test_the_multiclass_svm_is_the_notes_formula():
    """Σ_{j≠y} max(0, s_j − s_y + t); C − 1 before learning."""
    for margin in (0.5, 1.0, 3.0):
        rows = [
            sum(max(0.0, s - row[y] + margin) for j, s in enumerate(row) if j != y)
            for row, y in zip(LOGITS.tolist(), TARGETS.tolist(), strict=True)
        ]
        assert multiclass_svm(LOGITS, TARGETS, margin=margin).item() == pytest.approx(sum(rows) / 6)
    assert multiclass_svm(torch.zeros(3, 10), torch.arange(3)).item() == pytest.approx(9)


def test_focal_loss_is_its_formula_and_without_gamma_cross_entropy():
    right = LOGITS.softmax(dim=1)[torch.arange(6), TARGETS]
    expected = (-((1 - right) ** 2) * right.log()).mean()
    torch.testing.assert_close(focal(LOGITS, TARGETS), expected)
    torch.testing.assert_close(focal(LOGITS, TARGETS, gamma=0.0), F.cross_entropy(LOGITS, TARGETS))


def test_cross_entropy_of_soft_targets_is_kl_plus_their_entropy():
    """A note calls cross-entropy KL: true of one-hot targets alone."""
    p = torch.softmax(torch.randn(6, 4, dtype=torch.float64), dim=1)
    divergence = F.kl_div(LOGITS.log_softmax(1), p, reduction="batchmean")
    entropy = -(p * p.log()).sum(1).mean()
    found = LOSSES["cross_entropy"](LOGITS, p)
    torch.testing.assert_close(found, divergence + entropy)
    hot = soft(TARGETS, num_classes=4).double()
    torch.testing.assert_close(
        LOSSES["cross_entropy"](LOGITS, hot), F.cross_entropy(LOGITS, TARGETS)
    )


def test_two_class_softmax_is_the_sigmoid_of_the_difference():
    pair = LOGITS[:, :2]
    torch.testing.assert_close(pair.softmax(1)[:, 0], (pair[:, 0] - pair[:, 1]).sigmoid())


@pytest.mark.parametrize(
    ("name", "settings", "chance"),
    [
        ("cross_entropy", {}, log(10)),
        ("multiclass_svm", {}, 9.0),
        ("multiclass_svm", {"margin": 0.5}, 4.5),
        ("focal", {}, 0.9**2 * log(10)),
        ("mse", {}, 0.9**2 + 9 * 0.1**2),
        ("bce", {}, log(2)),
    ],
)
def test_what_knowing_nothing_scores(name, settings, chance):
    task = classification(10, loss=name, **settings)
    assert task.chance_loss == pytest.approx(chance)
    assert task.loss_fn(torch.zeros(5, 10), torch.arange(5)).item() == pytest.approx(chance)


@pytest.mark.parametrize("name", [name for name in LOSSES if takes_soft_targets(name)])
def test_hard_targets_are_soft_ones_of_one_and_nought(name):
    hot = soft(TARGETS, num_classes=4).double()
    torch.testing.assert_close(LOSSES[name](LOGITS, TARGETS), LOSSES[name](LOGITS, hot))
    mixed = 0.7 * hot + 0.3 / 4
    smoothed = LOSSES[name](LOGITS, TARGETS, label_smoothing=0.3)
    torch.testing.assert_close(smoothed, LOSSES[name](LOGITS, mixed))
    gradients = lambda s: LOSSES[name](s, mixed)  # noqa: E731
    assert torch.autograd.gradcheck(gradients, (LOGITS.clone().requires_grad_(),))


@pytest.mark.parametrize("name", LOSSES)
def test_gradients_are_the_numeric_ones(name):
    logits = LOGITS.clone().requires_grad_()
    assert torch.autograd.gradcheck(lambda s: LOSSES[name](s, TARGETS).double(), (logits,))


def test_mse_is_flat_where_cross_entropy_is_steep():
    """Scores (−10, 10, −1000), first class right."""

    def at_the_corner(loss_fn):
        scores = torch.tensor([[-10.0, 10.0, -1000.0]], dtype=torch.float64, requires_grad=True)
        loss = loss_fn(scores, torch.tensor([0]))
        loss.backward()
        return loss.item(), scores.grad.norm().item()

    assert at_the_corner(mse) == pytest.approx((2.0, 1.2e-8), rel=0.1)
    assert at_the_corner(LOSSES["cross_entropy"]) == pytest.approx((20.0, 1.414), rel=1e-3)


def test_losses_of_values_are_their_formulae():
    outputs, targets = torch.randn(50) * 3, torch.randn(50)
    errors = (outputs - targets).tolist()
    formulae = {
        "mse": [e * e for e in errors],
        "mae": [abs(e) for e in errors],
        "huber": [e * e / 2 if abs(e) <= 1 else abs(e) - 0.5 for e in errors],
    }
    assert formulae.keys() == VALUE_LOSSES.keys()
    for name, terms in formulae.items():
        assert VALUE_LOSSES[name](outputs, targets).item() == pytest.approx(sum(terms) / 50)


def test_several_classes_may_be_true_at_once():
    targets = torch.tensor([[1.0, 1.0, 0.0]])
    logits = torch.tensor([[2.0, -1.0, 0.5]])
    expected = -(sum(log(1 / (1 + exp(-s))) for s in (2.0, -1.0, -0.5))) / 3
    assert LOSSES["bce"](logits, targets).item() == pytest.approx(expected)


def test_penalties_are_sums_over_matrices():
    model = nn.Linear(2, 2)
    model.weight.data = torch.tensor([[1.0, -2.0], [0.0, 3.0]])
    assert (l1(model).item(), l2(model).item()) == (6.0, 14.0)
    assert elastic_net(model, beta=0.5).item() == 13.0
    assert l2(nn.PReLU()).item() == 0.0


def test_equal_data_losses_are_told_apart_by_the_penalty():
    """On (1, 1, 1, 1) both score 1; L2 prefers the spread one, L1 neither."""
    sharp, spread = nn.Linear(4, 1, bias=False), nn.Linear(4, 1, bias=False)
    sharp.weight.data = torch.tensor([[1.0, 0.0, 0.0, 0.0]])
    spread.weight.data = torch.full((1, 4), 0.25)
    inputs = torch.ones(1, 4)
    assert sharp(inputs).item() == spread(inputs).item() == 1.0
    assert (l2(sharp).item(), l2(spread).item()) == (1.0, 0.25)
    assert l1(sharp).item() == l1(spread).item() == 1.0
