"""Write a sequence for each sample with a trained encoder–decoder: greedy, or by beam search."""

from collections.abc import Callable, Mapping, Sequence
from math import exp, nan
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from thalweg.borrow import preserve_modes
from thalweg.data.text.bordered import BORDER
from thalweg.errors import UsageError
from thalweg.inference.generate import beam_search, generate
from thalweg.models.sequences.encoder_decoder import EncoderDecoder
from thalweg.models.sequences.memory import Memory
from thalweg.tasks.task import Prediction

MOST_BEAMS = 64
LENGTH_FACTOR, LENGTH_MORE = 2, 8  # tokens: what is written may be longer than any target


class Written(NamedTuple):
    """A sequence that the network has written."""

    tokens: tuple[int, ...]  # the border at its end included, unless it was cut
    log_probability: float  # nats, of all its tokens


def check_beams(beams: int) -> None:
    """Raise UsageError for an impossible number of beams."""
    if not 1 <= beams <= MOST_BEAMS:
        raise UsageError(f"beams cannot be {beams}", fix=f"1 to {MOST_BEAMS}; 1 is greedy")


@torch.inference_mode()
def write_sequences(
    model: EncoderDecoder, sources: Mapping[str, Tensor], *, beams: int = 1
) -> list[list[Written]]:
    """The sequences written for each sample, best first; as many as there are beams.

    They are at most `LENGTH_FACTOR` times as long as the longest target. Modes are restored.
    """
    check_beams(beams)
    length = LENGTH_FACTOR * model.longest + LENGTH_MORE
    with preserve_modes(model):
        model.eval()
        memory = model.encode(sources)
        rows = len(memory.tokens)
        if beams == 1:
            return [[one] for one in _greedy(model, memory, length=length)]
        results = beam_search(
            model.decoder, [[BORDER]] * rows, length=length, beams=beams, stop=BORDER, memory=memory
        )
    return [[Written(beam.tokens, beam.log_probability) for beam in row] for row in results]


def _greedy(model: EncoderDecoder, memory: Memory, *, length: int) -> list[Written]:
    rows = len(memory.tokens)
    columns = generate(
        model.decoder,
        [[BORDER]] * rows,
        length=length,
        temperature=0.0,
        stop=BORDER,
        memory=memory,
    )
    tokens = torch.stack(list(columns), dim=1)
    first = tokens.new_full((rows, 1), BORDER)
    logits = model.decoder(torch.cat((first, tokens[:, :-1]), dim=1), memory)
    shares = logits.double().log_softmax(-1).gather(2, tokens[..., None])[..., 0]
    return [_cut(row, own) for row, own in zip(tokens.tolist(), shares.cpu(), strict=True)]


def _cut(tokens: list[int], shares: Float[Tensor, " token"]) -> Written:
    """The tokens up to the first border, and their probability."""
    end = tokens.index(BORDER) + 1 if BORDER in tokens else len(tokens)
    return Written(tuple(tokens[:end]), float(shares[:end].sum()))


def written_prediction(
    written: Sequence[Written], text_of: Callable[[Sequence[int]], str]
) -> Prediction:
    """The best text with its probability, and those of the others."""
    shares = {text_of(one.tokens): exp(one.log_probability) for one in reversed(written)}
    best = text_of(written[0].tokens)
    return Prediction(best, shares[best], shares, nan)
