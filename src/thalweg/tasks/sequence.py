"""A sequence of tokens to write for each sample: translations, commands, captions."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import log, nan

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from thalweg.errors import UsageError
from thalweg.recipes.recipe import TaskRecipe
from thalweg.tasks.task import (
    Prediction,
    Readout,
    TargetFacts,
    Targets,
    Task,
    TaskType,
    WrittenLabels,
)
from thalweg.tasks.token_losses import (
    IGNORED,
    TOKEN_LOSSES,
    condense,
    cross_entropy,
    perplexity_of,
    predicted_tokens,
)

NAME = "sequence"


def sequence(token_bytes: Sequence[bytes]) -> Task:
    """Cross-entropy in nat a token; `token_bytes` are the bytes of each token, the border's empty.

    A model that knows nothing scores ln V. The exact match is that of greedy writing: a sequence is
    written right if and only if each of its tokens is the likeliest behind the right ones before.
    Raises: UsageError for a vocabulary of the border alone.
    """
    if len(token_bytes) < 2:
        raise UsageError(
            "there is no token to write", seen="a vocabulary of the border alone", fix="other data"
        )
    texts = Texts(tuple(token_bytes))
    return Task(
        name=NAME,
        loss_fn=cross_entropy,
        outputs=len(token_bytes),
        num_classes=len(token_bytes),
        chance_loss=log(len(token_bytes)),
        metrics={
            "exact_match": exact_match,
            "token_accuracy": token_accuracy,
            "perplexity": perplexity,
        },
        headline="exact_match",
        condense=condense,
        condensed_loss=mean_loss,
        predicted=predicted_tokens,
        decode=likeliest_tokens,
        predict=texts.predict,
        read=texts.readout,
    )


def real_tokens(targets: Int[Tensor, "sample token"]) -> Bool[Tensor, "sample token"]:
    """True where there is a token, the end among them."""
    return targets != IGNORED


def mean_loss(
    condensed: Float[Tensor, "sample token 2"], targets: Int[Tensor, "sample token"]
) -> Float[Tensor, ""]:
    """The mean loss of all real tokens, in nat."""
    return condensed[..., 0][real_tokens(targets)].double().mean().float()


def perplexity(
    condensed: Float[Tensor, "sample token 2"], targets: Int[Tensor, "sample token"]
) -> float:
    """e to the mean loss of the real tokens."""
    return perplexity_of(mean_loss(condensed, targets).item())


def token_accuracy(
    condensed: Float[Tensor, "sample token 2"], targets: Int[Tensor, "sample token"]
) -> float:
    """Share of the real tokens that are the likeliest behind the right ones before them."""
    is_right = predicted_tokens(condensed) == targets
    return is_right[real_tokens(targets)].double().mean().item()


def exact_match(
    condensed: Float[Tensor, "sample token 2"], targets: Int[Tensor, "sample token"]
) -> float:
    """Share of the sequences that greedy writing gets right, token for token, the end too."""
    is_right = (predicted_tokens(condensed) == targets) | ~real_tokens(targets)
    return is_right.all(dim=1).double().mean().item()


def likeliest_tokens(
    logits: Float[Tensor, "sample token entry"],
) -> Int[Tensor, "sample token"]:
    """The number of the likeliest token at each place."""
    return logits.argmax(-1)


@dataclass(frozen=True, slots=True)
class Texts:
    """The texts of token numbers."""

    entries: tuple[bytes, ...]

    def text(self, tokens: Sequence[int]) -> str:
        """The text before the first border; bytes that are no character become U+FFFD."""
        parts = []
        for token in tokens:
            if not token or token == IGNORED:
                break
            parts.append(self.entries[token])
        return b"".join(parts).decode(errors="replace").strip()

    def predict(
        self, tokens: Float[Tensor, " token"] | Int[Tensor, " token"], class_names: Sequence[str]
    ) -> Prediction:
        """The text of a row of tokens."""
        return Prediction(self.text([int(token) for token in tokens.tolist()]), 1.0, {}, nan)

    def readout(
        self,
        condensed: Float[Tensor, "sample token 2"],
        targets: Int[Tensor, "sample token"],
        class_names: Sequence[str],
    ) -> Readout:
        """Each target, beside the likeliest token behind the right ones before it."""
        guesses = predicted_tokens(condensed)
        losses = condensed[..., 0].sum(dim=1)
        return Readout(
            [self.text(row) for row in targets.tolist()],
            [self.text(row) for row in guesses.tolist()],
            torch.exp(-losses).tolist(),
            losses.argsort(descending=True).tolist(),
        )


def sequence_targets(labels: WrittenLabels, place: str) -> Targets:
    """The number of each target among the different ones, int64 [n]."""
    return Targets(task=NAME, values=labels.codes)


def build(facts: TargetFacts, recipe: TaskRecipe) -> Task:
    """The task for the vocabulary of the targets."""
    return sequence(facts.token_bytes)


SEQUENCE = TaskType(
    name=NAME,
    answers="sequences",
    targets=sequence_targets,
    losses=TOKEN_LOSSES,
    standard_loss="cross_entropy",
    build=build,
)
