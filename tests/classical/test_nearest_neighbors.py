"""Exact against loops, scikit-learn, FAISS; ties; errors."""

import os
import subprocess
import sys
import threading
from pathlib import Path

import faiss
import numpy as np
import pytest
import torch
from classical.agreement import agree, as_users_run_it, bytes_like, normal
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.model_selection import cross_val_score
from sklearn.neighbors import KNeighborsClassifier

from thalweg.classical import (
    NearestNeighborClassifier,
    choose_k,
    euclidean,
    folds,
    majority_vote,
    manhattan,
    nearest_neighbors,
    neighbor_search,
)
from thalweg.classical.neighbor_search import (
    PreparedReference,
    SearchProblem,
    comparison_frame,
    kernels_by_speed,
)
from thalweg.errors import DataError, UnknownNameError, UsageError

BLOBS = torch.cat([normal(40, 5, seed=i) + 3 * normal(1, 5, seed=9 + i) for i in range(3)])
CLASSES = torch.arange(3).repeat_interleave(40)


def by_loop(queries, reference, *, k, metric):
    """The notes' code: every distance in a double loop, in Python's own float64."""
    rows = []
    for x in queries.double():
        distances = [
            (x - y).abs().sum() if metric == "l1" else (x - y).square().sum().sqrt()
            for y in reference.double()
        ]
        rows.append(sorted(range(len(distances)), key=lambda i: (distances[i], i))[:k])
    return torch.tensor(rows)


def in_float64(queries, reference, *, k, metric):
    p = 1 if metric == "l1" else 2
    difference = queries.double()[:, None] - reference.double()
    distances = difference.abs().sum(-1) if p == 1 else difference.square().sum(-1)
    order = distances.sort(dim=1, stable=True)
    values = order.values if p == 1 else order.values.sqrt()
    return values[:, :k], order.indices[:, :k]


@pytest.mark.parametrize("metric", ["l1", "l2"])
def test_is_the_loop_of_the_notes(metric):
    queries, reference = normal(7, 4, seed=1), normal(30, 4, seed=2)
    found = nearest_neighbors(queries, reference, k=5, metric=metric)
    assert torch.equal(found.indices, by_loop(queries, reference, k=5, metric=metric))


