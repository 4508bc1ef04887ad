"""The linear head that does best on validation data: softmax or ridge, with its penalty.

What transfer fits on frozen features. Softmax is warm-started along the penalties, from the
strongest on; all of ridge's come from one decomposition. Ridge's scores say nothing about
probabilities, so their scale, one number, is fitted too, on the validation data.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from math import nan

import torch
from jaxtyping import Float, Int64
from torch import Tensor
from torch.nn.functional import cross_entropy

from thalweg.classical.least_squares import RidgePath, one_hot
from thalweg.classical.linear import linear_classifier
from thalweg.classical.linear_map import LinearMap
from thalweg.classical.moments import moments

SOFTMAX = (1.0, 0.3, 0.1, 0.03, 0.01, 3e-3, 1e-3, 3e-4, 1e-4)  # for features of mean variance 1
RIDGE = tuple(10.0 ** (k / 2) for k in range(-4, 3))  # × the mean eigenvalue of the Gram matrix
TOLERANCE = 1e-4  # of the loss: far below what tells two heads apart on a few hundred samples
PATIENCE = 2  # weaker penalties in a row that did no better end the path


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """One head, and how it does on the validation data."""

    kind: str  # "softmax" or "ridge"
    penalty: float  # in the unit of its kind
    map: LinearMap
    losses: Float[Tensor, " m"]  # of each validation sample: cross-entropy, nats; or squared error
    accuracy: float  # on the validation data; NaN for a regression

    @property
    def val_loss(self) -> float:
        return self.losses.mean().item()

    def __str__(self) -> str:
        return f"{self.kind}, penalty {self.penalty:.2g}"


def choose_classifier(
    train: tuple[Float[Tensor, "n d"], Int64[Tensor, " n"]],
    val: tuple[Float[Tensor, "m d"], Int64[Tensor, " m"]],
    *,
    num_classes: int,
) -> list[Candidate]:
    """Every head that was tried, the chosen one first.

    It is the most accurate of those whose loss the validation data cannot tell from the lowest
    (a mean difference within its standard error). By accuracy alone, the best of a dozen on a few
    hundred samples would be best by chance; by loss alone, the surest, not the most often right.
    Raises: DataError for one class, for features that are not finite.
    """
    frame = _Frame.of(train[0])
    features, tests = frame(train[0]), frame(val[0])
    found = _softmax_path((features, train[1]), (tests, val[1]), num_classes=num_classes)
    for penalty, fitted in _ridges(features, one_hot(train[1], num_classes=num_classes)):
        calibrated = _calibrated(fitted, (tests, val[1]))
        found.append(_judged("ridge", penalty, calibrated, val=(tests, val[1])))
    return [_outside(candidate, frame) for candidate in _ranked(found)]


def choose_regressor(
    train: tuple[Float[Tensor, "n d"], Float[Tensor, "n o"]],
    val: tuple[Float[Tensor, "m d"], Float[Tensor, "m o"]],
) -> list[Candidate]:
    """Ridge at every penalty, the one of lowest squared error on the validation data first."""
    frame = _Frame.of(train[0])
    features, tests = frame(train[0]), frame(val[0])
    found = []
    for penalty, fitted in _ridges(features, train[1]):
        losses = (fitted(tests) - val[1]).double().square().mean(1)
        found.append(
            Candidate(kind="ridge", penalty=penalty, map=fitted, losses=losses, accuracy=nan)
        )
    ranked = sorted(found, key=lambda candidate: candidate.val_loss)
    return [_outside(candidate, frame) for candidate in ranked]


@dataclass(frozen=True, slots=True)
class _Frame:
    """Features about their mean, in the unit of their mean standard deviation: one factor for all,
    so that what varies little in the pretrained network goes on counting little."""

    mean: Tensor
    scale: float

    @classmethod
    def of(cls, features: Tensor) -> "_Frame":
        scale = features.var(0, correction=0).mean().sqrt().item()
        return cls(features.mean(0), scale or 1.0)

    def __call__(self, features: Tensor) -> Tensor:
        return (features - self.mean) / self.scale


def _softmax_path(
    train: tuple[Tensor, Tensor], val: tuple[Tensor, Tensor], *, num_classes: int
) -> list[Candidate]:
    """From the strongest penalty on, each from the last, until weaker ones do no better."""
    found: list[Candidate] = []
    start = None
    for penalty in SOFTMAX:
        fitted = linear_classifier(
            *train, num_classes=num_classes, penalty=penalty, tolerance=TOLERANCE, start=start
        )
        start = fitted.map
        found.append(_judged("softmax", penalty, start, val=val))
        best = min(range(len(found)), key=lambda i: found[i].val_loss)
        if len(found) - 1 - best >= PATIENCE:
            break
    return found


def _ridges(
    features: Float[Tensor, "n d"], values: Float[Tensor, "n o"]
) -> Iterator[tuple[float, LinearMap]]:
    path = RidgePath.of(moments(features, values))
    size = path.values.mean().item() or 1.0
    for share in RIDGE:
        yield share, path.fit(share * size).map


def _calibrated(fitted: LinearMap, val: tuple[Tensor, Tensor]) -> LinearMap:
    """The scores times the factor that makes the best probabilities of them."""
    scores = fitted(val[0]).double()
    factors = torch.logspace(-0.5, 1.5, 41, dtype=torch.float64).tolist()
    factor = min(factors, key=lambda f: cross_entropy(scores * f, val[1]).item())
    return LinearMap(weight=fitted.weight * factor, bias=fitted.bias * factor)


def _judged(
    kind: str, penalty: float, fitted: LinearMap, *, val: tuple[Tensor, Tensor]
) -> Candidate:
    scores = fitted(val[0]).double()
    return Candidate(
        kind=kind,
        penalty=penalty,
        map=fitted,
        losses=cross_entropy(scores, val[1], reduction="none"),
        accuracy=(scores.argmax(1) == val[1]).double().mean().item(),
    )


def _ranked(found: list[Candidate]) -> list[Candidate]:
    """The chosen one, then the others by loss."""
    by_loss = sorted(found, key=lambda candidate: candidate.val_loss)
    least = by_loss[0]

    def is_as_good(candidate: Candidate) -> bool:
        difference = candidate.losses - least.losses
        error = difference.std(correction=0) / len(difference) ** 0.5
        return bool(difference.mean() <= error)

    chosen = max(filter(is_as_good, by_loss), key=lambda candidate: candidate.accuracy)
    return [chosen, *(candidate for candidate in by_loss if candidate is not chosen)]


def _outside(candidate: Candidate, frame: _Frame) -> Candidate:
    """The same head on features as they come."""
    weight = candidate.map.weight.double() / frame.scale
    bias = candidate.map.bias.double() - frame.mean.double() @ weight
    return replace(candidate, map=LinearMap(weight=weight.float(), bias=bias.float()))
