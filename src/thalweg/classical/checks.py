"""Checks of inputs, targets and settings, once, where the user enters."""

from collections.abc import Sequence

import torch
from jaxtyping import Shaped
from torch import Tensor

from thalweg.errors import DataError, UsageError
from thalweg.registry import unknown_name

ROWS_PER_BLOCK = 4096


def check_vectors(vectors: Shaped[Tensor, "..."], what: str) -> None:
    """Check for one sample per row, at least one row and column, and finite values.

    Raises: DataError, which names the first bad row and column.
    """
    if vectors.ndim != 2 or 0 in vectors.shape:
        raise DataError(
            f"{what} must be a table: one sample per row, at least one row and one column",
            seen=f"shape {tuple(vectors.shape)}",
            fix="flatten each sample to one row: inputs.flatten(1)",
        )
    if not (vectors.is_floating_point() or vectors.dtype == torch.uint8):
        raise DataError(
            f"{what} must be floating point or uint8",
            seen=str(vectors.dtype).removeprefix("torch."),
            fix=f"convert: {what}.float()",
        )
    if vectors.is_floating_point():
        _check_finite(vectors, what)


def _check_finite(vectors: Tensor, what: str) -> None:
    # Block by block, for memory-mapped tables larger than memory.
    for start in range(0, len(vectors), ROWS_PER_BLOCK):
        block = vectors[start : start + ROWS_PER_BLOCK]
        lowest, highest = torch.aminmax(block)
        if not (torch.isfinite(lowest) & torch.isfinite(highest)):
            row, column = (~torch.isfinite(block)).nonzero()[0].tolist()
            raise DataError(
                f"{what} must be finite",
                seen=f"{block[row, column].item()} in row {start + row}, column {column}",
                fix="drop or repair that sample; a feature of constant value divided by its "
                "standard deviation of 0 is the usual cause",
            )


def check_values(targets: Tensor, *, rows: int) -> None:
    """Check for one row of finite targets per sample. Raises: DataError."""
    check_vectors(targets, "targets")
    if len(targets) != rows:
        raise DataError(
            "inputs and targets must have the same number of rows",
            seen=f"{rows} and {len(targets)}",
            fix="one row of targets per sample",
        )


def check_columns(vectors: Tensor, *, dim: int, what: str) -> None:
    """Check that the vectors have as many features as the fit. Raises: DataError."""
    if vectors.shape[-1] != dim:
        raise DataError(
            f"{what} must have as many features as the fitted data",
            seen=f"{vectors.shape[-1]} columns against {dim}",
            fix="make both with the same feature function",
        )


def check_classes(targets: Shaped[Tensor, "..."], *, rows: int, num_classes: int) -> None:
    """Check for one class index per row, of at least two classes. Raises: DataError."""
    if targets.shape != (rows,) or targets.dtype != torch.int64:
        raise DataError(
            "targets must be one int64 class index per row",
            seen=f"shape {tuple(targets.shape)}, {targets.dtype} for {rows} rows",
            fix="targets.long(), one for each row of the inputs",
        )
    lowest, highest = targets.min().item(), targets.max().item()
    if lowest < 0 or highest >= num_classes:
        raise DataError(
            f"class indices must lie in 0…{num_classes - 1}",
            seen=f"{lowest}…{highest}",
            fix=f"num_classes={highest + 1}" if lowest >= 0 else "number the classes from 0",
        )
    if lowest == highest:
        raise DataError(
            "a classifier needs at least two classes",
            seen=f"all {rows} targets are {lowest}",
            fix="add samples of another class",
        )


def check_count(count: int, *, name: str, most: int, of: str, least: int = 1) -> None:
    """Check that least ≤ count ≤ most. Raises: UsageError."""
    if not least <= count <= most:
        raise UsageError(
            f"{name} must lie in {least}…{most}, {of}",
            seen=f"{name}={count}",
            fix=f"{name}={max(least, min(count, most))}",
        )


def check_penalty(penalty: float, name: str = "penalty") -> None:
    """Check that the penalty is a finite number ≥ 0. Raises: UsageError."""
    if not 0 <= penalty < float("inf"):  # NaN fails this as well
        raise UsageError(
            f"{name} must be a finite number ≥ 0: a negative one rewards large weights",
            seen=f"{name}={penalty}",
            fix=f"{name}={abs(penalty) if abs(penalty) < float('inf') else 1.0}",
        )


def check_name(name: str, names: Sequence[str], kind: str) -> None:
    """Check that the name is one of `names`. Raises: UnknownNameError with the nearest one."""
    if name not in names:
        raise unknown_name(kind, name, names)
