from collections.abc import Mapping
from typing import Any

from thalweg.observe.instrument import Measurements, Moment, instrument
from thalweg.record.quantities import SCALE_INVARIANT

# What the optimizers of PyTorch and others name the mean size of a gradient in their state.
SIZES = frozenset(
    {"exp_avg_sq", "max_exp_avg_sq", "exp_inf", "square_avg", "sum", "exp_avg_sq_row", "state2"}
)
SIGNED = frozenset({"Lion", "SignSGD", "Signum"})  # they take the gradient's sign alone


@instrument(SCALE_INVARIANT, when="loss", rare=True)
def scale_invariance(moment: Moment) -> Measurements:
    """1 where ten times the gradient would make the same update, as the optimizers' state shows."""
    flags = [flag for one in moment.optimizers if (flag := _divides_by_size(one)) is not None]
    return {"": float(all(flags))} if flags else {}


def _divides_by_size(optimizer: Any) -> bool | None:
    """None for a wrapper, or before a first update, whose state shows nothing."""
    if type(optimizer).__name__ in SIGNED:
        return True
    state = getattr(optimizer, "state", None)
    entries = next(iter(state.values()), None) if isinstance(state, Mapping) else None
    return not SIZES.isdisjoint(entries) if isinstance(entries, Mapping) else None
