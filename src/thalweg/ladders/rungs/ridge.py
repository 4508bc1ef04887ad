"""The linear rung in closed form: squared errors, on one-hot targets where they are classes."""

from typing import NamedTuple

from torch import Tensor

from thalweg.classical import LinearMap, choose_by_gcv, least_squares, moments, one_hot
from thalweg.classical.checks import check_penalty
from thalweg.ladders.rung import RungMaker
from thalweg.ladders.samples import JUDGED_TRAIN, Climbed, Ground

WIDEST = 4_096  # features up to which their products fit in memory: 128 MiB
SHARES = (1e-4, 1e-3, 1e-2, 0.1, 1.0)  # of the inputs' mean square: λ tried by holding out


class _Fit(NamedTuple):
    map: LinearMap
    chosen: str


def climb(ground: Ground) -> Climbed:
    targets = ground.targets("train")
    wanted = _wanted(ground, targets)
    fit = _fixed(ground, wanted) if ground.wishes.penalty is not None else _chosen(ground, wanted)
    some = slice(JUDGED_TRAIN)
    return Climbed(
        _answers(ground, fit.map, ground.val),
        ground.score(_answers(ground, fit.map, ground.train[some]), targets[some]),
        parameters=fit.map.weight.numel() + fit.map.bias.numel(),
        chosen=fit.chosen,
    )


def _wanted(ground: Ground, targets: Tensor) -> Tensor:
    if ground.classifies:
        return one_hot(targets, num_classes=ground.facts.num_classes)
    return targets[:, None]


def _answers(ground: Ground, fitted: LinearMap, inputs: Tensor) -> Tensor:
    return fitted.predict(inputs) if ground.classifies else fitted(inputs)[:, 0]


def _fixed(ground: Ground, wanted: Tensor) -> _Fit:
    penalty = ground.wishes.penalty or 0.0
    check_penalty(penalty)
    fit = least_squares(ground.train, wanted, penalty=penalty * ground.unit * len(wanted))
    return _Fit(fit.map, f"λ = {penalty:g}")


def _chosen(ground: Ground, wanted: Tensor) -> _Fit:
    """λ by generalised cross-validation; by a part of the training split where that misleads:
    with about as many features as samples its numerator and denominator both vanish."""
    inputs = ground.train
    if inputs.shape[1] <= WIDEST and len(inputs) > 2 * inputs.shape[1]:
        fit = choose_by_gcv(moments(inputs, wanted)).fit
        return _Fit(fit.map, f"λ = {fit.penalty / len(wanted) / ground.unit:.2g} by GCV")
    fit_rows, judge = ground.choosing
    scale = inputs[judge].float().square().mean().item() * inputs.shape[1]
    targets = ground.targets("train")
    scores = {}
    for penalty in (share * scale for share in SHARES):
        found = least_squares(inputs[fit_rows], wanted[fit_rows], penalty=penalty * len(fit_rows))
        answers = _answers(ground, found.map, inputs[judge])
        scores[penalty] = ground.score(answers, targets[judge])
    best = max(scores, key=lambda penalty: scores[penalty])
    fitted = least_squares(inputs, wanted, penalty=best * len(wanted)).map
    return _Fit(fitted, f"λ = {best / ground.unit:.2g} by a held-out fifth")


RUNG = RungMaker(name="ridge", title="ridge", kind="linear", climb=climb)
