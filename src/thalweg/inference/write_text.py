"""Write text with a trained language model: a prompt → the text that follows, piece by piece."""

import codecs
from collections.abc import Iterator
from dataclasses import dataclass

import torch

from thalweg.data.text.vocabulary import Vocabulary
from thalweg.errors import UsageError
from thalweg.inference.generate import beam_search, generate
from thalweg.inference.saved_model import SavedModel
from thalweg.models.sequences.decoder import Decoder

LONGEST = 100_000  # tokens
MOST_BEAMS = 64
TEMPERATURE = 0.8  # unless another is asked for
START = "\n"  # the prompt where there is none: what stands before a line


@dataclass(frozen=True, slots=True, kw_only=True)
class Writing:
    """The settings by which tokens are chosen."""

    length: int = 500  # tokens
    temperature: float = TEMPERATURE  # 0 takes the likeliest
    top_k: int = 0  # of the likeliest tokens; 0: of all
    top_p: float = 1.0  # of the likeliest tokens that together have this probability
    seed: int = 0
    greedy: bool = False  # the likeliest token at each place
    beams: int = 1  # more than 1: the likeliest text that a search of so many finds

    def check(self) -> None:
        """Raise UsageError for an impossible value, or two settings that exclude each other."""
        bounds = (
            ("length", self.length, 1 <= self.length <= LONGEST, f"1 to {LONGEST:,} tokens"),
            ("temperature", self.temperature, 0 <= self.temperature <= 100, "0 to 100, as 0.8"),
            ("top_k", self.top_k, self.top_k >= 0, "a number of tokens, or 0 for all"),
            ("top_p", self.top_p, 0 < self.top_p <= 1, "above 0 and up to 1, as 0.9"),
            ("beams", self.beams, 1 <= self.beams <= MOST_BEAMS, f"1 to {MOST_BEAMS}"),
        )
        for name, value, is_valid, fix in bounds:
            if not is_valid:
                raise UsageError(f"{name} cannot be {value}", fix=fix)
        if self.greedy and self.beams > 1:
            raise UsageError("greedy is one beam", seen=f"beams {self.beams}", fix="leave one out")
        if self.greedy and self.temperature not in (0, TEMPERATURE):
            raise UsageError(
                "greedy takes the likeliest token, at any temperature",
                seen=f"temperature {self.temperature}",
                fix="leave one out",
            )


def write_text(model: SavedModel, prompt: str, writing: Writing) -> Iterator[str]:
    """Yield the text after the prompt, as it is written.

    Raises: UsageError for a model that writes no text, or an impossible value; DataError for a
    prompt with unknown characters.
    """
    vocabulary = model.spec.modality.vocabulary(model.spec.preprocessing)
    decoder = model.module
    if vocabulary is None or not isinstance(decoder, Decoder):
        raise UsageError(
            "this model writes no text",
            seen=f"its samples are {model.spec.modality.noun}s",
            fix="thalweg predict RUN FILE…, or a run that was trained on a .txt file",
        )
    writing.check()
    return continuation(decoder, vocabulary, prompt, writing=writing)


def continuation(
    decoder: Decoder, vocabulary: Vocabulary, prompt: str, *, writing: Writing
) -> Iterator[str]:
    """Yield the text after the prompt; the decoder's mode is as before.

    Raises, at once: DataError for a prompt with unknown characters.
    """
    tokens = vocabulary.encode(prompt or _start(vocabulary)).tolist()
    return _pieces(decoder, vocabulary, tokens, writing=writing)


@torch.inference_mode()
def _pieces(
    decoder: Decoder, vocabulary: Vocabulary, prompt: list[int], *, writing: Writing
) -> Iterator[str]:
    """The text of tokens; bytes that end within a character wait for the rest of it."""
    utf8 = codecs.getincrementaldecoder("utf-8")(errors="replace")
    for token in _tokens(decoder, prompt, writing):
        if piece := utf8.decode(vocabulary.token_bytes[token]):
            yield piece
    if rest := utf8.decode(b"", final=True):
        yield rest


def _start(vocabulary: Vocabulary) -> str:
    """A line break, or the first token of a vocabulary that has none."""
    return START if START.encode() in vocabulary.token_bytes else vocabulary.decode([0])


def _tokens(decoder: Decoder, prompt: list[int], writing: Writing) -> Iterator[int]:
    if writing.beams > 1:
        ((best, *_),) = beam_search(decoder, [prompt], length=writing.length, beams=writing.beams)
        yield from best.tokens
        return
    for column in generate(
        decoder,
        [prompt],
        length=writing.length,
        temperature=0.0 if writing.greedy else writing.temperature,
        top_k=writing.top_k,
        top_p=writing.top_p,
        seed=writing.seed,
    ):
        yield int(column[0])
