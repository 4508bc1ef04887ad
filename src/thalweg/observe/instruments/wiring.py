"""Whether gradients reach the weights, and updates follow: exact, from identities and flags."""

from collections.abc import Mapping
from math import prod

from torch import Tensor

from thalweg.observe.capture import Pass
from thalweg.observe.instrument import Moment, Reading, instrument, survey
from thalweg.record import Quantity
from thalweg.record.quantities import (
    FROZEN_AT_RANDOM,
    GRADIENT_PRESENT,
    HELD,
    LEFTOVER_GRADIENT,
    MODULE_CALLED,
    STALE_WEIGHTS,
    TRAIN_MODE,
    VAL_MODE,
    WEIGHTS,
)


@instrument(LEFTOVER_GRADIENT, when="loss", rare=True)
def leftover_gradient(moment: Moment) -> Reading:
    """The norm of a weight's gradient when the first new gradient arrived: 0 after a zero_grad.

    The least over all backward passes since the last update, so that intended accumulation, and
    nets that send gradient through each other, count as clean as long as someone clears it.
    """
    return moment.leftovers if moment.step > 0 else {}


@survey(HELD, GRADIENT_PRESENT, MODULE_CALLED, when="loss", rare=True)
def who_learns(moment: Moment) -> Mapping[Quantity, Reading]:
    """Which trainable weights an optimizer holds, which got a gradient, which modules ran."""
    held = {id(w) for o in moment.optimizers for g in o.param_groups for w in g["params"]}
    trainable = [(n, w) for n, w in moment.model.named_parameters() if w.requires_grad]
    owners = {n.rpartition(".")[0] for n, _ in trainable}
    return {
        HELD: {name: float(id(weight) in held) for name, weight in trainable},
        GRADIENT_PRESENT: {n: float(n in moment.leftovers) for n, _ in trainable}
        if moment.leftovers
        else {},
        MODULE_CALLED: {n: float(n in moment.called) for n in owners} if moment.called else {},
    }


@survey(FROZEN_AT_RANDOM, STALE_WEIGHTS, WEIGHTS, when="probe")
def frozen_weights(moment: Moment) -> Mapping[Quantity, Reading]:
    """Whether the weights that no update reaches look trained, or as an initialiser left them."""
    held = {id(w) for o in moment.optimizers for g in o.param_groups for w in g["params"]}
    model = dict(moment.model.named_parameters())
    still = {n: w for n, w in model.items() if not (w.requires_grad and id(w) in held)}
    own = {id(weight) for weight in model.values()}
    return {
        FROZEN_AT_RANDOM: {
            name: float(looks_initialised(weight.detach()))
            for name, weight in still.items()
            if weight.ndim >= 2 and weight.numel() >= LEAST_TO_JUDGE
        },
        STALE_WEIGHTS: {"": float(len(held - own))},
        WEIGHTS: {"": float(sum(weight.numel() for weight in model.values()))},
    }


LEAST_TO_JUDGE = 64  # numbers below which a distribution cannot be told


def looks_initialised(weight: Tensor) -> bool:
    """Whether a matrix has the bounds or the moments of PyTorch's and torchvision's initialisers.

    Uniform within 1/√fan_in (nn.Linear, nn.Conv), Glorot's uniform, or a Gaussian of kurtosis 3
    whose std is that of He, Glorot, 0.02 (transformers) or 1 (embeddings). Training leaves none of
    these: tails grow heavier (kurtosis above 3) and bounds are crossed.
    """
    fan_out, fan_in = weight.shape[0], prod(weight.shape[1:])
    receptive = prod(weight.shape[2:])
    values = weight.float().flatten()
    std, top = float(values.std()), float(values.abs().max())
    if std == 0:
        return True
    uniform = [1 / fan_in**0.5, (6 / (fan_in + fan_out * receptive)) ** 0.5]
    noise = 3 / values.numel() ** 0.5  # three standard errors of a std, about
    for bound in uniform:
        if top <= bound * (1 + 1e-6) and abs(std * 3**0.5 / bound - 1) < max(0.03, noise):
            return True
    kurtosis = float(((values - values.mean()) / std).pow(4).mean())
    gaussian = abs(kurtosis - 3) < 3 * (24 / values.numel()) ** 0.5
    stds = [(2 / fan_in) ** 0.5, (2 / (fan_out * receptive)) ** 0.5, fan_in**-0.5, 0.02, 1.0]
    stds.append((2 / (fan_in + fan_out * receptive)) ** 0.5)
    return gaussian and any(abs(std / s - 1) < max(0.02, noise) for s in stds)


@instrument(TRAIN_MODE, when="loss", rare=True)
def train_modes(moment: Moment) -> Reading:
    """The train/eval flags of the modules that depend on them, in a training pass."""
    return _flags(moment.last)


@instrument(VAL_MODE, when="end")
def val_modes(moment: Moment) -> Reading:
    """The same flags in the last pass without gradient that was seen."""
    return _flags(moment.validation)


def _flags(one: Pass | None) -> dict[str, float]:
    if one is None or not one.modes:
        return {}
    flags = {"": one.training} | dict(one.modes)
    return {name: float(flag) for name, flag in flags.items()}
