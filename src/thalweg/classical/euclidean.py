"""Squared Euclidean distances at the rate of a matrix product, each with a bound on its error.

‖x − y‖² = ‖x‖² + ‖y‖² − 2 x·y, and ‖x‖² is the same for all y, so a query ranks the reference by
‖y‖² − 2 x·y: one matrix product. Rounding can then swap neighbours, the more so the further the
data lie from the origin. Hence: vectors are centred first, and every `Way` of multiplying states
how wrong a score of its can be, whatever the order of the sum. The caller looks again at whatever
lies closer together than that.

The bounds: γ = n u / (1 − n u) for a sum of n products at unit round-off u (Higham 2002, Accuracy
and Stability of Numerical Algorithms, §3.1), and Cauchy–Schwarz for what narrowing the operands
lost: |x·y − x̂·ŷ| ≤ ‖x − x̂‖ ‖y‖ + ‖x̂‖ ‖y − ŷ‖.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

import torch
from jaxtyping import Float, Shaped
from torch import Tensor

ROUND_OFF = 2.0**-24  # of float32
COLUMNS = 512  # 512 squares of 8-bit numbers still sum exactly in float32
TINY = 2.0**-126  # the smallest normal float32: what underflow can hide in one product


class Operand(NamedTuple):
    """Vectors ready to be multiplied."""

    values: Shaped[Tensor, "sample dim"]
    size: Float[Tensor, " sample"]  # ‖x‖, or ‖x‖₁ for the city-block metric
    lost: Float[Tensor, " sample"]  # ‖x − values‖, what narrowing has cost


class Frame(NamedTuple):
    """Origin and unit of comparison: small numbers round less, and never overflow."""

    origin: Float[Tensor, " dim"]
    scale: float  # a power of two: exact
    lowest: float  # of all values
    step: float  # a 255th of their range: one step of a byte


class Way(NamedTuple):
    """One way to score many pairs: how to prepare vectors, the scores, and their largest error."""

    name: str
    prepare: Callable[[Tensor, Frame], Operand]
    score: Callable[[Operand, Operand], Tensor]
    error: Callable[[Operand, float, float], Tensor]  # (queries, largest size, largest loss)
    exact: Callable[[Tensor, Operand], Tensor] | None = None  # (scores, queries) -> distances


def centred(vectors: Tensor, frame: Frame) -> Tensor:
    """float32 vectors around the frame's origin; subtracted before they are narrowed to float32."""
    wide = vectors if vectors.dtype == torch.float64 else vectors.float()
    return ((wide - frame.origin.to(wide.dtype)) * frame.scale).float()


def squares(vectors: Tensor) -> Tensor:
    """‖x‖² of each row. Summed in float32 by 512 columns: exact where the values are bytes."""
    parts = vectors.split(COLUMNS, dim=1)
    return sum((part.square().sum(1).double() for part in parts), torch.zeros(()).double())


def norms(vectors: Tensor) -> Tensor:
    return squares(vectors).sqrt()


def _prepare_float32(vectors: Tensor, frame: Frame) -> Operand:
    values = centred(vectors, frame)
    size = norms(values)
    return Operand(values, size, size * ROUND_OFF)


def _prepare_relaxed(vectors: Tensor, frame: Frame) -> Operand:
    # torch may narrow to bfloat16 inside the product: the loss is that of narrowing here.
    values = centred(vectors, frame)
    lost = norms(values - values.bfloat16())
    size = norms(values)
    return Operand(values, size, lost + size * ROUND_OFF)


def _prepare_bfloat16(vectors: Tensor, frame: Frame) -> Operand:
    values, size, lost = _prepare_relaxed(vectors, frame)
    return Operand(values.bfloat16(), size, lost)


def _prepare_int8(vectors: Tensor, frame: Frame) -> Operand:
    del frame  # 128 is the origin: a byte minus 128 is the same bits with the first one flipped
    values = (vectors ^ 128).view(torch.int8)
    size = norms(values.float())
    return Operand(values, size, torch.zeros_like(size))


