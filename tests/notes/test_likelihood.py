"""Where cross-entropy comes from, and what other codings of classes do."""

from math import log

import pytest
import torch
import torch.nn.functional as F
from notes.fitting import accuracy, fit
from torch import nn

from thalweg.tasks.losses import LOSSES


def test_cross_entropy_is_the_negative_log_of_the_product_of_probabilities():
    """−ln Π p(yᵢ) = N · CE. The product itself is 0 in float32 long before N is large: C5"""
    torch.manual_seed(0)
    logits, targets = torch.randn(30, 4, dtype=torch.float64), torch.randint(4, (30,))
    right = logits.softmax(1)[torch.arange(30), targets]
    loss = LOSSES["cross_entropy"](logits, targets).item()
    assert -log(right.prod().item()) == pytest.approx(30 * loss)
    assert right.float().repeat(20).prod().item() == 0.0  # why the log is taken first


def test_the_least_cross_entropy_is_the_most_likely_coin():
    """Seven heads of ten: p = 0.7 by either, and by the frequencies."""
    heads = torch.tensor([1] * 7 + [0] * 3)
    shares = torch.linspace(0.01, 0.99, 99, dtype=torch.float64)
    losses = torch.stack(
        [
            LOSSES["cross_entropy"](torch.log(torch.stack((1 - p, p))).expand(10, 2), heads)
            for p in shares
        ]
    )
    likelihood = shares**7 * (1 - shares) ** 3
    assert shares[losses.argmin()] == shares[likelihood.argmax()] == pytest.approx(0.7)
    torch.testing.assert_close(losses, -likelihood.log() / 10)


class Numbered(nn.Module):
    """Class = 0, 1, 2 as one number: the nearest whole number wins."""

    def __init__(self):
        super().__init__()
        self.line = nn.Linear(1, 1)

    def forward(self, inputs):
        return -(self.line(inputs) - torch.arange(3.0)).square()


def test_numbering_classes_says_which_lies_between_which():
    """Clouds in a row, the third in the middle: as one-hot separable, as numbers not: C7"""
    assert F.one_hot(torch.tensor([2]), 3).tolist() == [[0, 0, 1]]
    generator = torch.Generator().manual_seed(0)
    targets = torch.arange(3).repeat(60)
    found = {}
    for name, places in {"in order": (-2.0, 0.0, 2.0), "not in order": (-2.0, 2.0, 0.0)}.items():
        noise = 0.3 * torch.randn(180, 1, generator=generator)
        data = torch.tensor(places)[targets][:, None] + noise, targets

        def squared(outputs, wanted):
            return -outputs[torch.arange(len(wanted)), wanted].mean()

        torch.manual_seed(0)
        numbers, one_hot = Numbered(), nn.Linear(1, 3)
        fit(numbers, data, steps=500, lr=0.05, loss_fn=squared)
        fit(one_hot, data, steps=1500, lr=0.5)
        found[name] = accuracy(numbers, data), accuracy(one_hot, data)
    assert min(found["in order"]) > 0.95
    assert found["not in order"][1] > 0.95
    assert found["not in order"][0] < 0.7


@pytest.mark.parametrize("seed", range(3))
def test_from_the_bad_corner_cross_entropy_escapes_and_squared_error_does_not(seed):
    """Scores (−10, 10, −1000) at first, the first class right."""
    data = torch.ones(20, 1), torch.zeros(20, dtype=torch.long)
    left = {}
    for name in ("cross_entropy", "mse"):
        model = nn.Linear(1, 3, bias=False)
        with torch.no_grad():
            model.weight.copy_(torch.tensor([[-10.0], [10.0], [-1000.0]]))
        fit(model, data, steps=200, lr=0.5, loss_fn=LOSSES[name], seed=seed)
        left[name] = accuracy(model, data)
    assert left == {"cross_entropy": 1.0, "mse": 0.0}
