"""The words of a visual vocabulary."""

import numpy as np
import pytest
import torch
from classical.agreement import agree, as_users_run_it, bytes_like, normal
from sklearn.cluster import KMeans

from thalweg.classical import k_means
from thalweg.errors import DataError, UsageError

POINTS = torch.cat([normal(60, 4, seed=i) + 6 * normal(1, 4, seed=50 + i) for i in range(5)])


def test_from_the_same_start_it_ends_where_scikit_learn_s_does():
    start = POINTS[[0, 61, 122, 183, 244]]
    ours = k_means(POINTS, 5, start=start, tolerance=0.0)
    peer = KMeans(5, init=start.numpy(), n_init=1, tol=0, algorithm="lloyd").fit(POINTS.numpy())
    agree(ours.centers, peer.cluster_centers_, digits=5)
    assert np.array_equal(ours.assignment, peer.labels_)
    agree(ours.inertia, peer.inertia_, digits=5)
    assert ours.converged


def test_its_own_start_is_as_good_as_scikit_learn_s():
    peer = KMeans(5, n_init=10, random_state=0).fit(POINTS.numpy())
    best = min(k_means(POINTS, 5, seed=seed).inertia for seed in range(3))
    assert best <= 1.01 * peer.inertia_


def test_each_iteration_lowers_inertia_and_running_out_is_said():
    start = POINTS[:5]
    inertias = []
    for count in range(6):
        found = k_means(POINTS, 5, start=start, max_iterations=count, tolerance=0.0)
        inertias.append(found.inertia)
    assert inertias == sorted(inertias, reverse=True)
    assert not k_means(POINTS, 5, start=start, max_iterations=1, tolerance=0.0).converged


def test_a_cluster_that_loses_its_points_is_put_on_the_farthest():
    start = torch.cat((POINTS[:2], torch.full((1, 4), 1e3)))
    found = k_means(POINTS, 3, start=start)
    assert torch.bincount(found.assignment, minlength=3).min() > 0


def test_fewer_distinct_points_than_clusters_and_one_a_cluster():
    found = k_means(torch.ones(6, 2), 3)
    assert torch.equal(found.centers, torch.ones(3, 2))
    assert found.inertia == 0
    assert k_means(POINTS[:4], 4).inertia == pytest.approx(0, abs=1e-3)


def test_bytes_and_the_same_seed():
    first, again = (k_means(bytes_like(300, 3), 7, seed=2) for _ in range(2))
    assert torch.equal(first.centers, again.centers)


def test_impossible_clusters_are_refused():
    with pytest.raises(UsageError, match="num_clusters must lie in 1…3, the number of points"):
        k_means(normal(3, 2), 4)
    with pytest.raises(DataError, match="nan"):
        k_means(torch.full((3, 2), torch.nan), 2)
    with pytest.raises(DataError, match="columns"):
        as_users_run_it(k_means)(normal(9, 2), 2, start=normal(2, 3))
