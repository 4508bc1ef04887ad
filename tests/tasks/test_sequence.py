import numpy as np
import pytest
import torch
import torch.nn.functional as F

from thalweg.errors import UsageError
from thalweg.tasks import sequence
from thalweg.tasks.token_losses import IGNORED, condense

ENTRIES = (b"", b" walk", b" jump", b" run")


@pytest.fixture
def outputs():
    torch.manual_seed(0)
    targets = torch.randint(1, 4, (6, 5))
    for row, length in enumerate((5, 3, 1, 4, 2, 5)):
        targets[row, length - 1], targets[row, length:] = 0, IGNORED
    return torch.randn(6, 5, 4), targets


def test_padding_counts_in_no_loss_and_in_no_metric(outputs):
    logits, targets = outputs
    task, padding = sequence(ENTRIES), targets == IGNORED
    others = torch.where(padding[..., None], torch.randn_like(logits) * 9, logits)
    for own in (logits, others):
        losses = F.cross_entropy(own[~padding], targets[~padding])
        torch.testing.assert_close(task.loss_fn(own, targets), losses)
    held, other = condense(logits, targets), condense(others, targets)
    assert task.condensed_loss is not None
    torch.testing.assert_close(task.condensed_loss(other, targets), task.loss_fn(logits, targets))
    for metric in task.metrics.values():
        assert metric(held, targets) == metric(other, targets)


def test_the_metrics_are_those_of_rows_one_by_one(outputs):
    logits, targets = outputs
    logits = torch.where(torch.arange(6)[:, None, None] < 3, 9 * F.one_hot(targets.clamp(0), 4), 0)
    logits = logits.float() + torch.randn(6, 5, 4) / 9
    task, held = sequence(ENTRIES), condense(logits, targets)
    rows = [
        [int(t) == int(row.argmax()) for t, row in zip(own, out, strict=True) if t != IGNORED]
        for own, out in zip(targets.tolist(), logits, strict=True)
    ]
    assert task.metrics["exact_match"](held, targets) == np.mean([all(row) for row in rows])
    flat = [one for row in rows for one in row]
    assert task.metrics["token_accuracy"](held, targets) == pytest.approx(np.mean(flat))


def test_the_readout_is_text_without_borders(outputs):
    logits, targets = outputs
    readout = sequence(ENTRIES).read(condense(logits, targets), targets, ())
    expected = " ".join(ENTRIES[t].decode().strip() for t in targets[1].tolist() if t > 0)
    assert readout.targets[1] == expected
    assert readout.targets[2] == ""


def test_a_vocabulary_of_the_border_alone_is_refused():
    with pytest.raises(UsageError, match="no token to write"):
        sequence((b"",))
