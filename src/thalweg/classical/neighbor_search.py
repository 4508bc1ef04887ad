"""Exact k-nearest-neighbour search in bounded memory.

A fast `DistanceKernel` scores every pair and bounds its own error; the few pairs that the bound
leaves in doubt are measured again in float64. A query with too many doubtful pairs gets another
attempt: more candidates, then every distance in float64. So the result never depends on the kernel.
"""

import time
from collections.abc import Iterator
from functools import cache
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from thalweg.classical import euclidean, manhattan
from thalweg.classical.euclidean import DistanceKernel, Frame, Operand

Metric = Literal["l1", "l2"]

KERNELS = {"l2": euclidean.kernels, "l1": manhattan.kernels}
GROUPS = (16, 8, 4)  # scores filtered together by their minimum, which is vectorised
SCORES_PER_TILE = 2**22  # 16 MiB, which the C library reuses instead of returning
BENCHMARK_FROM = 5e9  # pairs × features; fewer take the plainest kernel well under a second
EXTRA_CANDIDATES = 64  # candidates beyond k, for pairs that the bound leaves in doubt
EXTRA_OF_EXACT = 8  # only ties are in doubt
TRIAL_QUERIES = 64  # queries that a kernel is tried on
MAX_DOUBTFUL = 0.05  # share of the trial queries that may need a second attempt


class SearchResult(NamedTuple):
    """Per query: exact distances (squared for L2), ascending, ties by index; and the indices."""

    distances: Tensor
    indices: Tensor


class SearchProblem(NamedTuple):
    reference: Tensor
    k: int
    metric: Metric
    frame: Frame
    memory: int  # bytes of working storage


class PreparedReference:
    """The reference, prepared for one kernel part by part: cached where memory allows it."""

    def __init__(self, problem: SearchProblem, kernel: DistanceKernel) -> None:
        self.problem, self.kernel = problem, kernel
        self._cache: dict[int, Operand] = {}
        self._bytes_left = problem.memory * 5 // 8  # the rest is for queries and scores

    def __iter__(self) -> Iterator[tuple[int, Operand]]:
        reference = self.problem.reference
        rows = _rows_per_part(self.problem)
        for start in range(0, len(reference), rows):
            if start in self._cache:
                yield start, self._cache[start]
                continue
            part = self.kernel.prepare(reference[start : start + rows], self.problem.frame)
            self._bytes_left -= part.values.nbytes
            if self._bytes_left >= 0:
                self._cache[start] = part
            yield start, part


def search(queries: Tensor, problem: SearchProblem) -> SearchResult:
    """Find the k nearest rows of the reference for each query."""
    prepared = _choose_kernel(queries, problem)
    blocks = queries.split(_queries_per_block(problem))
    results = [_search_block(block, prepared) for block in blocks]
    return SearchResult(*(torch.cat(parts) for parts in zip(*results, strict=True)))


def comparison_frame(reference: Tensor) -> Frame:
    """The mean of the reference as origin, and the power of two that scales it to about 1."""
    if reference.dtype == torch.uint8:
        # Any origin would do; the kernels that are exact on bytes need a whole number.
        return Frame(torch.full(reference.shape[1:], 128.0, device=reference.device), 1.0, 0.0, 1.0)
    parts = reference.split(_rows(2**24, reference.shape[1] * 8))
    total = sum(part.sum(0, dtype=torch.float64) for part in parts)
    lowest = min(part.min().item() for part in parts)
    highest = max(part.max().item() for part in parts)
    spread = highest - lowest
    exponent = round(torch.tensor(spread, dtype=torch.float64).log2().item()) if spread > 0 else 0
    origin = torch.as_tensor(total, device=reference.device) / len(reference)
    return Frame(origin, 2.0**-exponent, lowest, spread / 255 or 1.0)


