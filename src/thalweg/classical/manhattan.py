"""Manhattan distances (L1) at the rate of the vector unit, each with a bound on its error.

|x − y| = 2 max(x, y) − x − y, so Σ|x − y| = 2 Σ max(x, y) − Σx − Σy: one maximum and one sum, which
a product with a vector of ones computes at the rate of memory. On bytes it is exact. Measured on
one core of an EPYC 9004 at 3,072 features, 10⁹ differences a second: torch.cdist 1.2, this 5.0 in
float32, 22 on bytes; FAISS 1.15's IndexFlat 8.2.
"""

import torch
from torch import Tensor

from thalweg.classical.euclidean import ROUND_OFF, TINY, DistanceKernel, Frame, Operand, center

ROWS_PER_BLOCK = 256  # bytes of 3,072 features stay in a core's second-level cache


def _norms(vectors: Tensor) -> Tensor:
    return torch.linalg.vector_norm(vectors, 1, dim=1).double()


def _prepare_float32(vectors: Tensor, frame: Frame) -> Operand:
    values = center(vectors, frame)
    norm = _norms(values)
    return Operand(values, norm, norm * ROUND_OFF)


def _prepare_int8(vectors: Tensor, frame: Frame) -> Operand:
    del frame
    values = (vectors ^ 128).view(torch.int8)
    norm = _norms(values.float())
    return Operand(values, norm, torch.zeros_like(norm))


def _score_cdist(queries: Operand, reference: Operand) -> Tensor:
    return torch.cdist(queries.values, reference.values, p=1)


def _maxima(queries: Tensor, reference: Tensor) -> Tensor:
    """Σ max(x, y) for every pair, as [reference, query]."""
    ones = torch.ones(reference.shape[1], 1, dtype=reference.dtype)
    product = torch._int_mm if reference.dtype == torch.int8 else torch.mm
    maxima = reference.new_empty(ROWS_PER_BLOCK, reference.shape[1])
    columns = []
    for rows in reference.split(ROWS_PER_BLOCK):
        block = maxima[: len(rows)]
        sums = [product(torch.maximum(rows, query, out=block), ones) for query in queries]
        columns.append(torch.cat(sums, dim=1))
    return torch.cat(columns)


def _score_maxima(queries: Operand, reference: Operand) -> Tensor:
    maxima = _maxima(queries.values, reference.values)
    own, others = (operand.values.sum(1, dtype=maxima.dtype) for operand in (queries, reference))
    return maxima.mul_(2).sub_(own).sub_(others[:, None]).T


def _error_float32(queries: Operand, norm: float, rounding: float) -> Tensor:
    dim = queries.values.shape[1]
    total = queries.norm + norm  # ≥ Σ|max(x, y)|, and ≥ the distance itself
    return queries.rounding + rounding + 4 * (dim + 4) * ROUND_OFF * total + 4 * dim * TINY


def _no_error(queries: Operand, norm: float, rounding: float) -> Tensor:
    del norm, rounding
    return torch.zeros_like(queries.norm)


def _exact_int8(scores: Tensor, queries: Operand) -> Tensor:
    del queries
    return scores


CDIST = DistanceKernel("cdist", _prepare_float32, _score_cdist, _error_float32)
FLOAT32 = DistanceKernel("float32", _prepare_float32, _score_maxima, _error_float32)
INT8 = DistanceKernel("int8", _prepare_int8, _score_maxima, _no_error, _exact_int8)


def kernels(vectors: Tensor) -> tuple[DistanceKernel, ...]:
    """The kernels that can score these vectors, the plainest first."""
    if vectors.is_cuda:
        return (CDIST,)
    return (CDIST, FLOAT32, INT8) if vectors.dtype == torch.uint8 else (CDIST, FLOAT32)