DATA = {
    "bytes": (bytes_like(20, 48, seed=1), bytes_like(3000, 48, seed=2)),
    "few values": (bytes_like(20, 3, seed=1) // 64, bytes_like(3000, 3, seed=2) // 64),
    "floats": (normal(20, 33, seed=1), normal(3001, 33, seed=2)),
    "far from 0": (normal(20, 8, seed=1) + 1e4, normal(2000, 8, seed=2) + 1e4),
    "float64, far": (
        normal(20, 8, seed=1, dtype=torch.float64) + 1e9,
        normal(2000, 8, seed=2, dtype=torch.float64) + 1e9,
    ),
    "tiny": (normal(20, 8, seed=1) * 1e-25, normal(2000, 8, seed=2) * 1e-25),
    "huge": (normal(20, 8, seed=1) * 1e25, normal(2000, 8, seed=2) * 1e25),
    "of many scales": (
        normal(20, 6, seed=1) * 10.0 ** torch.arange(-9, 9, 3),
        normal(2000, 6, seed=2) * 10.0 ** torch.arange(-9, 9, 3),
    ),
    "all alike": (torch.ones(5, 4), torch.ones(900, 4)),
    "twins": (normal(20, 5, seed=1), normal(40, 5, seed=2).repeat(40, 1)),
    "one column": (normal(20, 1, seed=1), normal(500, 1, seed=2)),
    "half": (normal(20, 16, seed=1).half(), normal(800, 16, seed=2).half()),
    "bytes against floats": (bytes_like(20, 16, seed=1), bytes_like(800, 16, seed=2).float()),
}


@pytest.mark.parametrize("metric", ["l1", "l2"])
@pytest.mark.parametrize("name", DATA)
def test_order_is_that_of_float64_whatever_the_data(name, metric):
    queries, reference = DATA[name]
    found = nearest_neighbors(queries, reference, k=10, metric=metric)
    distances, indices = in_float64(queries, reference, k=10, metric=metric)
    assert torch.equal(found.indices, indices)
    agree(found.distances, distances, digits=12)


KERNELS = [
    ("l2", euclidean.FLOAT32, False),
    ("l2", euclidean.RELAXED, False),
    ("l2", euclidean.BFLOAT16, False),
    ("l2", euclidean.QUANTISED, False),
    ("l2", euclidean.FLOAT32, True),
    ("l2", euclidean.INT8, True),
    ("l1", manhattan.CDIST, False),
    ("l1", manhattan.FLOAT32, False),
    ("l1", manhattan.CDIST, True),
    ("l1", manhattan.INT8, True),
]


@pytest.mark.parametrize(
    ("metric", "kernel", "bytes_in"), KERNELS, ids=lambda p: getattr(p, "name", p)
)
@pytest.mark.parametrize("dim", [1, 3, 600])
def test_every_kernel_finds_the_same_neighbours(metric, kernel, bytes_in, dim):
    draw = bytes_like if bytes_in else normal
    queries, reference = draw(20, dim, seed=3), draw(1500, dim, seed=4)
    problem = SearchProblem(reference, 7, metric, comparison_frame(reference), 2**26)
    found = neighbor_search._search_block(queries, PreparedReference(problem, kernel))
    distances, indices = in_float64(queries, reference, k=7, metric=metric)
    assert torch.equal(found.indices, indices)
    agree(found.distances.sqrt() if metric == "l2" else found.distances, distances, digits=12)


@pytest.mark.parametrize("has_exact_kernel", [True, False])
@pytest.mark.parametrize("shape", [(1, 1, 1), (5, 1, 3), (1, 9, 4), (7, 300, 1), (64, 784, 33)])
def test_products_of_bytes_are_exact(shape, has_exact_kernel, monkeypatch):
    if not has_exact_kernel:
        monkeypatch.setattr(euclidean, "_int8_sums_are_exact", lambda: False)
    m, k, n = shape
    left, right = ((bytes_like(*size) ^ 128).view(torch.int8) for size in ((m, k), (n, k)))
    for a, b in ((left, right), (left | 127, right & -128)):  # the second: 127 or −1, −128 or 0
        assert torch.equal(euclidean.int8_product(a, b.T).double(), a.double() @ b.T.double())
        assert torch.equal(euclidean.int8_product(a.T, a).double(), a.T.double() @ a.double())


def test_products_of_bytes_are_exact_with_the_kernel_of_an_older_processor():
    """oneDNN's AVX2 kernel cuts sums of two products off at 16 bits."""
    code = """
import torch
from thalweg.classical.euclidean import int8_product
a, b = torch.full((64, 64), 127).to(torch.int8), torch.full((64, 64), -128).to(torch.int8)
assert (int8_product(a, b) == -64 * 127 * 128).all()
"""
    environment = {**os.environ, "ONEDNN_MAX_CPU_ISA": "AVX2"}
    subprocess.run([sys.executable, "-c", code], env=environment, check=True)


@pytest.mark.parametrize(
    ("metric", "kernel", "bytes_in"), KERNELS, ids=lambda p: getattr(p, "name", p)
)
def test_no_score_is_further_off_than_its_kernel_admits(metric, kernel, bytes_in):
    draw = bytes_like if bytes_in else normal
    queries, reference = draw(40, 300, seed=5), draw(500, 300, seed=6)
    frame = comparison_frame(reference)
    own, other = kernel.prepare(queries, frame), kernel.prepare(reference, frame)
    scores = kernel.score(own, other).double()
    error = kernel.error(own, other.norm.max().item(), other.rounding.max().item())
    unit = frame.step if kernel is euclidean.QUANTISED else 1 / frame.scale
    difference = (queries.double()[:, None] - reference.double()) / unit
    if metric == "l1":
        truth = difference.abs().sum(-1)
    else:
        truth = difference.square().sum(-1) - own.norm.square()[:, None]
    # A constant of the query does not change who is nearest.
    off = (scores - truth) - (scores - truth).mean(1, keepdim=True)
    assert (off.abs() <= 2 * error[:, None] + 1e-9).all()


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_small_whole_numbers_with_their_many_ties(data):
    rows, dim = data.draw(st.integers(1, 60)), data.draw(st.integers(1, 4))
    k = data.draw(st.integers(1, rows))
    metric = data.draw(st.sampled_from(["l1", "l2"]))
    draw = torch.Generator().manual_seed(data.draw(st.integers(0, 99)))
    reference = torch.randint(-2, 3, (rows, dim), generator=draw).float()
    queries = torch.randint(-2, 3, (4, dim), generator=draw).float()
    found = nearest_neighbors(queries, reference, k=k, metric=metric)
    assert torch.equal(found.indices, in_float64(queries, reference, k=k, metric=metric)[1])


@pytest.mark.parametrize("metric", ["l1", "l2"])
def test_answers_are_faiss_s(metric):
    queries, reference = normal(50, 64, seed=1), normal(5000, 64, seed=2)
    index = faiss.IndexFlat(64, faiss.METRIC_L1 if metric == "l1" else faiss.METRIC_L2)
    index.add(reference.numpy())
    distances, indices = index.search(queries.numpy(), 5)
    found = nearest_neighbors(queries, reference, k=5, metric=metric)
    assert np.array_equal(found.indices, indices)
    agree(found.distances.square() if metric == "l2" else found.distances, distances, digits=5)


@pytest.mark.parametrize(("metric", "p"), [("l1", 1), ("l2", 2)])
@pytest.mark.parametrize("k", [1, 4, 15])
def test_predictions_are_scikit_learn_s(metric, p, k):
    peer = KNeighborsClassifier(k, algorithm="brute", p=p).fit(BLOBS, CLASSES)
    ours = NearestNeighborClassifier(
        reference=BLOBS, targets=CLASSES, num_classes=3, k=k, metric=metric, tie="lowest"
    )
    queries = 3 * normal(300, 5, seed=77)
    assert np.array_equal(ours.predict(queries), peer.predict(queries))
    agree(ours.probabilities(queries), peer.predict_proba(queries))


@pytest.mark.parametrize("memory", [2**20, 2**22, 2**30])
@pytest.mark.parametrize("draw", [bytes_like, normal])
def test_memory_changes_nothing_but_memory(memory, draw):
    queries, reference = draw(300, 500, seed=1), draw(2100, 500, seed=2)
    found = nearest_neighbors(queries, reference, k=3, memory=memory)
    plenty = nearest_neighbors(queries, reference, k=3)
    assert torch.equal(found.indices, plenty.indices)


def own_bytes():
    """What this process holds apart from files, as Linux counts it."""
    status = Path("/proc/self/status").read_text()
    return int(status.split("RssAnon:")[1].split()[0]) * 1024


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs Linux's accounts")
@pytest.mark.slow
def test_working_storage_is_what_was_allowed():
    reference = bytes_like(60_000, 512, seed=1)  # 30 MB; as floats 120 MB; all scores 72 MB
    queries = reference[:300]
    nearest_neighbors(queries, reference[:1000], k=3)
    before, seen, done = own_bytes(), [], threading.Event()

    def sample():
        while not done.wait(0.002):
            seen.append(own_bytes())

    sampler = threading.Thread(target=sample)
    sampler.start()
    found = nearest_neighbors(queries, reference, k=3, memory=2**24)
    done.set()
    sampler.join()
    assert torch.equal(found.indices[:, 0], torch.arange(300))
    assert max(seen) - before < 3 * 2**24


def test_large_problems_choose_a_kernel_and_still_agree(monkeypatch):
    monkeypatch.setattr(neighbor_search, "BENCHMARK_FROM", 0)
    for name in ("bytes", "floats", "twins"):
        queries, reference = DATA[name]
        for metric in ("l1", "l2"):
            found = nearest_neighbors(queries, reference, k=6, metric=metric)
            indices = in_float64(queries, reference, k=6, metric=metric)[1]
            assert torch.equal(found.indices, indices), (name, metric)


def test_the_global_precision_is_left_as_found():
    before = torch.get_float32_matmul_precision()
    kernels_by_speed.cache_clear()
    kernels_by_speed(euclidean.kernels(normal(2, 2)), torch.device("cpu"), 1)
    assert torch.get_float32_matmul_precision() == before == "highest"


def test_a_low_global_precision_costs_no_exactness(monkeypatch):
    asked = []

    def spy(precision, original=torch.set_float32_matmul_precision):
        asked.append(precision)
        original(precision)

    monkeypatch.setattr(torch, "set_float32_matmul_precision", spy)
    torch.set_float32_matmul_precision("medium")
    try:
        test_every_kernel_finds_the_same_neighbours(
            "l2", euclidean.FLOAT32, bytes_in=False, dim=600
        )
        assert asked[:3] == ["medium", "highest", "medium"]
        assert torch.get_float32_matmul_precision() == "medium"
    finally:
        torch.set_float32_matmul_precision("highest")


def test_ties_are_settled_as_asked():
    near = torch.tensor([[2, 1, 1, 2], [0, 0, 1, 2], [1, 0, 2, 0]])
    assert majority_vote(near, num_classes=3, tie="nearest").tolist() == [2, 0, 0]
    assert majority_vote(near, num_classes=3, tie="lowest").tolist() == [1, 0, 0]
    assert majority_vote(near, num_classes=3, tie="abstain").tolist() == [-1, 0, 0]


def test_blank_regions_are_where_the_vote_is_tied():
    corners = torch.tensor([[0.0, 0], [1, 0], [0, 1]])
    model = NearestNeighborClassifier(
        reference=corners, targets=torch.arange(3), num_classes=3, k=3, tie="abstain"
    )
    assert model.predict(torch.rand(9, 2)).eq(-1).all()


def test_rotation_changes_l1_neighbours_and_not_l2():
    points, queries = normal(400, 2, seed=1), normal(100, 2, seed=2)
    c = 0.5**0.5
    turn = torch.tensor([[c, -c], [c, c]])

    def same(metric):
        before = nearest_neighbors(queries, points, k=1, metric=metric).indices
        after = nearest_neighbors(queries @ turn, points @ turn, k=1, metric=metric).indices
        return (before == after).double().mean()

    assert same("l2") == 1
    assert same("l1") < 0.9


def test_k_is_the_one_that_scikit_learn_s_folds_prefer():
    inputs, targets = BLOBS + 2 * normal(120, 5, seed=5), CLASSES
    choice = choose_k(inputs, targets, num_classes=3, candidates=(1, 5, 15), tie="lowest", seed=3)
    splits = [(a.numpy(), b.numpy()) for a, b in folds(targets, num_folds=5, seed=3)]
    for k, score in choice.scores.items():
        peer = KNeighborsClassifier(k, algorithm="brute")
        agree(score.values, cross_val_score(peer, inputs.numpy(), targets.numpy(), cv=splits))
    best = max(score.mean for score in choice.scores.values())
    assert choice.scores[choice.k].mean == best


def test_a_memory_mapped_reference_is_searched_in_place(tmp_path):
    held = np.memmap(tmp_path / "reference", np.uint8, "w+", shape=(3000, 48))
    held[:] = DATA["bytes"][1]
    found = nearest_neighbors(DATA["bytes"][0], torch.from_numpy(held), k=2)
    assert torch.equal(found.indices, nearest_neighbors(*DATA["bytes"], k=2).indices)


ERRORS = [
    ({"k": 0}, UsageError, r"k must lie in 1…30"),
    ({"k": 31}, UsageError, r"k must lie in 1…30(.|\n)*k=30"),
    ({"metric": "l3"}, UnknownNameError, r"no metric is called 'l3'"),
    ({"memory": 10}, UsageError, "at least 1 MiB"),
    ({"queries": torch.zeros(2, 3)}, DataError, "3 columns against 4"),
    ({"queries": torch.zeros(0, 4)}, DataError, "at least one row"),
    ({"reference": torch.zeros(30, 0)}, DataError, "at least one row and one column"),
    (
        {"reference": torch.zeros(30, 4).index_fill(0, torch.tensor(7), torch.nan)},
        DataError,
        "nan in row 7, column 0",
    ),
    ({"queries": torch.full((1, 4), torch.inf)}, DataError, "inf in row 0"),
    ({"queries": torch.zeros(2, 4, dtype=torch.int64)}, DataError, "floating point or uint8"),
]


@pytest.mark.parametrize(("change", "kind", "message"), ERRORS, ids=lambda p: str(p)[:20])
def test_what_cannot_be_searched_is_said(change, kind, message):
    given_ = {"queries": normal(2, 4), "reference": normal(30, 4), "k": 1} | change
    with pytest.raises(kind, match=message):
        as_users_run_it(nearest_neighbors)(**given_)


def test_a_classifier_of_one_class_or_too_large_a_k_is_refused():
    with pytest.raises(DataError, match="at least two classes"):
        NearestNeighborClassifier(
            reference=normal(5, 2), targets=torch.zeros(5, dtype=torch.int64), num_classes=2
        )
    with pytest.raises(UsageError, match="k must lie in 1…5"):
        NearestNeighborClassifier(
            reference=normal(5, 2), targets=torch.arange(5) % 2, num_classes=2, k=6
        )
    with pytest.raises(UsageError, match="k must lie in"):
        choose_k(normal(10, 2), torch.arange(10) % 2, num_classes=2, candidates=(50,))
