"""Ignored targets, padding in the loss and ends that are never a target, in small loops."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from thalweg.diagnosis import diagnose
from thalweg.observe import watch
from thalweg.observe.instruments.tokens import padded_tails
from thalweg.record.quantities import PADDING, TARGETS_IGNORED

VOCABULARY, IGNORED = 14, -100


class Recurrent(nn.Module):
    def __init__(self, cells=nn.GRU):
        super().__init__()
        self.embed = nn.Embedding(VOCABULARY, 16)
        self.cells = cells(16, 16, batch_first=True)
        self.head = nn.Linear(16, VOCABULARY)

    def forward(self, inputs):
        return self.head(self.cells(self.embed(inputs))[0])


class Attending(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(VOCABULARY, 16)
        self.layer = nn.TransformerEncoderLayer(16, 2, 32, dropout=0.0, batch_first=True)
        self.head = nn.Linear(16, VOCABULARY)

    def forward(self, inputs):
        mask = torch.triu(torch.ones(inputs.shape[1], inputs.shape[1], dtype=torch.bool), 1)
        return self.head(self.layer(self.embed(inputs), src_mask=mask))


class Convolved(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(VOCABULARY, 16)
        self.kernel = nn.Conv1d(16, 16, 3)
        self.head = nn.Linear(16, VOCABULARY)

    def forward(self, inputs):
        rows = F.pad(self.embed(inputs).transpose(1, 2), (2, 0))
        return self.head(self.kernel(rows).relu().transpose(1, 2))


def entropy(logits, targets):
    return F.cross_entropy(logits.flatten(0, 1), targets.flatten(), ignore_index=IGNORED)


def run(model, batches, loss_of=entropy):
    """A loop with the two lines alone."""
    torch.manual_seed(0)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    watcher = watch(model, optimizer)
    for inputs, targets in batches:
        loss = loss_of(model(inputs), targets)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        watcher.step(loss)
    watcher.close()
    return watcher.history


def findings(history):
    return {f.rule: f.severity for f in diagnose(history).findings}


def padded(count=8, length=20, *, end=1, pad=0, longest=8, steps=24, seed=0):
    """Batches of rows of 2 to `longest` tokens, an end token (or none), then padding."""
    generator = torch.Generator().manual_seed(seed)
    for _ in range(steps):
        rows = torch.randint(2, VOCABULARY, (count, length), generator=generator)
        sizes = torch.randint(2, longest + 1, (count,), generator=generator)
        sizes[0] = longest
        places = torch.arange(length)
        rows[places >= sizes[:, None]] = pad
        if end is not None:
            rows[torch.arange(count), sizes] = end
        yield rows


def next_tokens(rows, pad=None):
    targets = rows[:, 1:].clone()
    if pad is not None:
        targets[targets == pad] = IGNORED
    return rows[:, :-1], targets


@pytest.mark.parametrize("model", [Recurrent, Attending, Convolved])
def test_padding_in_the_loss_is_named(model):
    history = run(model(), [next_tokens(rows) for rows in padded()])
    assert findings(history)["padding-in-loss"] == "warning"
    inputs, _ = next_tokens(next(padded()))
    tails = inputs == 0
    assert history.first(PADDING, "targets") == pytest.approx(float(tails.double().mean()))
    assert history.first(PADDING, "token") == 0


def test_padding_in_front_of_a_tagger_is_named_by_its_inputs():
    batches = [(rows, (rows % 3).where(rows > 0, 0)) for rows in padded(length=16)]
    assert findings(run(Recurrent(), batches))["padding-in-loss"] == "warning"


def of_one_length():
    return [next_tokens(rows) for rows in torch.randint(2, VOCABULARY, (24, 8, 12)).unbind()]


def ignored_padding():
    return [next_tokens(rows, pad=0) for rows in padded()]


def black_borders():
    """Images as rows of pixels: they end in black, and black is everywhere."""
    pixels = torch.randint(0, 4, (24, 8, 30))
    pixels[:, :, 18:] = 0
    return [next_tokens(rows) for rows in pixels.unbind()]


def packed():
    """Documents behind one another, each with its end, cut to one length."""
    tokens = torch.randint(2, VOCABULARY, (24, 8, 24))
    tokens[torch.rand(24, 8, 24) < 0.15] = 1
    return [next_tokens(rows) for rows in tokens.unbind()]


def copying():
    """The copy task: symbols, blanks, and the symbols again; blanks also in between."""
    symbols = torch.randint(2, VOCABULARY, (24, 8, 4))
    blanks = torch.zeros(24, 8, 6, dtype=torch.long)
    inputs = torch.cat([symbols, blanks, torch.ones(24, 8, 1).long(), blanks], 2)
    targets = torch.cat([blanks, blanks, torch.ones(24, 8, 1).long(), symbols], 2)
    return list(zip(inputs, targets, strict=True))


def a_prompt_that_is_ignored():
    batches = []
    for inputs, targets in ignored_padding():
        targets[:, :2] = IGNORED
        batches.append((inputs, targets))
    return batches


SOUND = [of_one_length, ignored_padding, black_borders, packed, copying, a_prompt_that_is_ignored]


@pytest.mark.parametrize("batches", SOUND)
@pytest.mark.parametrize("model", [Recurrent, Attending])
def test_sound_sequences_are_left_alone(model, batches):
    torch.manual_seed(0)
    loud = {rule for rule, severity in findings(run(model(), batches())).items()}
    rules = {"padding-in-loss", "no-targets-left", "end-never-a-target", "loss-does-not-fit-task"}
    assert not loud & rules


def all_ignored(inputs, targets):
    return inputs, torch.full_like(targets, IGNORED)


def mostly_ignored(inputs, targets):
    """Two rows in three without a target, in batches of two."""
    targets = targets.clone()
    targets[torch.rand(len(targets)) < 0.7] = IGNORED
    return inputs, targets


@pytest.mark.parametrize("model", [Recurrent, Attending, Convolved])
def test_a_mask_over_every_target_is_named(model):
    history = run(model(), [all_ignored(*batch) for batch in of_one_length()])
    assert diagnose(history).headline.rule == "no-targets-left"


@pytest.mark.parametrize("model", [Recurrent, Attending, Convolved])
def test_batches_without_a_target_are_named(model):
    torch.manual_seed(0)
    batches = [(i[:2], t[:2]) for i, t in of_one_length() * 2]
    history = run(model(), [mostly_ignored(*batch) for batch in batches])
    assert diagnose(history).headline.rule == "no-targets-left"


def test_a_loss_that_is_nan_for_another_reason_has_targets():
    def logarithm_of_zero(logits, targets):
        return entropy(logits, targets) + (logits.mean() * 0).log()

    history = run(Recurrent(), of_one_length(), logarithm_of_zero)
    assert "no-targets-left" not in findings(history)


def test_ignored_classes_of_nodes_are_counted():
    """A graph's nodes, one in ten labelled: what is ignored is a share, no fault."""
    inputs, labels = torch.randn(200, 5), torch.randint(0, 3, (200,))
    labels[20:] = IGNORED
    history = run(nn.Linear(5, 3), [(inputs, labels)] * 24, F.cross_entropy)
    assert history.first(TARGETS_IGNORED, "share") == pytest.approx(0.9)
    assert "no-targets-left" not in findings(history)


