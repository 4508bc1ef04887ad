"""What every decoder promises, and PyTorch's own modules as the truth.

Steps equal the whole pass, a batch equals its rows one by one, padding changes nothing, nothing
looks ahead, and chunks with carried state equal the sequence.
"""

from functools import partial
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from thalweg.errors import UnknownNameError, UsageError
from thalweg.models.sequences import Memory, RecurrentDecoder, TransformerDecoder
from thalweg.models.sequences.recurrent import CELLS, set_forget_bias
from thalweg.models.sequences.transformer import SOFT_CAP, slot_positions

VOCABULARY, WIDTH, TIME, MEMORY_WIDTH = 11, 16, 12, 6
close = partial(torch.testing.assert_close, rtol=1e-5, atol=1e-5)

BUILDERS: dict[str, Any] = {
    **{cell: partial(RecurrentDecoder, cell=cell, depth=2) for cell in CELLS},
    "additive": partial(RecurrentDecoder, attention="additive", memory_width=MEMORY_WIDTH),
    "dot": partial(RecurrentDecoder, cell="gru", attention="dot", memory_width=MEMORY_WIDTH),
    "transformer": partial(TransformerDecoder, depth=2, heads=2, context=64),
    "short window": partial(TransformerDecoder, depth=2, heads=2, context=5),
    "cross-attention": partial(
        TransformerDecoder, depth=2, heads=2, context=64, memory_width=MEMORY_WIDTH
    ),
}
WITH_MEMORY = ("additive", "dot", "cross-attention")


def decoder_of(name):
    torch.manual_seed(0)
    decoder = BUILDERS[name](VOCABULARY, width=WIDTH).eval()
    for weight in decoder.parameters():  # zeros at the start would hide what a branch does
        if not weight.any() or weight.std() < 0.02:
            nn.init.normal_(weight, std=0.3)
    return decoder


def memory_of(name, rows=3):
    if name not in WITH_MEMORY:
        return None
    mask = torch.tensor([[True] * 4, [True, True, False, False], [True, False, True, False]])
    return Memory(torch.randn(3, 4, MEMORY_WIDTH), mask).take_rows(torch.arange(rows))


@pytest.fixture(params=BUILDERS)
def case(request):
    decoder = decoder_of(request.param)
    return decoder, torch.randint(VOCABULARY, (3, TIME)), memory_of(request.param)


def stepwise(decoder, tokens, memory):
    state, columns = decoder.initial_state(len(tokens), memory), []
    for previous in tokens.unbind(1):
        logits, state = decoder.step(previous, state, memory)
        columns.append(logits)
    return torch.stack(columns, 1), state


def test_steps_equal_the_whole_pass(case):
    decoder, tokens, memory = case
    close(stepwise(decoder, tokens, memory)[0], decoder(tokens, memory))


@pytest.mark.parametrize("sizes", [(TIME,), (1, TIME - 1), (5, 4, 3), (7, 1, 4)], ids=str)
def test_chunks_with_carried_state_equal_the_whole(case, sizes):
    decoder, tokens, memory = case
    state, parts = decoder.initial_state(3, memory), []
    for chunk in tokens.split(sizes, dim=1):
        logits, state = decoder.forward_with_state(chunk, state, memory)
        parts.append(logits)
    close(torch.cat(parts, 1), decoder(tokens, memory))


def test_a_batch_equals_its_rows_alone(case):
    decoder, tokens, memory = case
    together = decoder(tokens, memory)
    for row in range(3):
        own = None if memory is None else memory.take_rows(torch.tensor([row]))
        close(decoder(tokens[row : row + 1], own), together[row : row + 1])


