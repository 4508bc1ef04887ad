"""Padding masks of PyTorch's attention layers: inverted, right, and what is not known."""

from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from thalweg.diagnosis import diagnose
from thalweg.observe import watch
from thalweg.record.quantities import INSTRUMENT_FAILED, MASK_INVERTED

WIDTH, WORDS, CLASSES = 16, 20, 3


def sentences(count=24, length=7):
    generator = torch.Generator().manual_seed(0)
    tokens = torch.randint(1, WORDS, (count, length), generator=generator)
    lengths = torch.randint(2, length + 1, (count,), generator=generator)
    return tokens.masked_fill(torch.arange(length) >= lengths[:, None], 0)


class Encoder(nn.Module):
    """Classifies a sentence by a Transformer's encoder."""

    def __init__(self, hide):
        super().__init__()
        self.embed, self.out = nn.Embedding(WORDS, WIDTH), nn.Linear(WIDTH, CLASSES)
        layer = nn.TransformerEncoderLayer(WIDTH, 2, 32, batch_first=True)
        self.encoder: Any = nn.TransformerEncoder(layer, 1)
        self.hide = hide

    def forward(self, tokens):
        states = self.encoder(self.embed(tokens), src_key_padding_mask=self.hide(tokens))
        shown = (tokens != 0)[..., None]
        return self.out((states * shown).sum(1) / shown.sum(1))


class Attention(Encoder):
    """The same by one bare attention layer, whose mask is passed by position."""

    def __init__(self, hide):
        super().__init__(hide)
        self.encoder = nn.MultiheadAttention(WIDTH, 2, batch_first=True)

    def forward(self, tokens):
        states = self.embed(tokens)
        states = states + self.encoder(states, states, states, self.hide(tokens))[0]
        return self.out(states.mean(1))


class Translator(Encoder):
    """Words into words by nn.Transformer."""

    def __init__(self, hide):
        super().__init__(hide)
        self.encoder = nn.Transformer(WIDTH, 2, 1, 1, 32, batch_first=True)

    def forward(self, tokens):
        hidden = self.hide(tokens)
        states = self.embed(tokens)
        states = self.encoder(
            states, states, src_key_padding_mask=hidden, memory_key_padding_mask=hidden
        )
        return self.out(states.mean(1))


def trained(model):
    optimizer = torch.optim.Adam(model.parameters(), 1e-3)
    watcher = watch(model, optimizer)
    tokens = sentences()
    for step in range(4):
        batch = tokens[step % 2 :: 2]
        loss = F.cross_entropy(model(batch), batch[:, 0] % CLASSES)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        watcher.step(loss)
    return watcher


MODELS = [Encoder, Attention, Translator]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("model", MODELS)
def test_an_inverted_mask_is_the_headline(model):
    torch.manual_seed(0)
    watcher = trained(model(lambda tokens: (tokens != 0) & (tokens.sum(1) > 0)[:, None]))
    assert diagnose(watcher.history).headline.rule == "padding-mask-inverted"


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize(
    "hide",
    [
        lambda tokens: tokens == 0,
        lambda tokens: torch.zeros(tokens.shape).masked_fill(tokens == 0, float("-inf")),
        lambda tokens: (tokens == 0) | (torch.arange(tokens.shape[1]) == 1),  # a word dropped
    ],
    ids=["bool", "float", "of a word too"],
)
def test_a_mask_of_the_padding_passes(model, hide):
    torch.manual_seed(0)
    watcher = trained(model(hide))
    assert 1.0 not in [
        series[max(series)] for series in watcher.history.by_place(MASK_INVERTED).values()
    ]
    assert INSTRUMENT_FAILED not in watcher.history


def test_a_model_without_padding_is_not_checked():
    model = Encoder(lambda tokens: None)
    optimizer = torch.optim.Adam(model.parameters(), 1e-3)
    watcher = watch(model, optimizer)
    tokens = torch.randint(1, WORDS, (8, 5))
    for _ in range(2):
        loss = F.cross_entropy(model(tokens), tokens[:, 0] % CLASSES)
        loss.backward()
        optimizer.step()
        watcher.step(loss)
    assert "padding-mask-inverted" in diagnose(watcher.history).not_checked
