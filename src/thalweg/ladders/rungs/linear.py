"""The linear rungs: softmax and support vectors, on raw inputs or on features that were made."""

from collections.abc import Callable, Sequence
from functools import partial

from torch import Tensor

from thalweg.classical import LinearFit, LinearMap, linear_classifier
from thalweg.classical.checks import check_penalty
from thalweg.classical.linear import Loss
from thalweg.ladders.rung import RungMaker, classes_only, classified_images_only
from thalweg.ladders.samples import JUDGED_TRAIN, Climbed, Ground

ROUGH, FINE = 1e-3, 1e-4  # tolerances: to choose a penalty by, and for the fit itself


def climb_inputs(ground: Ground, *, loss: Loss, penalties: Sequence[float]) -> Climbed:
    inputs = ground.train, ground.val
    return fitted(ground, inputs, loss=loss, penalties=penalties, scale=ground.unit)


def climb_features(ground: Ground) -> Climbed:
    return fitted(ground, ground.features, loss="softmax", penalties=(1e-4, 1e-3, 1e-2))


def fitted(
    ground: Ground,
    vectors: tuple[Tensor, Tensor],
    *,
    loss: Loss,
    penalties: Sequence[float],
    scale: float = 1.0,
) -> Climbed:
    """The classifier of all training samples, at the penalty that is best inside them."""
    train, val = vectors
    targets, fixed = ground.targets("train"), ground.wishes.penalty
    fit = partial(linear_classifier, num_classes=ground.facts.num_classes, loss=loss)
    if fixed is not None:
        check_penalty(fixed)
        best, start, chosen = fixed, None, f"λ = {fixed:g}"
    else:
        best, start = _chosen(ground, train, fit, choices=[scale * p for p in penalties])
        best, chosen = best / scale, f"λ = {best / scale:g} by a held-out fifth"
    found = fit(train, targets, penalty=best * scale, start=start, tolerance=FINE)
    some = slice(JUDGED_TRAIN)
    return Climbed(
        found.map.predict(val),
        ground.score(found.map.predict(train[some]), targets[some]),
        parameters=found.map.weight.numel() + found.map.bias.numel(),
        chosen=chosen if found.converged else f"{chosen}, not converged",
    )


def _chosen(
    ground: Ground, train: Tensor, fit: Callable[..., LinearFit], *, choices: Sequence[float]
) -> tuple[float, LinearMap]:
    """The penalty of best accuracy on training samples that were held out, and its solution."""
    rows, judge = (part.to(train.device) for part in ground.choosing)
    targets = ground.targets("train")
    found: dict[float, tuple[float, LinearMap]] = {}
    start: LinearMap | None = None
    for penalty in sorted(choices, reverse=True):
        solved = fit(train[rows], targets[rows], penalty=penalty, start=start, tolerance=ROUGH)
        start = solved.map
        found[penalty] = ground.score(start.predict(train[judge]), targets[judge]), start
    best = max(found, key=lambda penalty: found[penalty][0])
    return best, found[best][1]


SOFTMAX = RungMaker(
    name="softmax",
    title="softmax",
    kind="linear",
    climb=partial(climb_inputs, loss="softmax", penalties=(1e-4, 1e-3, 1e-2)),
    unfit=classes_only,
)
SVM = RungMaker(
    name="svm",
    title="linear SVM",
    kind="linear",
    climb=partial(climb_inputs, loss="svm", penalties=(1e-2, 1e-1)),
    unfit=classes_only,
)
HOG_SOFTMAX = RungMaker(
    name="hog-softmax",
    title="HOG + hue, softmax",
    kind="features",
    climb=climb_features,
    unfit=classified_images_only,
)
