import torch

from thalweg.observe.forward_pass import is_plain, tensors
from thalweg.observe.instrument import Measurements, Moment, instrument
from thalweg.record.quantities import INPUT_SCALE

MOST = 256  # samples


@instrument(INPUT_SCALE, when="loss", rare=True)
def input_scale(moment: Moment) -> Measurements:
    """Std and largest |value| of the numbers that the model itself is called with; mean by place.

    Of training batches, and of the last validation batch. Tokens have no scale.
    """
    measured: dict[str, torch.Tensor] = {}
    passes = {"": moment.forward, "val ": moment.validation}
    for split, forward in passes.items():
        arguments = () if forward is None else tensors((forward.inputs, forward.keywords))
        inputs = next((one for one in arguments if one.is_floating_point() and one.ndim), None)
        if inputs is None or inputs.numel() < 2 or not is_plain(inputs):
            continue
        values = inputs[:MOST].detach().float()
        measured[f"{split}std"], measured[f"{split}mean"] = values.std(), values.mean()
        measured[f"{split}largest"] = values.abs().max()
    return measured
