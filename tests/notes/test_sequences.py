"""Recurrent networks and attention, from their equations to a text that is learned by heart."""

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from thalweg.inference.generate import generate
from thalweg.models import MODELS
from thalweg.models.sequences import (
    Memory,
    PooledEncoder,
    RecurrentDecoder,
    TextEncoder,
    TransformerDecoder,
)
from thalweg.models.sequences.attention import additive, dot

LETTERS = "helo"


@pytest.fixture(autouse=True)
def _seeded():
    torch.manual_seed(0)


def test_a_vanilla_network_is_its_equation():
    """h = tanh(W_hh h + W_xh x + b), y = W_hy h + b: the same weights at every step."""
    decoder = RecurrentDecoder(4, cell="rnn", width=5).eval()
    tokens = torch.randint(4, (2, 7))
    weights = dict(decoder.layers.named_parameters())
    hidden, outputs = torch.zeros(2, 5), []
    for x in decoder.embedding(tokens).unbind(1):
        hidden = torch.tanh(
            hidden @ weights["weight_hh_l0"].T
            + weights["bias_hh_l0"]
            + x @ weights["weight_ih_l0"].T
            + weights["bias_ih_l0"]
        )
        outputs.append(decoder.head(hidden))
    torch.testing.assert_close(decoder(tokens), torch.stack(outputs, 1))


def test_long_short_term_memory_is_its_equations():
    """c = f·c + i·g, h = o·tanh(c)."""
    decoder = RecurrentDecoder(4, cell="lstm", width=5).eval()
    tokens = torch.randint(4, (2, 7))
    weights = dict(decoder.layers.named_parameters())
    hidden, cell, outputs = torch.zeros(2, 5), torch.zeros(2, 5), []
    for x in decoder.embedding(tokens).unbind(1):
        gates = hidden @ weights["weight_hh_l0"].T + x @ weights["weight_ih_l0"].T
        i, f, g, o = (gates + weights["bias_hh_l0"] + weights["bias_ih_l0"]).chunk(4, 1)
        cell = f.sigmoid() * cell + i.sigmoid() * g.tanh()
        hidden = o.sigmoid() * cell.tanh()
        outputs.append(decoder.head(hidden))
    torch.testing.assert_close(decoder(tokens), torch.stack(outputs, 1))


@pytest.mark.parametrize("name", ["rnn_lm", "lstm_lm", "gru_lm", "transformer_lm"])
def test_hell_is_followed_by_o(name):
    """The word is learned by heart, and then written from its first letter."""
    model = MODELS[name](4, input_shape=(4,), width=16)
    word = torch.tensor([[LETTERS.index(letter) for letter in "hello"]])
    optimizer = torch.optim.Adam(model.parameters(), lr=0.02)
    for _ in range(60):
        loss = F.cross_entropy(model(word[:, :-1]).flatten(0, 1), word[:, 1:].flatten())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.05  # from ln 4 = 1.39
    decoder: Any = model
    columns = generate(decoder, [[0]], length=4, temperature=0)
    assert "".join(LETTERS[int(column[0])] for column in columns) == "ello"


def test_the_gradient_of_a_text_is_the_sum_over_its_steps():
    """Back-propagation through time: each step's loss reaches the same shared weights."""
    decoder = RecurrentDecoder(4, cell="rnn", width=5)
    tokens, targets = torch.randint(4, (2, 1, 6))
    shared = decoder.layers.get_parameter("weight_hh_l0")
    shares = []
    for step in range(6):
        loss = F.cross_entropy(decoder(tokens)[:, step], targets[:, step])
        shares.append(torch.autograd.grad(loss, shared)[0])
    whole = F.cross_entropy(decoder(tokens)[0], targets[0], reduction="sum")
    torch.testing.assert_close(sum(shares), torch.autograd.grad(whole, shared)[0])


