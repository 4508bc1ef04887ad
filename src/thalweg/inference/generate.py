"""Continue token sequences with any decoder: greedy, by sampling, or by beam search.

Every step costs one step of the decoder, whatever the length of what it has read.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from thalweg.borrow import preserve_modes
from thalweg.data.batch import derived_seed
from thalweg.errors import UsageError
from thalweg.models.sequences.decoder import Decoder, State
from thalweg.models.sequences.memory import Memory

Prompts = Sequence[Sequence[int]]
LEAST_PIECE = 256  # tokens of a prompt that are read at a time, or a decoder's context if longer


class Beam(NamedTuple):
    """A continuation that the search has come to, without the prompt."""

    tokens: tuple[int, ...]  # the stop token included
    log_probability: float  # nats, of all its tokens
    score: float  # by which beams are ranked: the log-probability normalised by the length


def generate(
    decoder: Decoder,
    prompts: Prompts,
    *,
    length: int,
    temperature: float = 1.0,
    top_k: int = 0,
    top_p: float = 1.0,
    stop: int | None = None,
    seed: int = 0,
    memory: Memory | None = None,
) -> Iterator[Int64[Tensor, " batch"]]:
    """Yield the next token of every prompt, up to `length` times.

    `temperature` 0 takes the likeliest token. Otherwise a token is drawn from the `top_k` likeliest
    (0: all) and, of those, from the fewest that together have the probability `top_p` (nucleus
    sampling: Holtzman et al. 2020, https://arxiv.org/abs/1904.09751). The draws of a row depend on
    the seed and on its place alone. After `stop` a row repeats it; when all have stopped, the end.

    The decoder is in evaluation mode while it works, and in its own between two tokens.
    Raises: UsageError, at once, for an empty prompt or an impossible value.
    """
    check_prompts(prompts, decoder.vocabulary_size)
    check_sampling(temperature=temperature, top_k=top_k, top_p=top_p)
    generators = [
        torch.Generator().manual_seed(derived_seed(seed, row)) for row in range(len(prompts))
    ]

    def choose(logits: Float[Tensor, "batch token"]) -> Int64[Tensor, " batch"]:
        if temperature == 0:
            return logits.argmax(-1)
        shares = sampling_distribution(logits, temperature=temperature, top_k=top_k, top_p=top_p)
        draws = torch.stack([torch.rand((), generator=g, dtype=torch.float64) for g in generators])
        return draw_tokens(shares, draws.to(shares.device))

    return _columns(decoder, prompts, memory, choose=choose, length=length, stop=stop)


def _columns(
    decoder: Decoder,
    prompts: Prompts,
    memory: Memory | None,
    *,
    choose: Callable[[Tensor], Tensor],
    length: int,
    stop: int | None,
) -> Iterator[Tensor]:
    logits, state = read_prompts(decoder, prompts, memory)
    has_stopped = torch.zeros(len(prompts), dtype=torch.bool, device=logits.device)
    for index in range(length):
        tokens = choose(logits)
        if stop is not None:
            tokens = tokens.masked_fill(has_stopped, stop)
            has_stopped = has_stopped | (tokens == stop)
        yield tokens
        if index == length - 1 or has_stopped.all():
            return
        logits, state = _advance(decoder, tokens, state, memory=memory)


def beam_search(
    decoder: Decoder,
    prompts: Prompts,
    *,
    length: int,
    beams: int = 4,
    length_penalty: float = 0.6,
    stop: int | None = None,
    memory: Memory | None = None,
) -> list[list[Beam]]:
    """The `beams` best continuations of each prompt, best first.

    A beam ends with `stop` or after `length` tokens. Its score is log p / ((5 + n) / 6)^penalty for
    n tokens, so that long ones are not at a disadvantage; 0 is the plain log-probability.
    Source: Wu et al. 2016, https://arxiv.org/abs/1609.08144, §7.
    Raises: UsageError for an empty prompt or an impossible value.
    """
    check_prompts(prompts, decoder.vocabulary_size)
    if beams < 1 or length_penalty < 0:
        raise UsageError(
            "beam search follows a number of beams, and a length does not count against them",
            seen=f"beams={beams}, length_penalty={length_penalty}",
            fix="such as beams=4, length_penalty=0.6",
        )
    results = []
    for row, prompt in enumerate(prompts):
        own = None if memory is None else memory.take_rows(torch.tensor([row]))
        results.append(
            _search(
                decoder, prompt, own, length=length, beams=beams, penalty=length_penalty, stop=stop
            )
        )
    return results


def _search(
    decoder: Decoder,
    prompt: Sequence[int],
    memory: Memory | None,
    *,
    length: int,
    beams: int,
    penalty: float,
    stop: int | None,
) -> list[Beam]:
    logits, state = read_prompts(decoder, [prompt], memory)
    totals = logits.new_zeros(1, dtype=torch.float64)  # log-probability of each live beam
    live: list[tuple[int, ...]] = [()]
    ended: list[Beam] = []
    for _ in range(length):
        extended = totals[:, None] + logits.double().log_softmax(-1)
        # At most one extension of each beam is its end, so that `beams` others are among these.
        best = extended.flatten().topk(min(2 * beams, extended.numel()))
        rows, tokens = best.indices // logits.shape[1], best.indices % logits.shape[1]
        goes_on = tokens != stop if stop is not None else torch.ones_like(tokens, dtype=torch.bool)
        for place in (~goes_on).nonzero().flatten().tolist():
            sequence = (*live[int(rows[place])], int(tokens[place]))
            ended.append(_beam(sequence, best.values[place].item(), penalty))
        chosen = goes_on.nonzero().flatten()[:beams]
        rows, tokens, totals = rows[chosen], tokens[chosen], best.values[chosen]
        live = [
            (*live[row], token) for row, token in zip(rows.tolist(), tokens.tolist(), strict=True)
        ]
        ended = sorted(ended, key=lambda beam: -beam.score)[:beams]
        if not live or _is_decided(ended, totals, beams=beams, length=length, penalty=penalty):
            return ended
        own = None if memory is None else memory.take_rows(torch.zeros_like(rows))
        logits, state = _advance(decoder, tokens, decoder.reorder(state, rows), memory=own)
    ended += [_beam(one, total, penalty) for one, total in zip(live, totals.tolist(), strict=True)]
    return sorted(ended, key=lambda beam: -beam.score)[:beams]


def _beam(tokens: tuple[int, ...], total: float, penalty: float) -> Beam:
    return Beam(tokens, total, total / _length_factor(len(tokens), penalty))


def _length_factor(length: int, penalty: float) -> float:
    return float(((5 + length) / 6) ** penalty)


def _is_decided(
    ended: Sequence[Beam], totals: Tensor, *, beams: int, length: int, penalty: float
) -> bool:
    """True where no live beam can come among the best: its log-probability only falls."""
    if len(ended) < beams:
        return False
    reachable = totals.max().item() / _length_factor(length, penalty)
    return ended[-1].score >= reachable


@torch.no_grad()
def read_prompts(
    decoder: Decoder, prompts: Prompts, memory: Memory | None = None
) -> tuple[Float[Tensor, "batch token"], State]:
    """The logits behind each prompt, and the state; shorter prompts are padded on the left.

    Long prompts are read in pieces, so that time and memory grow with their length, not with its
    square: a Transformer's mask over all pairs of 16,000 tokens took 3 GiB.
    """
    longest = max(map(len, prompts))
    device = next(decoder.parameters()).device
    tokens = torch.zeros(len(prompts), longest, dtype=torch.int64)
    mask = torch.zeros(len(prompts), longest, dtype=torch.bool)
    for row, prompt in enumerate(prompts):
        tokens[row, longest - len(prompt) :] = torch.tensor(list(prompt))
        mask[row, longest - len(prompt) :] = True
    real = None if bool(mask.all()) else mask.to(device)
    with preserve_modes(decoder):
        decoder.eval()
        state = decoder.initial_state(len(prompts), memory, device)
        size = max(LEAST_PIECE, decoder.context)
        for start in range(0, longest, size):
            piece = slice(start, start + size)
            logits, state = decoder.forward_with_state(
                tokens[:, piece].to(device),
                state,
                memory,
                mask=None if real is None else real[:, piece],
            )
    return logits[:, -1], state


@torch.no_grad()
def _advance(
    decoder: Decoder, tokens: Tensor, state: State, *, memory: Memory | None
) -> tuple[Tensor, State]:
    if not decoder.training:
        return decoder.step(tokens, state, memory)
    with preserve_modes(decoder):
        return decoder.eval().step(tokens, state, memory)


def sampling_distribution(
    logits: Float[Tensor, "batch token"], *, temperature: float, top_k: int = 0, top_p: float = 1.0
) -> Float[Tensor, "batch token"]:
    """The probabilities that tokens are drawn with, float64; 0 for tokens that are left out.

    The likeliest token always stays; of equally likely ones at the border those of lower number.
    """
    shares = (logits.double() / temperature).softmax(-1)
    if top_k or top_p < 1:
        ordered, order = shares.sort(dim=-1, descending=True, stable=True)
        if top_k:
            ordered[:, top_k:] = 0
        before = ordered.cumsum(-1) - ordered  # the probability of likelier tokens
        ordered[before >= top_p * ordered.sum(-1, keepdim=True)] = 0
        shares = torch.zeros_like(shares).scatter(-1, order, ordered)
    return shares / shares.sum(-1, keepdim=True)


def draw_tokens(
    shares: Float[Tensor, "batch token"], draws: Float[Tensor, " batch"]
) -> Int64[Tensor, " batch"]:
    """The token at which the cumulated probability passes each draw, a number in [0, 1)."""
    passed = (shares.cumsum(-1) <= draws[:, None]).sum(-1)
    last = shares.shape[-1] - 1 - (shares.flip(-1) > 0).int().argmax(-1)  # rounding may pass all
    return torch.minimum(passed, last)


def check_prompts(prompts: Prompts, vocabulary_size: int) -> None:
    """Raise UsageError where there is nothing to continue, or a token that the model lacks."""
    for row, prompt in enumerate(prompts):
        if len(prompt) == 0:
            raise UsageError(
                "an empty prompt has nothing to continue",
                seen=f"prompt {row + 1} of {len(prompts)}",
                fix="begin with one token, such as the end of a line",
            )
        strange = [token for token in prompt if not 0 <= token < vocabulary_size]
        if strange:
            raise UsageError(
                f"the model has no token {strange[0]}",
                seen=f"a vocabulary of {vocabulary_size} tokens, from 0",
                fix="encode the prompt with the vocabulary that the model was trained with",
            )
    if not prompts:
        raise UsageError("there is no prompt to continue", fix="one prompt or more")


def check_sampling(*, temperature: float, top_k: int, top_p: float) -> None:
    """Raise UsageError for values that leave no token to draw."""
    if temperature >= 0 and top_k >= 0 and 0 < top_p <= 1:
        return
    raise UsageError(
        "no token can be drawn with these settings",
        seen=f"temperature={temperature}, top_k={top_k}, top_p={top_p}",
        fix="temperature ≥ 0 (0: the likeliest), top_k ≥ 0 (0: all), 0 < top_p ≤ 1",
    )
