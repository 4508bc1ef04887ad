"""The linear rungs: softmax and support vectors, on raw inputs or on extracted features."""

from collections.abc import Callable, Sequence
from functools import partial

from torch import Tensor

from thalweg.classical import LinearFit, LinearMap, linear_classifier
from thalweg.classical.checks import check_penalty
from thalweg.classical.linear import Loss
from thalweg.ladders.ladder_data import TRAIN_SCORE_SAMPLES, LadderData
from thalweg.ladders.rung import RungMaker, RungResult, classes_only, classified_images_only

ROUGH, FINE = 1e-3, 1e-4  # tolerances: to choose a penalty by, and for the fit itself


def fit_inputs(data: LadderData, *, loss: Loss, penalties: Sequence[float]) -> RungResult:
    inputs = data.train_inputs, data.val_inputs
    return fit_classifier(data, inputs, loss=loss, penalties=penalties, scale=data.penalty_scale)


def fit_features(data: LadderData) -> RungResult:
    return fit_classifier(data, data.features, loss="softmax", penalties=(1e-4, 1e-3, 1e-2))


def fit_classifier(
    data: LadderData,
    vectors: tuple[Tensor, Tensor],
    *,
    loss: Loss,
    penalties: Sequence[float],
    scale: float = 1.0,
) -> RungResult:
    """Fit all training samples, at the penalty that is best on a held-out part of them."""
    train, val = vectors
    targets, fixed = data.targets("train"), data.options.penalty
    fit = partial(
        linear_classifier,
        num_classes=data.facts.num_classes,
        loss=loss,
        check=data.check_time,
    )
    if fixed is not None:
        check_penalty(fixed)
        best, start, chosen = fixed, None, f"λ = {fixed:g}"
    else:
        best, start = _best_penalty(data, train, fit, penalties=[scale * p for p in penalties])
        best, chosen = best / scale, f"λ = {best / scale:g} by a held-out fifth"
    solution = fit(train, targets, penalty=best * scale, start=start, tolerance=FINE)
    sample = slice(TRAIN_SCORE_SAMPLES)
    return RungResult(
        solution.map.predict(val),
        data.score(solution.map.predict(train[sample]), targets[sample]),
        parameters=solution.map.weight.numel() + solution.map.bias.numel(),
        chosen=chosen if solution.converged else f"{chosen}, not converged",
    )


def _best_penalty(
    data: LadderData, train: Tensor, fit: Callable[..., LinearFit], *, penalties: Sequence[float]
) -> tuple[float, LinearMap]:
    """The penalty of best accuracy on held-out training samples, and its solution."""
    fit_rows, val_rows = (rows.to(train.device) for rows in data.tuning_split)
    targets = data.targets("train")
    solutions: dict[float, tuple[float, LinearMap]] = {}
    start: LinearMap | None = None
    for penalty in sorted(penalties, reverse=True):
        start = fit(
            train[fit_rows], targets[fit_rows], penalty=penalty, start=start, tolerance=ROUGH
        ).map
        solutions[penalty] = data.score(start.predict(train[val_rows]), targets[val_rows]), start
    best = max(solutions, key=lambda penalty: solutions[penalty][0])
    return best, solutions[best][1]


SOFTMAX = RungMaker(
    name="softmax",
    title="softmax",
    kind="linear",
    run=partial(fit_inputs, loss="softmax", penalties=(1e-4, 1e-3, 1e-2)),
    unfit_reason=classes_only,
)
SVM = RungMaker(
    name="svm",
    title="linear SVM",
    kind="linear",
    run=partial(fit_inputs, loss="svm", penalties=(1e-2, 1e-1)),
    unfit_reason=classes_only,
)
HOG_SOFTMAX = RungMaker(
    name="hog-softmax",
    title="HOG + hue, softmax",
    kind="features",
    run=fit_features,
    unfit_reason=classified_images_only,
)