@pytest.mark.parametrize("side", ["left", "right"])
def test_padding_changes_nothing(case, side):
    decoder, tokens, memory = case
    pads = (3, 0) if side == "left" else (0, 3)
    padded = F.pad(tokens, pads, value=7)
    mask = F.pad(torch.ones_like(tokens, dtype=torch.bool), pads)
    expected = decoder(tokens, memory)
    real = slice(3, None) if side == "left" else slice(None, TIME)
    close(decoder(padded, memory, mask)[:, real], expected)
    state = decoder.initial_state(3, memory)
    logits, state = decoder.forward_with_state(padded, state, memory, mask=mask)
    close(logits[:, real], expected)
    if side == "left":  # and so is what comes behind
        following = torch.tensor([1, 2, 3])
        alone = stepwise(decoder, tokens, memory)[1]
        close(decoder.step(following, state, memory)[0], decoder.step(following, alone, memory)[0])


def test_rows_of_different_lengths_go_on_from_their_own_end(case):
    decoder, tokens, memory = case
    lengths = (TIME, 4, 1)
    mask = torch.stack([torch.arange(TIME) >= TIME - length for length in lengths])
    state = decoder.initial_state(3, memory)
    _, state = decoder.forward_with_state(tokens, state, memory, mask=mask)
    following = torch.tensor([1, 2, 3])
    together, _ = decoder.step(following, state, memory)
    for row, length in enumerate(lengths):
        own = None if memory is None else memory.take_rows(torch.tensor([row]))
        text = torch.cat((tokens[row, TIME - length :], following[row : row + 1]))[None]
        close(together[row], decoder(text, own)[0, -1])


def test_nothing_looks_ahead(case):
    decoder, tokens, memory = case
    inputs = {}
    handle = decoder.embedding.register_forward_hook(
        lambda module, args, output: inputs.update(embedded=output.retain_grad() or output)
    )
    decoder(tokens, memory)[:, 6].sum().backward()
    handle.remove()
    reach = inputs["embedded"].grad.abs().sum((0, 2))
    assert reach[:7].any()
    assert not reach[7:].any()


def test_reordered_rows_go_on_as_themselves(case):
    decoder, tokens, memory = case
    rows = torch.tensor([2, 0, 0])
    _, state = stepwise(decoder, tokens, memory)
    own = None if memory is None else memory.take_rows(rows)
    following = torch.tensor([4, 4, 5])
    chosen = torch.cat((tokens[rows], following[:, None]), 1)
    logits, _ = decoder.step(following, decoder.reorder(state, rows), own)
    close(logits, decoder(chosen, own)[:, -1])


def test_gradients_through_chunks_equal_the_whole_until_the_state_is_cut(case):
    """Truncated back-propagation through time is the full one where the chunk is the sequence."""
    decoder, tokens, memory = case

    def gradients(size, cut):
        decoder.zero_grad()
        state, loss = decoder.initial_state(3, memory), torch.zeros(())
        for chunk in tokens.split(size, dim=1):
            logits, state = decoder.forward_with_state(chunk, state, memory)
            loss = loss + logits.square().sum()
            state = decoder.detach(state) if cut else state
        loss.backward()
        return [w.grad.clone() for w in decoder.parameters() if w.grad is not None]

    decoder(tokens, memory).square().sum().backward()
    full = [weight.grad.clone() for weight in decoder.parameters() if weight.grad is not None]
    compare = partial(torch.testing.assert_close, rtol=1e-4, atol=1e-4)  # of sums of 396 squares
    for size, cut in ((TIME, True), (4, False)):
        for gradient, expected in zip(gradients(size, cut), full, strict=True):
            compare(gradient, expected)
    pairs = zip(gradients(4, True), full, strict=True)
    assert any((gradient - expected).abs().max() > 1e-2 for gradient, expected in pairs)


