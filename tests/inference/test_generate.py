"""Generation: with a cache as without, a batch as its rows, beams as the search of all texts."""

from functools import partial
from itertools import product
from typing import Any

import pytest
import torch
from torch import nn

from thalweg.errors import UsageError
from thalweg.inference.generate import (
    beam_search,
    draw_tokens,
    generate,
    read_prompts,
    sampling_distribution,
)
from thalweg.models.sequences import Memory, RecurrentDecoder, TransformerDecoder

VOCABULARY = 7
BUILDERS: dict[str, Any] = {
    "lstm": partial(RecurrentDecoder, width=16, depth=2),
    "gru with attention": partial(
        RecurrentDecoder, width=16, cell="gru", attention="dot", memory_width=4
    ),
    "transformer": partial(TransformerDecoder, width=16, depth=2, heads=2, context=64),
    "short window": partial(TransformerDecoder, width=16, depth=2, heads=2, context=4),
}
PROMPTS = [[1, 2, 3, 4, 5], [6], [3, 3, 1]]


@pytest.fixture(params=BUILDERS)
def decoder(request):
    torch.manual_seed(0)
    model = BUILDERS[request.param](VOCABULARY)
    for weight in model.parameters():
        nn.init.normal_(weight, std=0.5)
    return model


def memory_for(decoder):
    if getattr(decoder, "attention", None) is None:
        return None
    torch.manual_seed(1)
    return Memory(torch.randn(3, 5, 4), torch.arange(5) < torch.tensor([[5], [2], [3]]))


def texts(decoder, prompts=PROMPTS, memory=None, **options):
    columns = list(generate(decoder, prompts, length=9, memory=memory, **options))
    return torch.stack(columns, 1).tolist()


def without_cache(decoder, prompt, memory):
    text = list(prompt)
    with torch.no_grad():
        for _ in range(9):
            text.append(int(decoder.eval()(torch.tensor([text]), memory)[0, -1].argmax()))
    return text[len(prompt) :]


def test_greedy_generation_with_a_cache_is_that_without(decoder):
    memory = memory_for(decoder)
    together = texts(decoder, temperature=0, memory=memory)
    for row, prompt in enumerate(PROMPTS):
        own = None if memory is None else memory.take_rows(torch.tensor([row]))
        assert together[row] == without_cache(decoder, prompt, own)


def test_prompts_of_different_lengths_are_read_as_alone(decoder):
    memory = memory_for(decoder)
    together, _ = read_prompts(decoder, PROMPTS, memory)
    for row, prompt in enumerate(PROMPTS):
        own = None if memory is None else memory.take_rows(torch.tensor([row]))
        torch.testing.assert_close(
            together[row], read_prompts(decoder, [prompt], own)[0][0], rtol=1e-5, atol=1e-5
        )


def test_a_long_prompt_is_read_in_pieces_as_in_one(decoder, monkeypatch):
    memory = memory_for(decoder)
    prompts = [[token % VOCABULARY for token in range(length)] for length in (90, 3, 41)]
    whole, _ = read_prompts(decoder, prompts, memory)
    lengths, read = [], decoder.forward_with_state
    monkeypatch.setattr("thalweg.inference.generate.LEAST_PIECE", 8)
    monkeypatch.setattr(
        decoder,
        "forward_with_state",
        lambda tokens, *rest, **options: (
            lengths.append(tokens.shape[1]) or read(tokens, *rest, **options)
        ),
    )
    pieces, _ = read_prompts(decoder, prompts, memory)
    torch.testing.assert_close(pieces, whole, rtol=1e-5, atol=1e-5)
    assert sum(lengths) == 90
    assert max(lengths) <= max(8, decoder.context)


def test_the_same_seed_draws_the_same_tokens_whatever_else_is_drawn(decoder):
    memory = memory_for(decoder)
    first = texts(decoder, memory=memory, seed=3)
    torch.rand(5)
    assert texts(decoder, memory=memory, seed=3) == first
    assert texts(decoder, memory=memory, seed=4) != first
    alone = None if memory is None else memory.take_rows(torch.tensor([0]))
    assert texts(decoder, PROMPTS[:1], memory=alone, seed=3) == first[:1]


def test_top_k_of_one_and_a_tiny_nucleus_are_greedy(decoder):
    memory = memory_for(decoder)
    greedy = texts(decoder, memory=memory, temperature=0)
    assert texts(decoder, memory=memory, top_k=1) == greedy
    assert texts(decoder, memory=memory, top_p=1e-9) == greedy


def test_it_ends_when_all_rows_have_stopped_and_a_stopped_row_stays(decoder):
    memory = memory_for(decoder)
    free = texts(decoder, memory=memory, temperature=0)
    stop = free[0][2]
    rows = texts(decoder, memory=memory, temperature=0, stop=stop)
    ends = [row.index(stop) if stop in row else 8 for row in free]
    assert len(rows[0]) == max(ends) + 1
    for row, expected, end in zip(rows, free, ends, strict=True):
        assert row[: end + 1] == expected[: end + 1]
        assert set(row[end + 1 :]) <= {stop}


