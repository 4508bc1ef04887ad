"""A sequence of tokens to write for each sample: translations, commands, captions."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import exp, log, nan

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

from thalweg.errors import UsageError
from thalweg.recipes.recipe import TaskRecipe
from thalweg.registry import Registry
from thalweg.tasks.task import (
    Prediction,
    Readout,
    TargetFacts,
    Targets,
    Task,
    TaskType,
    WrittenLabels,
)

NAME = "sequence"
IGNORED = -100  # the target at padding


def cross_entropy(
    logits: Float[Tensor, "sample token entry"], targets: Int[Tensor, "sample token"]
) -> Float[Tensor, ""]:
    """The mean over real tokens, the end among them, of −log of their probability, in nat."""
    return F.cross_entropy(logits.flatten(0, 1), targets.flatten(), ignore_index=IGNORED)


SEQUENCE_LOSSES: Registry[Callable[..., Tensor]] = Registry("loss", (cross_entropy,))


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


def condense(
    logits: Float[Tensor, "sample token entry"], targets: Int[Tensor, "sample token"]
) -> Float[Tensor, "sample token 2"]:
    """The loss of each token in nat, 0 at padding, and the number of the likeliest one."""
    rows = logits.flatten(0, 1).float()
    losses = F.cross_entropy(rows, targets.flatten(), ignore_index=IGNORED, reduction="none")
    pairs = torch.stack((losses, rows.argmax(dim=1).float()), dim=1)
    return pairs.unflatten(0, targets.shape)


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
    """e to the mean loss: a model that chooses among so many tokens at random is as unsure."""
    loss = mean_loss(condensed, targets).item()
    return exp(min(loss, 700.0)) if loss == loss else nan


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


def predicted_tokens(condensed: Float[Tensor, "sample token 2"]) -> Int[Tensor, "sample token"]:
    """The number of the likeliest token at each place."""
    return condensed[..., 1].long()


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
    losses=SEQUENCE_LOSSES,
    standard_loss="cross_entropy",
    build=build,
)