def reach(decoder, steps=50):
    """The size of the gradient of the last output by the first input."""
    inputs = decoder.embedding(torch.zeros(1, steps, dtype=torch.int64)).detach().requires_grad_()
    hidden, _ = decoder.layers(inputs)
    return torch.autograd.grad(hidden[0, -1].sum(), inputs)[0][0, 0].norm().item()


def test_a_vanilla_network_forgets_and_an_open_forget_gate_remembers():
    """A step multiplies by W_hh and by tanh′ ≤ 1; a cell's own way multiplies by f alone."""
    vanilla = reach(RecurrentDecoder(2, cell="rnn", width=16))
    shut = reach(RecurrentDecoder(2, cell="lstm", width=16, forget_bias=0.0))
    ajar = reach(RecurrentDecoder(2, cell="lstm", width=16, forget_bias=5.0))
    assert vanilla < 1e-4
    assert shut < 1e-4
    assert ajar > 1e-2


def test_the_state_of_a_recurrent_network_has_one_size_for_texts_of_any_length():
    decoder = RecurrentDecoder(4, cell="lstm", width=8)
    states = [
        decoder.forward_with_state(torch.zeros(1, length, dtype=torch.int64), state)[1]
        for length in (1, 10, 100)
        for state in [decoder.initial_state(1)]
    ]
    assert {tuple(map(len, state)) + state[0].shape for state in states} == {(1, 1, 1, 1, 8)}


def test_one_core_serves_all_four_shapes():
    """One to many, many to one, many to many step by step, and many to many of other lengths."""
    text = torch.randint(4, (2, 6))
    image_to_text = RecurrentDecoder(4, width=8, memory_width=8)
    memory = PooledEncoder(nn.Identity(), 3, width=8)(torch.randn(2, 3))
    columns = list(generate(image_to_text, [[0], [0]], length=5, memory=memory))
    assert len(columns) == 5
    encoder = TextEncoder(4, width=8)
    assert nn.Linear(8, 3)(encoder(text).mean()).shape == (2, 3)
    assert MODELS["gru_lm"](4, input_shape=(6,), width=8)(text).shape == (2, 6, 4)
    translator = TransformerDecoder(4, width=8, heads=2, memory_width=8)
    assert translator(text[:, :3], encoder(text)).shape == (2, 3, 4)


@pytest.mark.parametrize("score", [additive, dot])
def test_attention_is_its_equation_entry_by_entry(score):
    """Bahdanau's v·tanh(W q + U k), or the scaled dot product; then a softmax and a mean."""
    attention = score(4, 3)
    memory = Memory(torch.randn(1, 5, 3), torch.tensor([[True, True, False, True, True]]))
    queries = torch.randn(1, 2, 4)
    context, weights = attention(queries, memory)
    for step in range(2):
        scores = []
        for entry in (0, 1, 3, 4):
            q = attention.query.weight @ queries[0, step]
            k = attention.key.weight @ memory.tokens[0, entry]
            is_additive = score is additive
            scores.append(
                attention.score.weight.weight[0] @ torch.tanh(q + k) if is_additive else q @ k / 2
            )
        shares = torch.stack(scores).softmax(0)
        torch.testing.assert_close(weights[0, step, [0, 1, 3, 4]], shares)
        torch.testing.assert_close(context[0, step], shares @ memory.tokens[0, [0, 1, 3, 4]])


def test_order_reaches_a_transformer_by_its_positions_and_its_mask_alone():
    """Without either, the last prediction is that of a bag of words; the positions tell it."""
    decoder = TransformerDecoder(9, width=16, depth=1, heads=2, context=8).eval()
    for weight in decoder.parameters():
        nn.init.normal_(weight, std=0.5)
    text, swapped = torch.tensor([[1, 2, 3, 4]]), torch.tensor([[2, 1, 3, 4]])
    difference = (decoder(text)[0, -1] - decoder(swapped)[0, -1]).abs().max()
    assert difference > 1e-3
    from thalweg.models.sequences import transformer

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(transformer, "rotate", lambda x, rotation: x)
        torch.testing.assert_close(decoder(text)[0, -1], decoder(swapped)[0, -1])
