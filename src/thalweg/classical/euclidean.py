"""Squared Euclidean distances at the rate of a matrix product, each with a bound on its error.

‖x − y‖² = ‖x‖² + ‖y‖² − 2 x·y, and ‖x‖² is the same for all y, so a query ranks the reference by
‖y‖² − 2 x·y: one matrix product. Rounding can then swap neighbours, the more so the further the
data lie from the origin. Hence vectors are centred first, and every `DistanceKernel` bounds the
error of its scores, whatever the order of the sum. The caller measures again in float64 what lies
closer together than that.

The bounds: γ = n u / (1 − n u) for a sum of n products at unit round-off u (Higham 2002, Accuracy
and Stability of Numerical Algorithms, §3.1), and Cauchy–Schwarz for the error of narrowed operands:
|x·y − x̂·ŷ| ≤ ‖x − x̂‖ ‖y‖ + ‖x̂‖ ‖y − ŷ‖.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import NamedTuple

import torch
from jaxtyping import Float, Int8, Int32, Shaped
from torch import Tensor

ROUND_OFF = 2.0**-24  # of float32
COLUMNS = 512  # 512 squares of 8-bit numbers still sum exactly in float32
TINY = 2.0**-126  # the smallest normal float32 bounds the underflow of one product


class Operand(NamedTuple):
    """Vectors in the format that a kernel multiplies."""

    values: Shaped[Tensor, "sample dim"]
    norm: Float[Tensor, " sample"]  # ‖x‖, or ‖x‖₁ for Manhattan distances
    rounding: Float[Tensor, " sample"]  # ‖x − values‖


class Frame(NamedTuple):
    """Origin and unit of comparison: small numbers round less, and never overflow."""

    origin: Float[Tensor, " dim"]
    scale: float  # a power of two: exact
    lowest: float  # of all values
    step: float  # a 255th of their range: one step of a byte


class DistanceKernel(NamedTuple):
    """A method to score many pairs: it prepares vectors, scores them and bounds the error."""

    name: str
    prepare: Callable[[Tensor, Frame], Operand]
    score: Callable[[Operand, Operand], Tensor]
    error: Callable[[Operand, float, float], Tensor]  # (queries, largest norm, largest rounding)
    exact: Callable[[Tensor, Operand], Tensor] | None = None  # (scores, queries) → distances


def center(vectors: Tensor, frame: Frame) -> Tensor:
    """Vectors around the frame's origin, subtracted before they are narrowed to float32."""
    wide = vectors if vectors.dtype == torch.float64 else vectors.float()
    return ((wide - frame.origin.to(wide.dtype)) * frame.scale).float()


def squared_norms(vectors: Tensor) -> Tensor:
    """‖x‖² of each row. Summed in float32 by 512 columns: exact where the values are bytes."""
    parts = vectors.split(COLUMNS, dim=1)
    return sum((part.square().sum(1).double() for part in parts), torch.zeros(()).double())


def norms(vectors: Tensor) -> Tensor:
    return squared_norms(vectors).sqrt()


def _prepare_float32(vectors: Tensor, frame: Frame) -> Operand:
    values = center(vectors, frame)
    norm = norms(values)
    return Operand(values, norm, norm * ROUND_OFF)


def _prepare_relaxed(vectors: Tensor, frame: Frame) -> Operand:
    # torch may narrow to bfloat16 inside the product: the same error as narrowing here.
    values = center(vectors, frame)
    rounding = norms(values - values.bfloat16())
    norm = norms(values)
    return Operand(values, norm, rounding + norm * ROUND_OFF)


def _prepare_bfloat16(vectors: Tensor, frame: Frame) -> Operand:
    values, norm, rounding = _prepare_relaxed(vectors, frame)
    return Operand(values.bfloat16(), norm, rounding)


def _prepare_int8(vectors: Tensor, frame: Frame) -> Operand:
    del frame  # 128 is the origin: a byte minus 128 is the same bits with the first one flipped
    values = (vectors ^ 128).view(torch.int8)
    norm = norms(values.float())
    return Operand(values, norm, torch.zeros_like(norm))


def _prepare_quantised(vectors: Tensor, frame: Frame) -> Operand:
    """Bytes in steps of the range: almost exact where the floats once were bytes."""
    wide = vectors if vectors.dtype == torch.float64 else vectors.float()
    steps = (wide - frame.lowest).div_(frame.step).sub_(128).float()
    values, norm = steps.round().clamp_(-128, 127), norms(steps)
    per_value = 256 * ROUND_OFF * vectors.shape[1] ** 0.5  # of each operation on each value
    rounding = norms(steps.sub_(values)) + 4 * per_value
    return Operand(values.to(torch.int8), norm, rounding)


