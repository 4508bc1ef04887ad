"""The train/eval flags of modules that depend on them: dropout, batch norm, some recurrent ones."""

from collections.abc import Mapping

from thalweg.observe.forward_pass import ForwardPass
from thalweg.observe.instrument import Measurements, Moment, instrument
from thalweg.record import Quantity
from thalweg.record.quantities import MODE_DIFFERS, TRAIN_MODE, VAL_MODE


@instrument(TRAIN_MODE, MODE_DIFFERS, when="loss")
def train_modes(moment: Moment) -> Mapping[Quantity, Measurements]:
    """The flags in a training pass; 1 where they were changed before step(), as to validate."""
    forward = moment.forward
    if forward is None:
        return {}
    differs = float(forward.training != moment.model.training)
    return {TRAIN_MODE: _flags(forward), MODE_DIFFERS: {"": differs}}


@instrument(VAL_MODE, when="end")
def val_modes(moment: Moment) -> Measurements:
    """The flags in the last pass without gradient."""
    return _flags(moment.validation)


def _flags(forward: ForwardPass | None) -> dict[str, float]:
    if forward is None or not forward.modes:
        return {}
    flags = {"": forward.training} | dict(forward.modes)
    return {name: float(flag) for name, flag in flags.items()}
