"""Masked language models that are asked for what they see, beside sound models of tokens."""

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from thalweg.diagnosis import diagnose
from thalweg.observe import watch

B, T, D, V = 12, 24, 16, 24
MASK, PAD, SEPARATOR = V - 1, V - 2, V - 3


class Encoder(nn.Module):
    """Attention in both directions; its own loss where labels are passed."""

    def __init__(self, *, causal=False, inner_shift=False):
        super().__init__()
        self.embed, self.head = nn.Embedding(V, D), nn.Linear(D, V)
        self.place = nn.Embedding(T, D)
        self.layer = nn.TransformerEncoderLayer(D, 2, 32, dropout=0.0, batch_first=True)
        self.causal, self.inner_shift = causal, inner_shift

    def forward(self, input_ids, labels=None):
        shifted = F.pad(input_ids[:, :-1], (1, 0)) if self.inner_shift else input_ids
        hidden = torch.ones(T, T, dtype=torch.bool).triu(1) if self.causal else None
        h = self.layer(self.embed(shifted) + self.place.weight, src_mask=hidden)
        logits = self.head(h)
        return logits if labels is None else (entropy(logits, labels), logits)


class Recurrent(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed, self.head = nn.Embedding(V, D), nn.Linear(2 * D, V)
        self.rnn = nn.GRU(D, D, batch_first=True, bidirectional=True)

    def forward(self, tokens):
        return self.head(self.rnn(self.embed(tokens))[0])


class Convolutional(nn.Module):
    """It returns [batch, class, time]."""

    def __init__(self):
        super().__init__()
        self.embed, self.head = nn.Embedding(V, D), nn.Conv1d(D, V, 1)
        self.conv = nn.Conv1d(D, D, 5, padding=2)

    def forward(self, tokens):
        h = self.embed(tokens).mT
        return self.head(h + self.conv(h).relu())


class Coder(nn.Module):
    """An autoencoder: all tokens become one code, and all outputs come from it."""

    def __init__(self):
        super().__init__()
        self.embed, self.code = nn.Embedding(V, D), nn.Linear(T * D, 8)
        self.decode = nn.Linear(8, T * V)

    def forward(self, tokens):
        return self.decode(self.code(self.embed(tokens).flatten(1))).view(-1, T, V)


def entropy(logits, labels):
    return F.cross_entropy(logits.reshape(-1, V), labels.reshape(-1))


def counted(labels, places):
    return torch.where(places, labels, -100)


def drawn(x, share=0.2):
    return torch.rand(x.shape) < share


def inverted(x, hidden):
    return x.masked_fill(hidden, MASK), counted(x, ~hidden)


def not_hidden(x, hidden):
    return x, counted(x, hidden)


def aliased(x, hidden):
    masked = x.masked_fill(hidden, MASK)
    return masked, counted(masked, hidden)


def masked(x, hidden):
    """Of the chosen places eight in ten get the mask, one another token, one stays."""
    kind = torch.rand(x.shape)
    random = torch.where(kind < 0.9, torch.randint(1, V - 3, x.shape), x)
    return torch.where(hidden, torch.where(kind < 0.8, MASK, random), x), counted(x, hidden)


def denoised(x, hidden):
    return torch.where(hidden, torch.randint(1, V - 3, x.shape), x), x


def separated(x, hidden):
    """Separators and padding have no target; nothing is hidden."""
    x = x.clone()
    x[:, 7::8], x[:, 20:] = SEPARATOR, PAD
    return x, counted(x, x < SEPARATOR)


def with_gaps(x, hidden):
    gaps = x.masked_fill(hidden, MASK)
    return gaps, counted(x, ~hidden)


def tags(x, hidden):
    return x, counted((x + 1) % V, hidden)


def of(corrupt):
    def loss_of(model, x):
        inputs, labels = corrupt(x, drawn(x))
        return F.cross_entropy(model(inputs).reshape(-1, V), labels.reshape(-1))

    return loss_of


def classes_second(corrupt):
    def loss_of(model, x):
        inputs, labels = corrupt(x, drawn(x))
        return F.cross_entropy(model(inputs), labels)

    return loss_of


def with_labels(corrupt):
    def loss_of(model, x):
        inputs, labels = corrupt(x, drawn(x))
        return model(input_ids=inputs, labels=labels)[0]

    return loss_of


def findings(build, loss_of):
    torch.manual_seed(0)
    model = build()
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    watcher = watch(model, optimizer)
    for _ in range(2):
        loss = loss_of(model, torch.randint(1, V - 3, (B, T)))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        watcher.step(loss)
    watcher.flush()
    return [one for one in diagnose(watcher.history).findings if one.rule == "targets-not-masked"]


FAULTY: dict[str, Any] = {
    "encoder, inverted": (Encoder, with_labels(inverted), "leaves out the masked"),
    "recurrent, inverted": (Recurrent, of(inverted), "leaves out the masked"),
    "convolution, inverted": (Convolutional, classes_second(inverted), "leaves out the masked"),
    "encoder, not hidden": (Encoder, of(not_hidden), "stand unmasked"),
    "convolution, not hidden": (Convolutional, classes_second(not_hidden), "stand unmasked"),
    "encoder, aliased": (Encoder, with_labels(aliased), "one and the same token"),
    "recurrent, aliased": (Recurrent, of(aliased), "one and the same token"),
}


@pytest.mark.parametrize("name", FAULTY)
def test_a_mask_that_hides_no_target_is_named(name):
    build, loss_of, text = FAULTY[name]
    assert [text in one.summary for one in findings(build, loss_of)] == [True]


SOUND: dict[str, Any] = {
    "masked": (Encoder, with_labels(masked)),
    "masked, convolution": (Convolutional, classes_second(masked)),
    "denoised": (Encoder, of(denoised)),
    "separators": (Recurrent, of(separated)),
    "tags of some tokens": (Encoder, of(tags)),
    "inputs shifted by the model": (
        lambda: Encoder(causal=True, inner_shift=True),
        of(not_hidden),
    ),
    "autoencoder of what has gaps": (Coder, of(with_gaps)),
}


@pytest.mark.parametrize("name", SOUND)
def test_sound_models_of_tokens_pass(name):
    assert not findings(*SOUND[name])