def int8_product(left: Int8[Tensor, "m k"], right: Int8[Tensor, "k n"]) -> Int32[Tensor, "m n"]:
    """Multiply and sum exactly, in int32.

    torch's own product returns garbage where `right` is a transposed single row or column.
    """
    if 1 not in right.shape and _int8_sums_are_exact():
        return torch._int_mm(left, right)
    return (left.double() @ right.double()).int()


@cache
def _int8_sums_are_exact() -> bool:
    """Try the largest products: kernels for processors without VNNI cut sums off at 16 bits."""
    largest = torch.tensor([127, -128], dtype=torch.int8).repeat(64)[:, None].repeat(1, 64)
    exact = (largest.double() @ largest.double().T).int()
    return torch.equal(torch._int_mm(largest, largest.T), exact)


@contextmanager
def _matmul_precision(precision: str) -> Iterator[None]:
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision(precision)
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


def _scores(queries: Operand, reference: Operand) -> Tensor:
    dot = (queries.values @ reference.values.T).float()
    return dot.mul_(-2).add_(reference.norm.square().float())


def _score_float(queries: Operand, reference: Operand) -> Tensor:
    with _matmul_precision("highest"):  # the bound needs it, whatever the user has set
        return _scores(queries, reference)


def _score_relaxed(queries: Operand, reference: Operand) -> Tensor:
    with _matmul_precision("medium"):
        return _scores(queries, reference)


def _score_int8(queries: Operand, reference: Operand) -> Tensor:
    dot = int8_product(queries.values, reference.values.T)
    return dot.mul_(-2).add_(reference.norm.square().round().int())


def _score_quantised(queries: Operand, reference: Operand) -> Tensor:
    dot = int8_product(queries.values, reference.values.T).float()
    return dot.mul_(-2).add_(reference.norm.square().float())


def _error(queries: Operand, norm: float, rounding: float, *, output: float, sums: float) -> Tensor:
    dim = queries.values.shape[1]
    product = queries.norm * norm
    narrowed = queries.rounding * norm + (queries.norm + queries.rounding) * rounding
    final = _gamma(COLUMNS) * norm**2 + 4 * ROUND_OFF * (norm**2 + 2 * product)
    return 2 * (narrowed + (output + sums) * product) + final + 4 * dim * TINY


def _gamma(dim: int) -> float:
    return dim * ROUND_OFF / max(1 - dim * ROUND_OFF, 0.5)


def _error_float32(queries: Operand, norm: float, rounding: float) -> Tensor:
    return _error(queries, norm, rounding, output=0.0, sums=_gamma(queries.values.shape[1]))


def _error_bfloat16(queries: Operand, norm: float, rounding: float) -> Tensor:
    return _error(queries, norm, rounding, output=2.0**-8, sums=_gamma(queries.values.shape[1]))


def _error_quantised(queries: Operand, norm: float, rounding: float) -> Tensor:
    return _error(queries, norm, rounding, output=0.0, sums=ROUND_OFF)


def _no_error(queries: Operand, norm: float, rounding: float) -> Tensor:
    del norm, rounding
    return torch.zeros_like(queries.norm)


def _exact_int8(scores: Tensor, queries: Operand) -> Tensor:
    return scores + queries.norm.square().round()[:, None]


FLOAT32 = DistanceKernel("float32", _prepare_float32, _score_float, _error_float32)
RELAXED = DistanceKernel("float32, relaxed", _prepare_relaxed, _score_relaxed, _error_float32)
BFLOAT16 = DistanceKernel("bfloat16", _prepare_bfloat16, _score_float, _error_bfloat16)
INT8 = DistanceKernel("int8", _prepare_int8, _score_int8, _no_error, _exact_int8)
QUANTISED = DistanceKernel("quantised", _prepare_quantised, _score_quantised, _error_quantised)

INT8_DIMS = 2**31 // (3 * 2**14)  # the score of more features overflows int32


def kernels(vectors: Tensor) -> tuple[DistanceKernel, ...]:
    """The kernels that can score these vectors, the plainest first."""
    if vectors.is_cuda:  # a bfloat16 product may also sum in bfloat16 there: no bound
        return FLOAT32, RELAXED
    if vectors.shape[1] > INT8_DIMS:
        return FLOAT32, RELAXED, BFLOAT16
    return (
        (FLOAT32, INT8) if vectors.dtype == torch.uint8 else (FLOAT32, RELAXED, BFLOAT16, QUANTISED)
    )
