"""Encoders: padding changes nothing, and what stands in the memory is where it should be."""

from functools import partial
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from thalweg.models.sequences import (
    GridEncoder,
    Memory,
    PooledEncoder,
    RecurrentDecoder,
    TextEncoder,
    TransformerTextEncoder,
    join_memories,
)
from thalweg.models.sequences.recurrent import CELLS

VOCABULARY, WIDTH = 9, 16
close = partial(torch.testing.assert_close, rtol=1e-5, atol=1e-5)
TEXT_ENCODERS: dict[str, Any] = {
    "transformer": partial(TransformerTextEncoder, heads=2),
    "one way": partial(TextEncoder, bidirectional=False),
    **{cell: partial(TextEncoder, cell=cell, depth=2) for cell in CELLS},
}


@pytest.mark.parametrize("name", TEXT_ENCODERS)
@pytest.mark.parametrize("pads", [(2, 0), (0, 2)], ids=["left", "right"])
def test_padded_texts_are_encoded_as_they_are_alone(name, pads):
    torch.manual_seed(0)
    encoder = TEXT_ENCODERS[name](VOCABULARY, width=WIDTH).eval()
    for weight in encoder.parameters():
        if not weight.any():
            nn.init.normal_(weight, std=0.3)
    tokens = torch.randint(VOCABULARY, (3, 5))
    mask = F.pad(torch.ones_like(tokens, dtype=torch.bool), pads)
    alone, padded = encoder(tokens), encoder(F.pad(tokens, pads), mask)
    close(padded.tokens[:, pads[0] : pads[0] + 5], alone.tokens)
    close(padded.mean(), alone.mean())
    assert alone.tokens.shape == (3, 5, WIDTH)
    assert torch.equal(padded.mask, mask)


def test_a_text_encoder_is_torchs_own_bidirectional_gru():
    encoder = TextEncoder(VOCABULARY, width=WIDTH).eval()
    tokens = torch.randint(VOCABULARY, (2, 6))
    own = nn.GRU(WIDTH, WIDTH // 2, batch_first=True, bidirectional=True)
    own.load_state_dict(encoder.layers.state_dict())
    outputs, last = own(encoder.embedding(tokens))
    memory = encoder(tokens)
    close(memory.tokens, encoder.project(outputs))
    close(memory.summary, encoder.project(torch.cat((last[0], last[1]), 1)))


def test_every_token_of_a_transformer_encoder_sees_all_others():
    torch.manual_seed(0)
    encoder = TransformerTextEncoder(VOCABULARY, width=WIDTH, heads=2).eval()
    block: Any
    for block in encoder.blocks:
        nn.init.normal_(block.attn.proj.weight, std=0.3)
    first, second = torch.tensor([[1, 2, 3, 4]]), torch.tensor([[1, 2, 3, 5]])
    assert (encoder(first).tokens[0, 0] - encoder(second).tokens[0, 0]).abs().max() > 1e-4


def test_a_grid_has_an_entry_for_each_place_and_its_mean_as_the_summary():
    features = nn.Conv2d(3, 5, 2, stride=2)
    encoder, images = GridEncoder(features, 5, width=WIDTH), torch.randn(2, 3, 4, 6)
    memory = encoder(images)
    assert memory.tokens.shape == (2, 2 * 3, WIDTH)
    close(memory.tokens[1, 4], encoder.project(features(images)[1, :, 1, 1]))
    pooled = PooledEncoder(features, 5, width=WIDTH)
    pooled.project = encoder.project
    close(pooled(images).tokens[:, 0], memory.summary)
    assert memory.mask.all()


def test_memories_join_entry_behind_entry():
    first = Memory(torch.ones(2, 3, 4), torch.ones(2, 3, dtype=torch.bool))
    second = Memory(torch.zeros(2, 2, 4), torch.tensor([[True, False], [True, True]]))
    joined = join_memories([first, second])
    assert joined.tokens.shape == (2, 5, 4)
    assert joined.mask.tolist() == [[True] * 4 + [False], [True] * 5]
    assert joined.summary.tolist() == [[0.5] * 4] * 2


def test_a_decoder_learns_to_copy_what_its_memory_holds():
    """Encoder, memory, attention and decoder together: three tokens, repeated exactly."""
    torch.manual_seed(0)
    encoder = TextEncoder(VOCABULARY, width=32)
    decoder = RecurrentDecoder(VOCABULARY, width=32, cell="gru", attention="dot", memory_width=32)
    weights = [*encoder.parameters(), *decoder.parameters()]
    optimizer = torch.optim.Adam(weights, lr=0.01)
    for _ in range(50):
        source = torch.randint(1, VOCABULARY, (32, 3))
        logits = decoder(F.pad(source[:, :-1], (1, 0)), encoder(source))
        loss = F.cross_entropy(logits.flatten(0, 1), source.flatten())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss.item() < 1  # from ln 9 = 2.2