def _prepare_quantised(vectors: Tensor, frame: Frame) -> Operand:
    """Bytes in steps of the range: almost nothing is lost where the floats once were bytes."""
    wide = vectors if vectors.dtype == torch.float64 else vectors.float()
    steps = (wide - frame.lowest).div_(frame.step).sub_(128).float()
    values, size = steps.round().clamp_(-128, 127), norms(steps)
    rounding = 256 * ROUND_OFF * vectors.shape[1] ** 0.5  # of each operation on each value
    lost = norms(steps.sub_(values)) + 4 * rounding
    return Operand(values.to(torch.int8), size, lost)


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
    return dot.mul_(-2).add_(reference.size.square().float())


def _score_float(queries: Operand, reference: Operand) -> Tensor:
    with _matmul_precision("highest"):  # the bound holds for this one, whatever the user has set
        return _scores(queries, reference)


def _score_relaxed(queries: Operand, reference: Operand) -> Tensor:
    with _matmul_precision("medium"):
        return _scores(queries, reference)


def _score_int8(queries: Operand, reference: Operand) -> Tensor:
    dot = torch._int_mm(queries.values, reference.values.T)  # exact: int32 sums of 16-bit products
    return dot.mul_(-2).add_(reference.size.square().round().int())


def _score_quantised(queries: Operand, reference: Operand) -> Tensor:
    dot = torch._int_mm(queries.values, reference.values.T).float()
    return dot.mul_(-2).add_(reference.size.square().float())


def _error(queries: Operand, size: float, lost: float, *, output: float, sums: float) -> Tensor:
    dim = queries.values.shape[1]
    product = queries.size * size
    narrowed = queries.lost * size + (queries.size + queries.lost) * lost
    final = _gamma(COLUMNS) * size**2 + 4 * ROUND_OFF * (size**2 + 2 * product)
    return 2 * (narrowed + (output + sums) * product) + final + 4 * dim * TINY


def _gamma(dim: int) -> float:
    return dim * ROUND_OFF / max(1 - dim * ROUND_OFF, 0.5)


def _error_float32(queries: Operand, size: float, lost: float) -> Tensor:
    return _error(queries, size, lost, output=0.0, sums=_gamma(queries.values.shape[1]))


def _error_bfloat16(queries: Operand, size: float, lost: float) -> Tensor:
    return _error(queries, size, lost, output=2.0**-8, sums=_gamma(queries.values.shape[1]))


def _error_quantised(queries: Operand, size: float, lost: float) -> Tensor:
    return _error(queries, size, lost, output=0.0, sums=ROUND_OFF)


def _no_error(queries: Operand, size: float, lost: float) -> Tensor:
    del size, lost
    return torch.zeros_like(queries.size)


def _exact_int8(scores: Tensor, queries: Operand) -> Tensor:
    return scores + queries.size.square().round()[:, None]


FLOAT32 = Way("float32", _prepare_float32, _score_float, _error_float32)
RELAXED = Way("float32, relaxed", _prepare_relaxed, _score_relaxed, _error_float32)
BFLOAT16 = Way("bfloat16", _prepare_bfloat16, _score_float, _error_bfloat16)
INT8 = Way("int8", _prepare_int8, _score_int8, _no_error, _exact_int8)
QUANTISED = Way("quantised", _prepare_quantised, _score_quantised, _error_quantised)

INT8_DIMS = 2**31 // (3 * 2**14)  # as many features as int32 holds the score of


def ways(vectors: Tensor) -> tuple[Way, ...]:
    """The ways that can score these vectors, the plainest first."""
    if vectors.is_cuda:  # there a bfloat16 product may also sum in bfloat16: no bound
        return FLOAT32, RELAXED
    if vectors.shape[1] > INT8_DIMS:
        return FLOAT32, RELAXED, BFLOAT16
    return (
        (FLOAT32, INT8) if vectors.dtype == torch.uint8 else (FLOAT32, RELAXED, BFLOAT16, QUANTISED)
    )
