"""What every fit of this folder asks of its input, checked once, where the user enters."""

from collections.abc import Sequence

import torch
from jaxtyping import Shaped
from torch import Tensor

from thalweg.errors import DataError, UsageError
from thalweg.registry import unknown_name

ROWS_AT_ONCE = 4096


def check_vectors(vectors: Shaped[Tensor, "..."], what: str) -> None:
    """One sample a row, at least one of each, every value finite.

    Raises: DataError naming the first bad row and column.
    """
    if vectors.ndim != 2 or 0 in vectors.shape:
        raise DataError(
            f"{what} must be a table: one sample a row, at least one row and one column",
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
    # Summed by parts, so that a table larger than memory (memory-mapped) can be checked as well.
    for start in range(0, len(vectors), ROWS_AT_ONCE):
        part = vectors[start : start + ROWS_AT_ONCE]
        lowest, highest = torch.aminmax(part)
        if not (torch.isfinite(lowest) & torch.isfinite(highest)):
            row, column = (~torch.isfinite(part)).nonzero()[0].tolist()
            raise DataError(
                f"{what} must be finite",
                seen=f"{part[row, column].item()} in row {start + row}, column {column}",
                fix="drop or repair that sample; a feature of constant value divided by its "
                "standard deviation of 0 is the usual cause",
            )


def check_values(targets: Tensor, *, rows: int) -> None:
    """One row of finite numbers to predict for each sample. Raises: DataError."""
    check_vectors(targets, "targets")
    if len(targets) != rows:
        raise DataError(
            "inputs and targets must have as many rows",
            seen=f"{rows} and {len(targets)}",
            fix="one row of targets a sample",
        )


def check_columns(vectors: Tensor, *, dim: int, what: str) -> None:
    """Raises: DataError where `vectors` do not have the features that the fit has seen."""
    if vectors.shape[-1] != dim:
        raise DataError(
            f"{what} must have the features that were fitted",
            seen=f"{vectors.shape[-1]} columns against {dim}",
            fix="make both with the same feature function",
        )


def check_classes(targets: Shaped[Tensor, "..."], *, rows: int, num_classes: int) -> None:
    """One class index a row, at least two classes among them.

    Raises: DataError
    """
    if targets.shape != (rows,) or targets.dtype != torch.int64:
        raise DataError(
            "targets must be one int64 class index a row",
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
            "one class alone cannot be told apart from others",
            seen=f"all {rows} targets are {lowest}",
            fix="add samples of another class",
        )


def check_count(count: int, *, name: str, most: int, of: str) -> None:
    """Raises: UsageError unless 1 ≤ count ≤ most."""
    if not 1 <= count <= most:
        raise UsageError(
            f"{name} must lie in 1…{most}, {of}",
            seen=f"{name}={count}",
            fix=f"{name}={max(1, min(count, most))}",
        )


def check_penalty(penalty: float, name: str = "penalty") -> None:
    """Raises: UsageError unless the penalty is a finite number ≥ 0."""
    if not 0 <= penalty < float("inf"):  # NaN fails this as well
        raise UsageError(
            f"{name} must be a finite number ≥ 0: a negative one rewards large weights",
            seen=f"{name}={penalty}",
            fix=f"{name}={abs(penalty) if abs(penalty) < float('inf') else 1.0}",
        )


def check_name(name: str, known: Sequence[str], kind: str) -> None:
    """Raises: UnknownNameError, which offers the nearest name."""
    if name not in known:
        raise unknown_name(kind, name, known)
