from collections.abc import Mapping

import torch
from torch import Tensor

from thalweg.observe.instrument import Measurements, Moment, instrument
from thalweg.observe.pairs_in_loss import node_name
from thalweg.observe.targets_from_gradient import ENTROPY_KINDS
from thalweg.record import Quantity
from thalweg.record.quantities import OUTPUT_HIGH, OUTPUT_LOW, OUTPUT_ROW_SUM_ERROR, OUTPUT_WIDTH


@instrument(OUTPUT_WIDTH, OUTPUT_ROW_SUM_ERROR, OUTPUT_LOW, OUTPUT_HIGH, when="loss", rare=True)
def outputs(moment: Moment) -> Mapping[Quantity, Measurements]:
    """The range of the last batch's outputs, and how far their rows are from probabilities."""
    rows = _output_rows(moment)
    if rows is None:
        return {}
    measured: dict[Quantity, Measurements] = {
        OUTPUT_WIDTH: {"": float(rows.shape[1])},
        OUTPUT_LOW: {"": rows.min()},
        OUTPUT_HIGH: {"": rows.max()},
    }
    if rows.shape[1] > 1:
        measured[OUTPUT_ROW_SUM_ERROR] = {"": _row_sum_error(rows)}
    return measured


def row_sum_error(moment: Moment) -> Tensor | None:
    """The largest |Σ − 1| over the rows of output; infinite where one is negative.

    None where no output of several columns is seen.
    """
    rows = _output_rows(moment)
    return None if rows is None or rows.shape[1] < 2 else _row_sum_error(rows)


def _output_rows(moment: Moment) -> Tensor | None:
    """The outputs as rows; None where none of real numbers are seen."""
    output = moment.logits
    if output is None or output.ndim == 0 or not output.is_floating_point():
        return None
    return output.float()[None] if _is_one_row(output, moment) else _rows(output)


def _row_sum_error(rows: Tensor) -> Tensor:
    return torch.where((rows < 0).any(), torch.inf, (rows.sum(1) - 1).abs().max())


def _is_one_row(output: Tensor, moment: Moment) -> bool:
    """True for a vector of the classes of a single sample, not of one number a sample."""
    if output.ndim != 1 or moment.graph is None or moment.forward is None:
        return False
    node = moment.forward.output_node
    if node is not None and node_name(node) in ("Softmax", "LogSoftmax"):
        return True
    return moment.graph.kind in ENTROPY_KINDS and not moment.graph.reshaped


def _rows(output: Tensor) -> Tensor:
    """One row a prediction: classes are dimension 1 of images, the last one of sequences."""
    if output.ndim < 3:
        return output.float().reshape(len(output), -1)
    if output.ndim >= 4:
        output = output.movedim(1, -1)
    return output.float().reshape(-1, output.shape[-1])
