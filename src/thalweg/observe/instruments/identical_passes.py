from torch import Tensor

from thalweg.observe.instrument import Measurements, Moment, instrument
from thalweg.observe.pass_marks import compared_passes
from thalweg.record.quantities import IDENTICAL_PASSES


@instrument(IDENTICAL_PASSES, when="loss", rare=True)
def identical_passes(moment: Moment) -> Measurements:
    """1 where two passes that the loss compares gave the same, other numbers for each sample.

    Nothing where the loss compares no two passes. Cost: a walk of the loss's own graph.
    """
    outputs = moment.passes.outputs
    pairs = compared_passes(moment.loss) if len(outputs) > 1 else set()
    same = [_are_identical(outputs[a], outputs[b]) for a, b in sorted(pairs)]
    if not same:
        return {}
    return {"": sum(same[1:], start=same[0]).clamp(max=1)}


def _are_identical(one: Tensor, other: Tensor) -> Tensor:
    """1 where two outputs are equal; 0 also where all samples have the same output."""
    if one.shape != other.shape:
        return one.new_zeros(())
    varied = (one != one[:1]).any()
    return ((one == other).all() & varied).float()
