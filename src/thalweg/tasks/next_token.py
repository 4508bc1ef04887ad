"""The token after each token of a text: a language model."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import log, nan

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from thalweg.errors import UsageError
from thalweg.recipes.recipe import TaskRecipe
from thalweg.tasks.task import (
    Labels,
    Prediction,
    Readout,
    TargetFacts,
    Targets,
    Task,
    TaskType,
)
from thalweg.tasks.text_baselines import text_baselines
from thalweg.tasks.token_losses import (
    TOKEN_LOSSES,
    condense,
    cross_entropy,
    perplexity_of,
    predicted_tokens,
)

NAME = "next-token"
LIKELIEST = 5  # tokens of a prediction
SHOWN = 64  # tokens of a window beside their targets


def next_token(token_bytes: Sequence[bytes]) -> Task:
    """Cross-entropy in nat a token; `token_bytes` are the bytes of each token of the vocabulary.

    A model that knows nothing scores ln V. Bits per byte compare models of different vocabularies.
    Raises: UsageError for fewer than two tokens.
    """
    if len(token_bytes) < 2:
        raise UsageError(
            "a text of one token has nothing to predict",
            seen=f"{len(token_bytes)} different tokens",
            fix="another text",
        )
    tokens = Tokens(tuple(token_bytes))
    return Task(
        name=NAME,
        loss_fn=cross_entropy,
        outputs=len(token_bytes),
        num_classes=len(token_bytes),
        chance_loss=log(len(token_bytes)),
        metrics={
            "bits_per_byte": tokens.bits_per_byte,
            "perplexity": perplexity,
            "token_accuracy": token_accuracy,
        },
        headline="loss",
        lower_is_better=True,
        condense=condense,
        condensed_loss=mean_loss,
        predicted=predicted_tokens,
        decode=last_probabilities,
        predict=tokens.predict,
        read=tokens.readout,
    )


def mean_loss(
    condensed: Float[Tensor, "window token 2"], targets: Int[Tensor, "window token"]
) -> Float[Tensor, ""]:
    """The mean loss of all tokens, in nat."""
    return condensed[..., 0].double().mean().float()


def perplexity(
    condensed: Float[Tensor, "window token 2"], targets: Int[Tensor, "window token"]
) -> float:
    """e to the mean loss."""
    return perplexity_of(condensed[..., 0].double().mean().item())


def token_accuracy(
    condensed: Float[Tensor, "window token 2"], targets: Int[Tensor, "window token"]
) -> float:
    """Share of the tokens that are the likeliest by the model."""
    return (predicted_tokens(condensed) == targets).double().mean().item()


def last_probabilities(
    logits: Float[Tensor, "window token entry"],
) -> Float[Tensor, "window entry"]:
    """The probability of each token after the last of a window."""
    return logits[:, -1].float().softmax(dim=1)


@dataclass(frozen=True)  # without slots, so that what is derived can be cached
class Tokens:
    """The tokens of a vocabulary, by number."""

    entries: tuple[bytes, ...]

    @cached_property
    def _lengths(self) -> Tensor:
        return torch.tensor([len(entry) for entry in self.entries])

    def bits_per_byte(
        self, condensed: Float[Tensor, "window token 2"], targets: Int[Tensor, "window token"]
    ) -> float:
        """The loss of all tokens in bits, divided by their bytes: the same for any vocabulary."""
        total = condensed[..., 0].double().sum().item()
        num_bytes = int(self._lengths.to(targets.device)[targets].sum())
        return total / log(2) / num_bytes if num_bytes else nan

    def text(self, tokens: Sequence[int]) -> str:
        """The text of tokens; bytes that are no character become U+FFFD."""
        return b"".join(self.entries[token] for token in tokens).decode(errors="replace")

    def predict(
        self, probabilities: Float[Tensor, " entry"], class_names: Sequence[str]
    ) -> Prediction:
        """The likeliest token, in quotes, with the probabilities of the likeliest few."""
        shares, places = probabilities.topk(min(LIKELIEST, len(probabilities)))
        names = [repr(self.text([place])) for place in places.tolist()]
        named = dict(zip(reversed(names), reversed(shares.tolist()), strict=True))
        return Prediction(names[0], shares[0].item(), named, nan)

    def readout(
        self,
        condensed: Float[Tensor, "window token 2"],
        targets: Int[Tensor, "window token"],
        class_names: Sequence[str],
    ) -> Readout:
        """The beginning of each window, beside the likeliest token at each of its places."""
        shown, guesses = targets[:, :SHOWN], predicted_tokens(condensed)[:, :SHOWN]
        worst = condensed[..., 0].mean(dim=1).argsort(descending=True)
        return Readout(
            [self.text(row) for row in shown.tolist()],
            [self.text(row) for row in guesses.tolist()],
            [nan] * len(targets),
            worst.tolist(),
        )


def token_targets(labels: Labels | np.ndarray, place: str) -> Targets | None:
    """The tokens that follow, int64 [window, token]; None for anything else."""
    if not isinstance(labels, np.ndarray) or labels.ndim != 2 or labels.dtype.kind != "i":
        return None
    return Targets(task=NAME, values=labels)


def baselines(
    facts: TargetFacts, train: Int[np.ndarray, "n token"], val: Int[np.ndarray, "m token"]
) -> Mapping[str, float]:
    """The loss of counting tokens, of counting triples and of gzip, in nat a token."""
    return text_baselines(train.reshape(-1), val.reshape(-1), token_bytes=facts.token_bytes)


def build(facts: TargetFacts, recipe: TaskRecipe) -> Task:
    """The task for the vocabulary of the text."""
    return next_token(facts.token_bytes)


NEXT_TOKEN = TaskType(
    name=NAME,
    answers="tokens",
    targets=token_targets,
    losses=TOKEN_LOSSES,
    standard_loss="cross_entropy",
    build=build,
    baselines=baselines,
)
