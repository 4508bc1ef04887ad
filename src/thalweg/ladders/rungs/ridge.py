"""The linear rung in closed form: least squares, on one-hot targets for classes."""

from time import perf_counter
from typing import NamedTuple

import torch
from torch import Tensor

from thalweg.classical import LinearMap, choose_by_gcv, least_squares, moments, one_hot
from thalweg.classical.checks import check_penalty
from thalweg.ladders.ladder_data import TRAIN_SCORE_SAMPLES, LadderData
from thalweg.ladders.rung import RungMaker, RungResult, equal_lengths_only

MAX_FEATURES_FOR_GCV = 4_096  # their products fit in memory: 128 MiB
PRODUCT = 512  # rows of the matrices that are timed
EIGENVECTORS = 14.0  # operations × dim³ at the speed of a product, of 512 to 2,048 features
SOLUTION = 2.0  # likewise of a system of equations
SHARES = (1e-4, 1e-3, 1e-2, 0.1, 1.0)  # of the inputs' mean square: λ tried by holding out


class _RidgeFit(NamedTuple):
    map: LinearMap
    chosen: str


def fit_ridge(data: LadderData) -> RungResult:
    """Fit the map and score it. Raises: TooLongError, before or between the parts of the work."""
    classes_or_values = data.targets("train")
    targets = _regression_targets(data, classes_or_values)
    fit = (
        _fit_with_chosen_penalty(data, targets)
        if data.options.penalty is None
        else _fit_with_penalty(data, targets, data.options.penalty)
    )
    sample = slice(TRAIN_SCORE_SAMPLES)
    train_predictions = _predictions(data, fit.map, data.train_inputs[sample])
    return RungResult(
        _predictions(data, fit.map, data.val_inputs),
        data.score(train_predictions, classes_or_values[sample]),
        parameters=fit.map.weight.numel() + fit.map.bias.numel(),
        chosen=fit.chosen,
    )


def _regression_targets(data: LadderData, targets: Tensor) -> Tensor:
    if data.is_classification:
        return one_hot(targets, num_classes=data.facts.num_classes)
    return targets[:, None]


def _predictions(data: LadderData, linear_map: LinearMap, inputs: Tensor) -> Tensor:
    return linear_map.predict(inputs) if data.is_classification else linear_map(inputs)[:, 0]


def _fit_with_penalty(data: LadderData, targets: Tensor, penalty: float) -> _RidgeFit:
    check_penalty(penalty)
    scaled = penalty * data.penalty_scale * len(targets)
    data.check_seconds(_solve_seconds(data.train_inputs))
    fit = least_squares(data.train_inputs, targets, penalty=scaled)
    return _RidgeFit(fit.map, f"λ = {penalty:g}")


def _fit_with_chosen_penalty(data: LadderData, targets: Tensor) -> _RidgeFit:
    """Choose λ by generalised cross-validation, or by a held-out fifth where that misleads.

    With about as many features as samples its numerator and denominator both vanish.
    """
    inputs = data.train_inputs
    if inputs.shape[1] <= MAX_FEATURES_FOR_GCV and len(inputs) > 2 * inputs.shape[1]:
        rotation = EIGENVECTORS * inputs.shape[1] ** 3 / _operations_per_second(inputs.device)
        data.check_seconds(rotation)
        sums = moments(inputs, targets, check=data.check_time)
        data.check_seconds(rotation)
        fit = choose_by_gcv(sums).fit
        return _RidgeFit(
            fit.map, f"λ = {fit.penalty / len(targets) / data.penalty_scale:.2g} by GCV"
        )
    fit_rows, val_rows = data.tuning_split
    one = _solve_seconds(inputs)
    data.check_seconds(one * (1 + len(SHARES) * (len(fit_rows) / len(inputs)) ** 2))
    scale = inputs[val_rows].float().square().mean().item() * inputs.shape[1]
    val_targets = data.targets("train")[val_rows]
    scores = {}
    for penalty in (share * scale for share in SHARES):
        data.check_time()
        fit = least_squares(inputs[fit_rows], targets[fit_rows], penalty=penalty * len(fit_rows))
        scores[penalty] = data.score(_predictions(data, fit.map, inputs[val_rows]), val_targets)
    data.check_seconds(one)
    best = max(scores, key=lambda penalty: scores[penalty])
    best_map = least_squares(inputs, targets, penalty=best * len(targets)).map
    return _RidgeFit(best_map, f"λ = {best / data.penalty_scale:.2g} by a held-out fifth")


def _solve_seconds(inputs: Tensor) -> float:
    """Estimate the time of one least-squares solution: by samples or features, the fewer."""
    fewer, more = sorted(inputs.shape)
    operations = 2.0 * fewer**2 * more + SOLUTION * fewer**3
    return operations / _operations_per_second(inputs.device)


def _operations_per_second(device: torch.device) -> float:
    """Time a product of float64 matrices."""
    square = torch.rand(PRODUCT, PRODUCT, dtype=torch.float64, device=device)
    (square @ square)[0, 0].item()  # warms up, and waits for the device
    start = perf_counter()
    (square @ square)[0, 0].item()
    return 2.0 * PRODUCT**3 / (perf_counter() - start)


RUNG = RungMaker(
    name="ridge", title="ridge", kind="linear", run=fit_ridge, unfit_reason=equal_lengths_only
)
