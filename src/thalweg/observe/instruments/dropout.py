from torch import nn

from thalweg.observe.instrument import Measurements, Moment, instrument
from thalweg.record.quantities import DROPOUT


@instrument(DROPOUT, when="loss", rare=True)
def dropout(moment: Moment) -> Measurements:
    """The p of each dropout module that was in train mode in the last training pass. Exact."""
    if moment.forward is None:
        return {}
    dropping = {name for name, training in moment.forward.modes.items() if training}
    return {
        name: float(module.p)
        for name, module in moment.model.named_modules()
        if name in dropping and isinstance(module, nn.modules.dropout._DropoutNd)
    }