def _choose_kernel(queries: Tensor, problem: SearchProblem) -> PreparedReference:
    """Prepare for the fastest kernel that settles nearly all of a few queries at once."""
    kernels = KERNELS[problem.metric](problem.reference)
    if len(queries) * problem.reference.numel() < BENCHMARK_FROM:
        return PreparedReference(problem, kernels[0])
    threads = torch.get_num_threads()
    for kernel in kernels_by_speed(kernels, problem.reference.device, threads):
        if kernel is kernels[0]:
            break
        sample = queries[:: max(1, len(queries) // TRIAL_QUERIES)][:TRIAL_QUERIES]
        prepared = PreparedReference(problem, kernel)
        _, doubtful = _try_kernel(sample, prepared, width=_first_width(prepared))
        if len(doubtful) <= MAX_DOUBTFUL * len(sample):
            return prepared
    return PreparedReference(problem, kernels[0])


@cache
def kernels_by_speed(
    kernels: tuple[DistanceKernel, ...], device: torch.device, threads: int
) -> tuple[DistanceKernel, ...]:
    """Benchmark the kernels on this device, once a process; return the fastest first.

    Narrow formats are 4× faster on one CPU, 100× slower on another. Cost: a few ms; 1 s where a
    format is emulated.
    """
    del threads  # part of the cache key
    sample = torch.arange(2**19, device=device).remainder(251).to(torch.uint8).view(512, 1024)
    frame = comparison_frame(sample)

    def measure_seconds(kernel: DistanceKernel) -> float:
        operand = kernel.prepare(sample, frame)
        queries = Operand(*(part[:128] for part in operand))
        times = []
        for _ in range(3):
            start = time.perf_counter()
            kernel.score(queries, operand)[0, 0].item()
            times.append(time.perf_counter() - start)
        return min(times)

    return tuple(sorted(kernels, key=measure_seconds))


def _rows(memory: int, row_bytes: int) -> int:
    return max(1, memory // row_bytes)


def _queries_per_block(problem: SearchProblem) -> int:
    return min(2048, _rows(problem.memory // 8, problem.reference.shape[1] * 8))


def _rows_per_part(problem: SearchProblem) -> int:
    """Rows of the reference: a tile of scores and the part itself stay small."""
    most = _rows(problem.memory // 8, problem.reference.shape[1] * 8)
    return min(most, SCORES_PER_TILE // _queries_per_block(problem))


def _search_block(queries: Tensor, prepared: PreparedReference) -> SearchResult:
    problem, rows = prepared.problem, len(prepared.problem.reference)
    plainest = PreparedReference(problem, KERNELS[problem.metric](queries)[0])
    result, doubtful = _try_kernel(queries, prepared, width=_first_width(prepared))
    for index in _blocks(doubtful, 256):
        width = min(8 * problem.k + 512, rows)
        second, still_doubtful = _try_kernel(queries[index], plainest, width=width)
        for hard in _blocks(still_doubtful, 16):
            _overwrite(second, hard, _brute_force(queries[index[hard]], problem))
        _overwrite(result, index, second)
    return result


def _first_width(prepared: PreparedReference) -> int:
    spare = EXTRA_OF_EXACT if prepared.kernel.exact else EXTRA_CANDIDATES
    return min(prepared.problem.k + spare, len(prepared.problem.reference))


def _blocks(rows: Tensor, size: int) -> tuple[Tensor, ...]:
    return rows.split(size) if len(rows) else ()


def _overwrite(result: SearchResult, rows: Tensor, replacement: SearchResult) -> None:
    result.distances[rows] = replacement.distances
    result.indices[rows] = replacement.indices


def _try_kernel(
    queries: Tensor, prepared: PreparedReference, *, width: int
) -> tuple[SearchResult, Tensor]:
    """Search with one kernel and `width` candidates a query; also return the doubtful queries."""
    problem, kernel = prepared.problem, prepared.kernel
    operand = kernel.prepare(queries, problem.frame)
    scores, candidates, error = _candidates(operand, prepared, width)
    limit = scores[:, problem.k - 1] + 2 * error
    # Not "<=": a NaN or infinite bound must leave the query in doubt.
    is_certain = scores[:, -1] > limit
    if width == len(problem.reference):
        is_certain = torch.isfinite(limit)
    inside = (scores <= limit[:, None]) & is_certain[:, None]
    inside[:, : problem.k] = True
    distances = torch.full_like(scores, torch.inf)
    if kernel.exact:
        distances[inside] = kernel.exact(scores, operand)[inside]
    else:
        distances[inside] = _pair_distances(queries, problem, _pairs(inside, candidates))
    return _first_in_order(distances, candidates, problem.k), (~is_certain).nonzero()[:, 0]


def _pairs(inside: Tensor, candidates: Tensor) -> tuple[Tensor, Tensor]:
    rows, columns = inside.nonzero(as_tuple=True)
    return rows, candidates[rows, columns]


def _candidates(
    queries: Operand, prepared: PreparedReference, width: int
) -> tuple[Tensor, Tensor, Tensor]:
    """The `width` lowest scores of each query, ascending; their rows; their error bound."""
    best: tuple[Tensor, Tensor] | None = None
    norm = rounding = 0.0
    kernel = prepared.kernel
    for start, part in prepared:
        norm = max(norm, part.norm.max().item())
        rounding = max(rounding, part.rounding.max().item())
        values, indices = _lowest(kernel.score(queries, part), width)
        best = _merge(best, (values.double(), indices + start), width)
    assert best is not None
    return *best, kernel.error(queries, norm, rounding)


def _lowest(scores: Tensor, width: int) -> tuple[Tensor, Tensor]:
    """The lowest scores of each row and their columns, unordered."""
    columns = scores.shape[1]
    divisors = (size for size in GROUPS if columns % size == 0 and columns // size >= 3 * width)
    group = next(divisors, 1)
    if group == 1:
        return scores.topk(min(width, columns), largest=False, sorted=False)
    # The lowest `width` scores lie in the `width` groups of lowest minimum.
    grouped = scores.reshape(len(scores), group, columns // group)
    lowest_groups = grouped.amin(1).topk(width, largest=False, sorted=False).indices
    members = lowest_groups[:, None, :].expand(-1, group, -1)
    values, place = grouped.gather(2, members).flatten(1).topk(width, largest=False, sorted=False)
    member = place // width
    return values, member * (columns // group) + lowest_groups.gather(1, place % width)


def _merge(
    best: tuple[Tensor, Tensor] | None, more: tuple[Tensor, Tensor], width: int
) -> tuple[Tensor, Tensor]:
    if best is not None:
        more = torch.cat((best[0], more[0]), dim=1), torch.cat((best[1], more[1]), dim=1)
    values, place = more[0].topk(min(width, more[0].shape[1]), largest=False)
    return values, more[1].gather(1, place)


def _first_in_order(distances: Tensor, indices: Tensor, k: int) -> SearchResult:
    """The first k by distance, then by index."""
    by_index = indices.argsort(dim=1)
    distances, indices = distances.gather(1, by_index), indices.gather(1, by_index)
    order = distances.sort(dim=1, stable=True)
    return SearchResult(order.values[:, :k], indices.gather(1, order.indices[:, :k]))


def _pair_distances(
    queries: Tensor, problem: SearchProblem, pairs: tuple[Tensor, Tensor]
) -> Tensor:
    """Exact distances of the pairs (queries[rows], reference[columns]), in float64."""
    rows, columns = pairs
    size = _rows(min(problem.memory // 4, 2**21), queries.shape[1] * 8)  # fits a core's cache
    blocks = zip(rows.split(size), columns.split(size), strict=True)
    distances = [_distance(queries[a], problem.reference[b], problem.metric) for a, b in blocks]
    return torch.cat(distances) if distances else queries.new_empty(0, dtype=torch.float64)


def _brute_force(queries: Tensor, problem: SearchProblem) -> SearchResult:
    """Sort all distances in float64: exact and slow."""
    size = _rows(problem.memory // 4, len(queries) * queries.shape[1] * 8)
    parts = problem.reference.split(size)
    distances = torch.cat(
        [_distance(queries[:, None], part, problem.metric) for part in parts], dim=1
    )
    order = distances.sort(dim=1, stable=True)
    return SearchResult(order.values[:, : problem.k], order.indices[:, : problem.k])


def _distance(first: Tensor, second: Tensor, metric: Metric) -> Tensor:
    difference = first.double().sub(second.double())
    if metric == "l1":
        return difference.abs_().sum(-1)
    return difference.square_().sum(-1)