def test_it_leaves_the_model_as_it_was():
    model = TransformerDecoder(VOCABULARY, width=16, heads=2, dropout=0.5).train()
    model.blocks[0].eval()
    columns = generate(model, [[1]], length=3, temperature=0)
    next(columns)
    assert torch.is_grad_enabled()
    assert (model.training, model.blocks[0].training, model.blocks[1].training) == (
        True,
        False,
        True,
    )
    assert list(columns)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, [0.5, 0.25, 0.15, 0.1]),
        ({"top_k": 2}, [2 / 3, 1 / 3, 0, 0]),
        ({"top_p": 0.6}, [2 / 3, 1 / 3, 0, 0]),
        ({"top_p": 0.49}, [1, 0, 0, 0]),
        # of the three likeliest, those that together have 0.8 of the probability of the three
        ({"top_k": 3, "top_p": 0.8}, [2 / 3, 1 / 3, 0, 0]),
        ({"temperature": 0.5}, [share**2 / 0.345 for share in (0.5, 0.25, 0.15, 0.1)]),
    ],
    ids=str,
)
def test_the_distribution_is_that_of_the_definition(options, expected):
    logits = torch.tensor([[0.5, 0.25, 0.15, 0.1]]).log()
    shares = sampling_distribution(logits, **({"temperature": 1.0} | options))
    assert shares[0].tolist() == pytest.approx(expected, rel=1e-6)


def test_draws_follow_the_distribution():
    shares = torch.tensor([[0.5, 0.0, 0.3, 0.2, 0.0]], dtype=torch.float64)
    draws = torch.linspace(0, 1 - 1e-9, 1001, dtype=torch.float64)
    counts = draw_tokens(shares.expand(1001, -1), draws).bincount(minlength=5) / 1001
    torch.testing.assert_close(counts.double(), shares[0], rtol=0, atol=2e-3)
    assert draw_tokens(shares, torch.tensor([1.0], dtype=torch.float64)).tolist() == [3]


def log_probability(decoder, prompt, text):
    with torch.no_grad():
        tokens = torch.tensor([[*prompt, *text]])
        logits = decoder.eval()(tokens[:, :-1])[0, len(prompt) - 1 :].double().log_softmax(-1)
    return logits.gather(1, torch.tensor(text)[:, None]).sum().item()


@pytest.mark.parametrize("name", ["lstm", "transformer"])
@pytest.mark.parametrize("penalty", [0.0, 1.0])
def test_wide_beams_find_the_best_of_all_texts(name, penalty):
    """4³ = 64 beams of up to three tokens leave nothing out."""
    torch.manual_seed(0)
    decoder = BUILDERS[name](4)
    nn.init.normal_(decoder.head.weight, std=1.0)
    stop, prompt = 0, [2, 3]
    endings = [
        text
        for length in (1, 2, 3)
        for text in product(range(4), repeat=length)
        if stop not in text[:-1] and (length == 3 or text[-1] == stop)
    ]

    def score(text):
        return log_probability(decoder, prompt, text) / ((5 + len(text)) / 6) ** penalty

    best = sorted(endings, key=lambda text: -score(text))[:5]
    [beams] = beam_search(decoder, [prompt], length=3, beams=64, length_penalty=penalty, stop=stop)
    assert [beam.tokens for beam in beams[:5]] == best
    assert [beam.score for beam in beams[:5]] == pytest.approx([score(text) for text in best])
    assert beams[0].log_probability == pytest.approx(log_probability(decoder, prompt, best[0]))


def test_one_beam_without_a_stop_is_greedy(decoder):
    memory = memory_for(decoder)
    beams = beam_search(decoder, PROMPTS, length=9, beams=1, memory=memory)
    greedy = texts(decoder, memory=memory, temperature=0)
    assert [list(row[0].tokens) for row in beams] == greedy


def test_more_beams_are_never_worse_here(decoder):
    memory = memory_for(decoder)
    options = {"length": 6, "memory": memory, "length_penalty": 0.0}
    narrow = beam_search(decoder, PROMPTS, beams=1, **options)
    wide = beam_search(decoder, PROMPTS, beams=40, **options)
    assert all(w[0].score >= n[0].score - 1e-4 for w, n in zip(wide, narrow, strict=True))
    assert all(len(row) == 40 for row in wide)


@pytest.mark.parametrize(
    ("prompts", "options", "problem"),
    [
        ([[1], []], {}, "empty prompt"),
        ([], {}, "no prompt"),
        ([[9]], {}, "no token 9"),
        ([[1]], {"temperature": -1.0}, "no token can be drawn"),
        ([[1]], {"top_p": 0.0}, "no token can be drawn"),
        ([[1]], {"top_k": -2}, "no token can be drawn"),
    ],
)
def test_impossible_wishes_are_refused_before_the_first_token(prompts, options, problem):
    model = RecurrentDecoder(VOCABULARY, width=4)
    with pytest.raises(UsageError, match=problem):
        generate(model, prompts, length=1, **options)
    with pytest.raises(UsageError, match="beams"):
        beam_search(model, [[1]], length=1, beams=0)
