from math import exp, log

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from thalweg.errors import UsageError
from thalweg.tasks import next_token
from thalweg.tasks.token_losses import condense

ENTRIES = (b"a", b"b", "é".encode(), b"\n", b" the")


@pytest.fixture
def outputs():
    torch.manual_seed(0)
    return torch.randn(7, 11, len(ENTRIES)), torch.randint(len(ENTRIES), (7, 11))


def test_the_loss_is_the_mean_over_all_tokens(outputs):
    logits, targets = outputs
    expected = F.cross_entropy(logits.movedim(2, 1), targets)
    task = next_token(ENTRIES)
    torch.testing.assert_close(task.loss_fn(logits, targets), expected)
    held = condense(logits, targets)
    assert task.condensed_loss is not None
    torch.testing.assert_close(task.condensed_loss(held, targets), expected)
    assert task.metrics["perplexity"](held, targets) == pytest.approx(exp(expected), rel=1e-5)


def test_bits_per_byte_count_the_bytes_of_each_token(outputs):
    logits, targets = outputs
    losses = F.cross_entropy(logits.movedim(2, 1), targets, reduction="sum").item()
    num_bytes = sum(len(ENTRIES[token]) for token in targets.flatten().tolist())
    found = next_token(ENTRIES).metrics["bits_per_byte"](condense(logits, targets), targets)
    assert found == pytest.approx(losses / log(2) / num_bytes, rel=1e-5)


def test_what_is_held_takes_two_numbers_a_token_whatever_the_vocabulary(outputs):
    logits, targets = outputs
    held = condense(logits.bfloat16(), targets)
    assert held.shape == (7, 11, 2)
    assert held.dtype == torch.float32
    task = next_token(ENTRIES)
    predicted = task.predicted(held)
    assert torch.equal(predicted, logits.bfloat16().argmax(2))
    accuracy = (predicted == targets).double().mean().item()
    assert task.metrics["token_accuracy"](held, targets) == accuracy


@given(st.integers(2, 40))
def test_knowing_nothing_scores_ln_v(size):
    task = next_token([bytes([token]) for token in range(size)])
    logits, targets = torch.zeros(3, 4, size), torch.zeros(3, 4, dtype=torch.long)
    assert task.chance_loss == log(size)
    assert task.loss_fn(logits, targets).item() == pytest.approx(log(size), rel=1e-6)


def test_a_prediction_is_the_likeliest_token_after_the_last(outputs):
    logits, _ = outputs
    task = next_token(ENTRIES)
    row = task.decode(logits)[3]
    torch.testing.assert_close(row, logits[3, -1].softmax(0))
    prediction = task.predict(row, ())
    assert prediction.label == repr(ENTRIES[int(row.argmax())].decode())
    assert prediction.probability == pytest.approx(row.max().item())
    assert sum(prediction.probabilities.values()) == pytest.approx(1)


def test_the_readout_shows_the_text_and_the_guesses(outputs):
    logits, targets = outputs
    readout = next_token(ENTRIES).read(condense(logits, targets), targets, ())
    assert readout.targets[0] == b"".join(ENTRIES[t] for t in targets[0].tolist()).decode()
    losses = F.cross_entropy(logits.movedim(2, 1), targets, reduction="none").mean(1)
    assert readout.worst[0] == int(losses.argmax())


def test_a_text_of_one_token_is_refused():
    with pytest.raises(UsageError, match="nothing to predict"):
        next_token([b"a"])


def test_the_loss_can_be_trained_on(outputs):
    logits, targets = outputs
    leaf = logits.clone().requires_grad_()
    next_token(ENTRIES).loss_fn(leaf, targets).backward()
    assert np.isfinite(leaf.grad.numpy()).all()
