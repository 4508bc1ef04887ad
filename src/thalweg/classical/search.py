"""The k nearest of many vectors, exactly, in bounded memory.

A quick `Way` scores every pair and bounds its own error; the few pairs that the bound leaves in
doubt are measured again in float64. Where too many are left in doubt, the query goes on to the next
attempt: more candidates, then every distance in float64. So the answer never depends on the way.
"""

import time
from collections.abc import Iterator
from functools import cache
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from thalweg.classical import euclidean, manhattan
from thalweg.classical.euclidean import Frame, Operand, Way

Metric = Literal["l1", "l2"]

FAMILIES = {"l2": euclidean.ways, "l1": manhattan.ways}
GROUPS = (16, 8, 4)  # scores that share a first sieve: their minimum over columns is vectorised
TILE = 2**22  # scores at once: 16 MiB, which the C library reuses and does not hand back
WORTH_A_PROBE = 5e9  # pairs × features below which the plainest way takes well under a second
SPARE = 64  # candidates beyond k, for what the bound leaves in doubt
SPARE_OF_EXACT = 8  # nothing is in doubt but ties
FEW = 64  # queries that a way is tried on
TOLERATED = 0.05  # share of them that may need a second attempt


class Found(NamedTuple):
    """Per query: exact distances (squared for L2), ascending, ties by index; and the indices."""

    distances: Tensor
    indices: Tensor


class Problem(NamedTuple):
    reference: Tensor
    k: int
    metric: Metric
    frame: Frame
    memory: int  # bytes that the working storage may take


class Prepared:
    """The reference made ready for one way, part by part: made once where memory allows, else at
    every pass."""

    def __init__(self, problem: Problem, way: Way) -> None:
        self.problem, self.way = problem, way
        self._kept: dict[int, Operand] = {}
        self._room = problem.memory * 5 // 8  # bytes; the rest is for queries and scores

    def __iter__(self) -> Iterator[tuple[int, Operand]]:
        reference = self.problem.reference
        rows = _rows_at_once(self.problem)
        for start in range(0, len(reference), rows):
            if start in self._kept:
                yield start, self._kept[start]
                continue
            part = self.way.prepare(reference[start : start + rows], self.problem.frame)
            self._room -= part.values.nbytes
            if self._room >= 0:
                self._kept[start] = part
            yield start, part


def search(queries: Tensor, problem: Problem) -> Found:
    """The k nearest rows of the reference for each query."""
    prepared = _chosen(queries, problem)
    found = [_settled(block, prepared) for block in queries.split(_queries_at_once(problem))]
    return Found(*(torch.cat(parts) for parts in zip(*found, strict=True)))


def frame_of(reference: Tensor) -> Frame:
    """The mean of the reference as origin, and the power of two that brings it to about 1."""
    if reference.dtype == torch.uint8:
        # Any origin will do; the ways that are exact on bytes need a whole number.
        return Frame(torch.full(reference.shape[1:], 128.0, device=reference.device), 1.0, 0.0, 1.0)
    parts = reference.split(_rows(2**24, reference.shape[1] * 8))
    total = sum(part.sum(0, dtype=torch.float64) for part in parts)
    lowest = min(part.min().item() for part in parts)
    highest = max(part.max().item() for part in parts)
    spread = highest - lowest
    exponent = round(torch.tensor(spread, dtype=torch.float64).log2().item()) if spread > 0 else 0
    origin = torch.as_tensor(total, device=reference.device) / len(reference)
    return Frame(origin, 2.0**-exponent, lowest, spread / 255 or 1.0)