@pytest.mark.parametrize("name", WITH_MEMORY)
def test_masked_entries_of_the_memory_have_no_weight(name):
    decoder, memory, tokens = (
        decoder_of(name),
        memory_of(name),
        torch.zeros(3, 5, dtype=torch.int64),
    )
    changed = memory._replace(tokens=torch.where(memory.mask[..., None], memory.tokens, 100.0))
    close(decoder(tokens, changed), decoder(tokens, memory))
    weights = decoder.attention_weights(tokens, memory)
    close(weights.sum(-1), torch.ones(3, 5))
    assert not (weights * ~memory.mask[:, None]).any()
    assert (
        decoder(tokens, memory) - decoder(tokens, memory.take_rows(torch.tensor([1, 2, 0])))
    ).abs().max() > 1e-3


@pytest.mark.parametrize("cell", ["rnn", "rnn_relu", "lstm", "gru"])
@pytest.mark.parametrize("depth", [1, 3])
def test_a_recurrent_decoder_is_torchs_own_layers(cell, depth):
    decoder = RecurrentDecoder(VOCABULARY, cell=cell, width=WIDTH, depth=depth).eval()
    own = CELLS[cell](WIDTH, WIDTH, depth, batch_first=True)
    own.load_state_dict(decoder.layers.state_dict())
    tokens = torch.randint(VOCABULARY, (2, TIME))
    hidden, _ = own(decoder.embedding(tokens))
    close(decoder(tokens), F.linear(hidden, decoder.head.weight, decoder.head.bias))


@pytest.mark.parametrize("cell", ["rnn", "lstm", "gru"])
def test_a_deeper_layers_input_is_the_hidden_state_of_the_one_below(cell):
    stacked = CELLS[cell](4, 5, 3, batch_first=True)
    below = torch.randn(2, 7, 4)
    expected, _ = stacked(below)
    for layer in range(3):
        single = CELLS[cell](4 if layer == 0 else 5, 5, batch_first=True)
        suffixes = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
        single.load_state_dict(
            {f"{part}_l0": getattr(stacked, f"{part}_l{layer}") for part in suffixes}
        )
        below, _ = single(below)
    close(below, expected)


def test_an_embedding_is_a_one_hot_vector_times_a_matrix():
    decoder = RecurrentDecoder(VOCABULARY, width=WIDTH)
    tokens = torch.randint(VOCABULARY, (2, 5))
    one_hot = F.one_hot(tokens, VOCABULARY).float()
    torch.testing.assert_close(decoder.embedding(tokens), one_hot @ decoder.embedding.weight)
    assert decoder.embedding.weight.shape == (VOCABULARY, WIDTH)


@pytest.mark.parametrize("name", ["lstm", "gru"])
def test_activations_of_units_are_the_states_after_each_token(name):
    decoder, tokens = decoder_of(name), torch.randint(VOCABULARY, (3, TIME))
    activations = decoder.unit_activations(tokens)
    assert activations.shape == (2, 3, TIME, WIDTH)
    _, state = decoder.forward_with_state(tokens[:, :5], decoder.initial_state(3))
    close(activations[:, :, 4], torch.tanh(state[1]) if name == "lstm" else state[0])
    if name == "gru":
        hidden, _ = decoder.hidden_states(tokens, decoder.initial_state(3))
        close(activations[-1], hidden)


def test_the_forget_gates_start_open():
    layers = nn.LSTM(3, 4, 2)
    set_forget_bias(layers, 1.0)
    for index in range(2):
        sums = getattr(layers, f"bias_ih_l{index}") + getattr(layers, f"bias_hh_l{index}")
        assert sums[4:8].tolist() == [1.0] * 4


