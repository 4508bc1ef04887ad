from collections.abc import Mapping
from math import prod

from torch import Tensor, nn

from thalweg.observe.bare_copy import named_weights
from thalweg.observe.instrument import Measurements, Moment, instrument
from thalweg.observe.instruments.gradient_flow import held_weights
from thalweg.observe.local_shard import local_part
from thalweg.observe.readable_weight import is_readable
from thalweg.observe.spaced_entries import spaced_entries
from thalweg.observe.unregistered import weights_of_all_optimizers
from thalweg.record import Quantity
from thalweg.record.quantities import FROZEN_AT_RANDOM, STALE_WEIGHTS, WEIGHTS

LEAST_NUMBERS = 64  # of a weight; fewer do not show their distribution
MOST_NUMBERS = 2**20  # of a weight, evenly spaced; more are memory of the size of the weight


@instrument(FROZEN_AT_RANDOM, STALE_WEIGHTS, WEIGHTS, when="probe")
def frozen_weights(moment: Moment) -> Mapping[Quantity, Measurements]:
    """Weights without updates, by whether they look trained or as an initialiser left them."""
    held = held_weights(moment)
    weights = dict(named_weights(moment.model))
    frozen = {n: w for n, w in weights.items() if not (w.requires_grad and id(w) in held)}
    own = {id(weight) for weight in weights.values()}
    flags = {
        name: float(looks_initialised(weight.detach()))
        for name, weight in frozen.items()
        if is_readable(weight)
        and weight.is_floating_point()
        and weight.ndim >= 2
        and local_part(weight).numel() >= LEAST_NUMBERS
    }
    if any(flags.values()):  # by another optimizer they may be trained by turns, as a GAN's
        others = weights_of_all_optimizers() - held
        flags = {name: flag for name, flag in flags.items() if id(frozen[name]) not in others}
    return {
        FROZEN_AT_RANDOM: flags,
        STALE_WEIGHTS: {"": float(len(held - own))},
        WEIGHTS: {
            "": float(sum(w.numel() for w in weights.values() if not nn.parameter.is_lazy(w)))
        },
    }


def looks_initialised(weight: Tensor) -> bool:
    """True if a matrix has the bounds or the moments of PyTorch's and torchvision's initialisers.

    Uniform within 1/√fan_in (nn.Linear, nn.Conv), Glorot's uniform, or a Gaussian of kurtosis 3
    whose std is that of He, Glorot, 0.02 (transformers) or 1 (embeddings). Training leaves none of
    these: tails grow heavier (kurtosis above 3) and bounds are crossed.
    """
    fan_out, fan_in = weight.shape[0], prod(weight.shape[1:])
    receptive = prod(weight.shape[2:])
    values = spaced_entries(local_part(weight), MOST_NUMBERS).float().flatten()
    std, top = float(values.std()), float(values.abs().max())
    if std == 0:
        return True
    bounds = [1 / fan_in**0.5, (6 / (fan_in + fan_out * receptive)) ** 0.5]
    noise = 3 / values.numel() ** 0.5  # three standard errors of a std, about
    for bound in bounds:
        if top <= bound * (1 + 1e-6) and abs(std * 3**0.5 / bound - 1) < max(0.03, noise):
            return True
    kurtosis = float(((values - values.mean()) / std).pow(4).mean())
    gaussian = abs(kurtosis - 3) < 3 * (24 / values.numel()) ** 0.5
    stds = [(2 / fan_in) ** 0.5, (2 / (fan_out * receptive)) ** 0.5, fan_in**-0.5, 0.02, 1.0]
    stds.append((2 / (fan_in + fan_out * receptive)) ** 0.5)
    return gaussian and any(abs(std / s - 1) < max(0.02, noise) for s in stds)
