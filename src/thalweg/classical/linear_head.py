"""Fit the best linear head on frozen features: softmax or ridge, with its penalty.

Softmax is warm-started along the penalties, from the strongest on; one decomposition gives ridge at
every penalty. Ridge's scores are not log-probabilities, so one more number is fitted to the
validation data: their scale.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from math import nan

import torch
from jaxtyping import Float, Int64
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy

from thalweg.classical.least_squares import RidgePath, one_hot
from thalweg.classical.linear import linear_classifier, linear_labels
from thalweg.classical.linear_map import LinearMap
from thalweg.classical.moments import moments

SOFTMAX = (1.0, 0.3, 0.1, 0.03, 0.01, 3e-3, 1e-3, 3e-4, 1e-4)  # for features of mean variance 1
RIDGE = tuple(10.0 ** (k / 2) for k in range(-4, 3))  # × the mean eigenvalue of the Gram matrix
TOLERANCE = 1e-4  # of the loss: far below a significant difference on a few hundred samples
PATIENCE = 2  # the path ends after so many weaker penalties without improvement


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """One head with its losses and accuracy on the validation data."""

    kind: str  # "softmax", "sigmoid" or "ridge"
    penalty: float  # in the unit of its kind
    map: LinearMap
    losses: Float[Tensor, " m"]  # of each validation sample: cross-entropy, nats; or squared error
    accuracy: float  # on the validation data; NaN for labels and for values

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
    """Fit every head; return the best first.

    The best is the most accurate of those whose loss is not significantly above the lowest (a mean
    difference within its standard error). Accuracy alone would choose the best of a dozen on a few
    hundred samples by chance; loss alone the most confident, not the most accurate.
    Raises: DataError for a single class and for features that are not finite.
    """
    scaling = _Scaling.of(train[0])
    features, scaled_val = scaling(train[0]), (scaling(val[0]), val[1])
    candidates = _softmax_path((features, train[1]), scaled_val, num_classes=num_classes)
    for penalty, linear_map in _ridge_path(features, one_hot(train[1], num_classes=num_classes)):
        calibrated = _calibrate(linear_map, scaled_val)
        candidates.append(_score("ridge", penalty, calibrated, val=scaled_val))
    return [_unscale(candidate, scaling) for candidate in _rank(candidates)]


def choose_label_heads(
    train: tuple[Float[Tensor, "n d"], Float[Tensor, "n label"]],
    val: tuple[Float[Tensor, "m d"], Float[Tensor, "m label"]],
) -> list[Candidate]:
    """Fit a logistic regression a label, at every penalty; return the lowest loss on val first."""
    scaling = _Scaling.of(train[0])
    features, val_features = scaling(train[0]), scaling(val[0])
    candidates: list[Candidate] = []
    start = None
    for penalty in SOFTMAX:
        start = linear_labels(
            features, train[1], penalty=penalty, tolerance=TOLERANCE, start=start
        ).map
        scores = start(val_features).double()
        losses = binary_cross_entropy_with_logits(scores, val[1].double(), reduction="none").sum(1)
        candidates.append(
            Candidate(kind="sigmoid", penalty=penalty, map=start, losses=losses, accuracy=nan)
        )
        if _ends_path(candidates):
            break
    ranked = sorted(candidates, key=lambda candidate: candidate.val_loss)
    return [_unscale(candidate, scaling) for candidate in ranked]


def choose_regressor(
    train: tuple[Float[Tensor, "n d"], Float[Tensor, "n o"]],
    val: tuple[Float[Tensor, "m d"], Float[Tensor, "m o"]],
) -> list[Candidate]:
    """Fit ridge at every penalty; return the lowest squared error on the validation data first."""
    scaling = _Scaling.of(train[0])
    features, val_features = scaling(train[0]), scaling(val[0])
    candidates = []
    for penalty, linear_map in _ridge_path(features, train[1]):
        losses = (linear_map(val_features) - val[1]).double().square().mean(1)
        candidates.append(
            Candidate(kind="ridge", penalty=penalty, map=linear_map, losses=losses, accuracy=nan)
        )
    ranked = sorted(candidates, key=lambda candidate: candidate.val_loss)
    return [_unscale(candidate, scaling) for candidate in ranked]


@dataclass(frozen=True, slots=True)
class _Scaling:
    """Features about their mean, divided by their mean standard deviation.

    One factor for all preserves which features of the pretrained network vary little.
    """

    mean: Tensor
    scale: float

    @classmethod
    def of(cls, features: Tensor) -> "_Scaling":
        scale = features.var(0, correction=0).mean().sqrt().item()
        return cls(features.mean(0), scale or 1.0)

    def __call__(self, features: Tensor) -> Tensor:
        return (features - self.mean) / self.scale


def _softmax_path(
    train: tuple[Tensor, Tensor], val: tuple[Tensor, Tensor], *, num_classes: int
) -> list[Candidate]:
    """Fit from the strongest penalty on, each from the last, until weaker ones do no better."""
    candidates: list[Candidate] = []
    start = None
    for penalty in SOFTMAX:
        start = linear_classifier(
            *train, num_classes=num_classes, penalty=penalty, tolerance=TOLERANCE, start=start
        ).map
        candidates.append(_score("softmax", penalty, start, val=val))
        if _ends_path(candidates):
            break
    return candidates


def _ends_path(candidates: list[Candidate]) -> bool:
    """Return whether the last few weaker penalties did no better than one before."""
    best = min(range(len(candidates)), key=lambda i: candidates[i].val_loss)
    return len(candidates) - 1 - best >= PATIENCE


def _ridge_path(
    features: Float[Tensor, "n d"], values: Float[Tensor, "n o"]
) -> Iterator[tuple[float, LinearMap]]:
    path = RidgePath.of(moments(features, values))
    scale = path.eigenvalues.mean().item() or 1.0
    for share in RIDGE:
        yield share, path.fit(share * scale).map


def _calibrate(linear_map: LinearMap, val: tuple[Tensor, Tensor]) -> LinearMap:
    """Scale the scores by the factor of lowest cross-entropy."""
    scores = linear_map(val[0]).double()
    factors = torch.logspace(-0.5, 1.5, 41, dtype=torch.float64).tolist()
    factor = min(factors, key=lambda f: cross_entropy(scores * f, val[1]).item())
    return LinearMap(weight=linear_map.weight * factor, bias=linear_map.bias * factor)


def _score(
    kind: str, penalty: float, linear_map: LinearMap, *, val: tuple[Tensor, Tensor]
) -> Candidate:
    scores = linear_map(val[0]).double()
    return Candidate(
        kind=kind,
        penalty=penalty,
        map=linear_map,
        losses=cross_entropy(scores, val[1], reduction="none"),
        accuracy=(scores.argmax(1) == val[1]).double().mean().item(),
    )


def _rank(candidates: list[Candidate]) -> list[Candidate]:
    """Sort by loss, with the best first."""
    by_loss = sorted(candidates, key=lambda candidate: candidate.val_loss)
    least = by_loss[0]

    def is_as_good(candidate: Candidate) -> bool:
        difference = candidate.losses - least.losses
        error = difference.std(correction=0) / len(difference) ** 0.5
        return bool(difference.mean() <= error)

    best = max(filter(is_as_good, by_loss), key=lambda candidate: candidate.accuracy)
    return [best, *(candidate for candidate in by_loss if candidate is not best)]


def _unscale(candidate: Candidate, scaling: _Scaling) -> Candidate:
    """Convert the head to features without scaling."""
    weight = candidate.map.weight.double() / scaling.scale
    bias = candidate.map.bias.double() - scaling.mean.double() @ weight
    return replace(candidate, map=LinearMap(weight=weight.float(), bias=bias.float()))