def test_an_end_that_is_masked_with_the_padding_is_named():
    """`pad_token = eos_token`, padded to the longest row of each batch."""
    rows = [r[:, : 8 + 1] for r in padded(end=0, pad=0, longest=8)]
    batches = [(r, F.pad(next_tokens(r, pad=0)[1], (0, 1), value=IGNORED)) for r in rows]
    assert findings(run(Recurrent(), batches))["end-never-a-target"] == "warning"


def test_an_end_of_its_own_is_a_target():
    rows = [r[:, : 8 + 1] for r in padded(end=1, pad=0, longest=7)]
    batches = [(r, F.pad(next_tokens(r, pad=0)[1], (0, 1), value=IGNORED)) for r in rows]
    assert "end-never-a-target" not in findings(run(Recurrent(), batches))


def test_tails_against_a_count_by_hand():
    rows = torch.tensor([[5, 3, 0, 0], [4, 6, 2, 0], [4, 0, 0, 0], [1, 2, 6, 3]])
    assert padded_tails(rows).sum(1).tolist() == [2, 1, 3, 0]
    assert padded_tails(torch.tensor([[1, 2, 3, 4], [4, 3, 2, 1]])) is None
    assert padded_tails(torch.zeros(3, 5, dtype=torch.long)) is None


def test_padding_is_exact_where_the_outputs_are_too_large_to_hold():
    class Wide(nn.Module):
        def __init__(self):
            super().__init__()
            self.embed = nn.Embedding(8000, 4)

        def forward(self, inputs):
            return self.embed(inputs) @ self.embed.weight.T

    batches = [next_tokens(rows) for rows in padded(length=40, steps=2)]
    history = run(Wide(), batches)
    shares = (batches[0][0] == 0).double().mean()
    assert history.first(PADDING, "targets") == pytest.approx(float(shares))