def _chosen(queries: Tensor, problem: Problem) -> Prepared:
    """For the quickest way whose bound settles nearly all of a few queries at the first attempt."""
    families = FAMILIES[problem.metric](problem.reference)
    if len(queries) * problem.reference.numel() < WORTH_A_PROBE:
        return Prepared(problem, families[0])
    threads = torch.get_num_threads()
    for way in by_speed(families, problem.reference.device, threads):
        if way is families[0]:
            break
        few = queries[:: max(1, len(queries) // FEW)][:FEW]
        prepared = Prepared(problem, way)
        _, doubtful = _attempt(few, prepared, width=_first_width(prepared))
        if len(doubtful) <= TOLERATED * len(few):
            return prepared
    return Prepared(problem, families[0])


@cache
def by_speed(families: tuple[Way, ...], device: torch.device, threads: int) -> tuple[Way, ...]:
    """The ways, the quickest on this device first: narrow formats are 4× faster on one CPU, 100×
    slower on another, so it is measured, once a process. Cost: a few ms; 1 s where one is emulated.
    """
    del threads  # part of what the answer was measured for
    sample = torch.arange(2**19, device=device).remainder(251).to(torch.uint8).view(512, 1024)
    frame = frame_of(sample)

    def seconds(way: Way) -> float:
        operand = way.prepare(sample, frame)
        queries = Operand(*(part[:128] for part in operand))
        taken = []
        for _ in range(3):
            began = time.perf_counter()
            way.score(queries, operand)[0, 0].item()
            taken.append(time.perf_counter() - began)
        return min(taken)

    return tuple(sorted(families, key=seconds))


def _rows(memory: int, row_bytes: int) -> int:
    return max(1, memory // row_bytes)


def _queries_at_once(problem: Problem) -> int:
    return min(2048, _rows(problem.memory // 8, problem.reference.shape[1] * 8))


def _rows_at_once(problem: Problem) -> int:
    """Of the reference: so that a tile of scores, and what a part is prepared from, stay small."""
    few_bytes = _rows(problem.memory // 8, problem.reference.shape[1] * 8)
    return min(few_bytes, TILE // _queries_at_once(problem))


def _settled(queries: Tensor, prepared: Prepared) -> Found:
    problem, rows = prepared.problem, len(prepared.problem.reference)
    plainest = Prepared(problem, FAMILIES[problem.metric](queries)[0])
    found, doubtful = _attempt(queries, prepared, width=_first_width(prepared))
    for index in _blocks(doubtful, 256):
        wide = min(8 * problem.k + 512, rows)
        again, still = _attempt(queries[index], plainest, width=wide)
        for stubborn in _blocks(still, 16):
            exact = _every_distance(queries[index[stubborn]], problem)
            _overwrite(again, stubborn, exact)
        _overwrite(found, index, again)
    return found


def _first_width(prepared: Prepared) -> int:
    spare = SPARE_OF_EXACT if prepared.way.exact else SPARE
    return min(prepared.problem.k + spare, len(prepared.problem.reference))


def _blocks(rows: Tensor, size: int) -> tuple[Tensor, ...]:
    return rows.split(size) if len(rows) else ()


def _overwrite(found: Found, rows: Tensor, by: Found) -> None:
    found.distances[rows] = by.distances
    found.indices[rows] = by.indices


def _attempt(queries: Tensor, prepared: Prepared, *, width: int) -> tuple[Found, Tensor]:
    """What one way finds with `width` candidates a query, and the queries that it cannot settle."""
    problem, way = prepared.problem, prepared.way
    own = way.prepare(queries, problem.frame)
    scores, candidates, error = _candidates(own, prepared, width)
    limit = scores[:, problem.k - 1] + 2 * error
    # Not "<=": a NaN or infinite bound must leave the query in doubt.
    settled = scores[:, -1] > limit
    if width == len(problem.reference):
        settled = torch.isfinite(limit)
    inside = (scores <= limit[:, None]) & settled[:, None]
    inside[:, : problem.k] = True
    distances = torch.full_like(scores, torch.inf)
    if way.exact:
        distances[inside] = way.exact(scores, own)[inside]
    else:
        distances[inside] = _pair_distances(queries, problem, _pairs(inside, candidates))
    return _in_order(distances, candidates, problem.k), (~settled).nonzero()[:, 0]


def _pairs(inside: Tensor, candidates: Tensor) -> tuple[Tensor, Tensor]:
    rows, columns = inside.nonzero(as_tuple=True)
    return rows, candidates[rows, columns]


def _candidates(own: Operand, prepared: Prepared, width: int) -> tuple[Tensor, Tensor, Tensor]:
    """The `width` lowest scores a query, ascending; whose they are; their error bound."""
    best: tuple[Tensor, Tensor] | None = None
    size = lost = 0.0
    way = prepared.way
    for start, other in prepared:
        size, lost = max(size, other.size.max().item()), max(lost, other.lost.max().item())
        values, indices = _lowest(way.score(own, other), width)
        best = _merged(best, (values.double(), indices + start), width)
    assert best is not None
    return *best, way.error(own, size, lost)


def _lowest(scores: Tensor, width: int) -> tuple[Tensor, Tensor]:
    """The lowest scores of each row and their columns, in no order."""
    columns = scores.shape[1]
    fits = (size for size in GROUPS if columns % size == 0 and columns // size >= 3 * width)
    group = next(fits, 1)
    if group == 1:
        return scores.topk(min(width, columns), largest=False, sorted=False)
    # The lowest `width` scores lie in the `width` groups of lowest minimum.
    grouped = scores.reshape(len(scores), group, columns // group)
    chosen = grouped.amin(1).topk(width, largest=False, sorted=False).indices
    members = chosen[:, None, :].expand(-1, group, -1)
    values, place = grouped.gather(2, members).flatten(1).topk(width, largest=False, sorted=False)
    member = place // width
    return values, member * (columns // group) + chosen.gather(1, place % width)


def _merged(
    best: tuple[Tensor, Tensor] | None, more: tuple[Tensor, Tensor], width: int
) -> tuple[Tensor, Tensor]:
    if best is not None:
        more = torch.cat((best[0], more[0]), dim=1), torch.cat((best[1], more[1]), dim=1)
    values, place = more[0].topk(min(width, more[0].shape[1]), largest=False)
    return values, more[1].gather(1, place)


def _in_order(distances: Tensor, indices: Tensor, k: int) -> Found:
    """The first k by distance, then by index."""
    by_index = indices.argsort(dim=1)
    distances, indices = distances.gather(1, by_index), indices.gather(1, by_index)
    order = distances.sort(dim=1, stable=True)
    return Found(order.values[:, :k], indices.gather(1, order.indices[:, :k]))


def _pair_distances(queries: Tensor, problem: Problem, pairs: tuple[Tensor, Tensor]) -> Tensor:
    """Exact distances of the pairs (queries[rows], reference[columns]), in float64."""
    rows, columns = pairs
    at_once = _rows(min(problem.memory // 4, 2**21), queries.shape[1] * 8)  # fits a core's cache
    parts = zip(rows.split(at_once), columns.split(at_once), strict=True)
    found = [_distance(queries[a], problem.reference[b], problem.metric) for a, b in parts]
    return torch.cat(found) if found else queries.new_empty(0, dtype=torch.float64)


def _every_distance(queries: Tensor, problem: Problem) -> Found:
    """The exact answer the slow way: all distances in float64, sorted."""
    at_once = _rows(problem.memory // 4, len(queries) * queries.shape[1] * 8)
    parts = problem.reference.split(at_once)
    distances = torch.cat(
        [_distance(queries[:, None], part, problem.metric) for part in parts], dim=1
    )
    order = distances.sort(dim=1, stable=True)
    return Found(order.values[:, : problem.k], order.indices[:, : problem.k])


def _distance(first: Tensor, second: Tensor, metric: Metric) -> Tensor:
    difference = first.double().sub(second.double())
    if metric == "l1":
        return difference.abs_().sum(-1)
    return difference.square_().sum(-1)