def test_self_attention_equals_torchs_multi_head_attention():
    """Rotations and norms aside: the same projections, heads and mask."""
    from thalweg.models.sequences import transformer

    torch.manual_seed(0)
    own = transformer.SelfAttention(WIDTH, 2)
    nn.init.normal_(own.proj.weight)
    other = nn.MultiheadAttention(WIDTH, 2, bias=False, batch_first=True)
    other.load_state_dict({"in_proj_weight": own.qkv.weight, "out_proj.weight": own.proj.weight})
    x = torch.randn(3, TIME, WIDTH)
    future = torch.ones(TIME, TIME, dtype=torch.bool).triu(1)
    expected, _ = other(x, x, x, attn_mask=future)
    q, k, v = own.qkv(x).view(3, TIME, 3, 2, WIDTH // 2).permute(2, 0, 3, 1, 4)
    for attend in (
        transformer.explicit_attention,
        partial(transformer.masked_attention, allowed=None),
    ):
        mixed = attend(q, k, v)
        close(own.proj(mixed.transpose(1, 2).flatten(2)), expected)


def test_rotated_products_depend_on_the_distance_alone():
    from thalweg.models.sequences.rotary import rotate, rotations

    q, k = torch.randn(2, 1, 8)
    products = [
        (
            rotate(q, rotations(torch.tensor([p + 3]), 8, dtype=q.dtype))
            * rotate(k, rotations(torch.tensor([p]), 8, dtype=q.dtype))
        ).sum()
        for p in (0, 5, 100)
    ]
    close(torch.stack(products), products[0].expand(3))
    close(rotate(q, rotations(torch.tensor([9]), 8, dtype=q.dtype)).norm(), q.norm())


def test_in_bfloat16_losses_and_gradients_are_nearly_those_of_float32(case):
    decoder, tokens, memory = case
    measurements = []
    for reduced in (False, True):
        decoder.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=reduced):
            logits = decoder(tokens, memory)
            loss = F.cross_entropy(logits[:, :-1].flatten(0, 1), tokens[:, 1:].flatten())
        loss.backward()
        assert logits.dtype == torch.float32
        measurements.append((loss.detach(), decoder.head.weight.grad.norm()))
    torch.testing.assert_close(*measurements, rtol=0.05, atol=0)  # of 8 bits, through all layers


def test_slots_hold_the_last_positions():
    assert slot_positions(torch.tensor(7), 4).tolist() == [4, 5, 6, 3]
    assert slot_positions(torch.tensor(2), 4).tolist() == [0, 1, -2, -1]


def test_memory_stays_constant_however_long_the_text():
    decoder = decoder_of("short window")
    state = decoder.initial_state(1)
    shapes = [tensor.shape for tensor in state]
    for _ in range(13):
        logits, state = decoder.step(torch.tensor([1]), state)
    assert [tensor.shape for tensor in state] == shapes
    assert logits.abs().max() <= SOFT_CAP


# torch.nn.LSTM sets its own list of weights while it is traced; the program is right.
@pytest.mark.filterwarnings("ignore:The tensor attributes self.decoder.layers._flat_weights")
@pytest.mark.parametrize("name", ["lstm", "dot", "transformer", "cross-attention"])
@torch.no_grad()
def test_a_step_is_exported(name):
    decoder, memory = decoder_of(name), memory_of(name)
    tokens = torch.randint(VOCABULARY, (3, 6))

    class Step(nn.Module):
        def __init__(self):
            super().__init__()
            self.decoder = decoder

        def forward(self, previous, state, memory):
            return self.decoder.step(previous, state, memory)

    state = decoder.initial_state(3, memory)
    program = torch.export.export(Step(), (tokens[:, 0], state, memory)).module()
    for previous in tokens.unbind(1):
        logits, state = program(previous, state, memory)
    close(logits, decoder(tokens, memory)[:, -1])


@pytest.mark.parametrize(
    ("build", "problem"),
    [
        (partial(RecurrentDecoder, cell="lstn"), "no recurrent cell is called 'lstn'"),
        (partial(RecurrentDecoder, attention="dott", memory_width=4), "no attention is called"),
        (partial(TransformerDecoder, width=12, heads=4), "does not divide into heads"),
        (partial(TransformerDecoder, context=0), "looks at a number of tokens"),
    ],
)
def test_what_cannot_be_built_is_one_clear_error(build, problem):
    with pytest.raises((UsageError, UnknownNameError), match=problem):
        build(VOCABULARY)
