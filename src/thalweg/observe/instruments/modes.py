"""The train/eval flags of modules that depend on them: dropout, batch norm, some recurrent ones."""

from thalweg.observe.forward_pass import ForwardPass
from thalweg.observe.instrument import Measurements, Moment, instrument
from thalweg.record.quantities import TRAIN_MODE, VAL_MODE


@instrument(TRAIN_MODE, when="loss", rare=True)
def train_modes(moment: Moment) -> Measurements:
    """The flags in a training pass."""
    return _flags(moment.forward)


@instrument(VAL_MODE, when="end")
def val_modes(moment: Moment) -> Measurements:
    """The flags in the last pass without gradient."""
    return _flags(moment.validation)


def _flags(forward: ForwardPass | None) -> dict[str, float]:
    if forward is None or not forward.modes:
        return {}
    flags = {"": forward.training} | dict(forward.modes)
    return {name: float(flag) for name, flag in flags.items()}
