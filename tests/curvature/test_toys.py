import numpy as np
import pytest
import torch

from thalweg.curvature.steps import (
    gradient_step,
    momentum_step,
    newton_step,
    saddle_free_newton_step,
    trajectory,
    trust_region_step,
    with_noise,
)
from thalweg.curvature.toys import TOYS, ravine


@pytest.mark.parametrize("name", list(TOYS))
def test_the_facts_are_true(name):
    toy = TOYS[name]()
    for fact in toy.critical_points:
        at = torch.tensor(fact.position, dtype=torch.float64)
        assert not toy.gradient(at).any()
        found = torch.linalg.eigvalsh(toy.hessian(at)).numpy()
        np.testing.assert_allclose(found, fact.eigenvalues, atol=1e-12)


@pytest.mark.parametrize("name", list(TOYS))
def test_taylor_to_second_order_errs_by_the_third(name):
    """L(w + d) − L − dᵀg − ½dᵀHd shrinks at least as ‖d‖³: by 8 or more when d is halved."""
    toy = TOYS[name]()
    at = torch.full((len(toy.critical_points[0].position),), 0.7, dtype=torch.float64)
    toward = torch.linspace(1, 2, len(at), dtype=torch.float64)

    def error(length):
        d = length * toward
        model = toy.height(at) + d @ toy.gradient(at) + d @ toy.hessian(at) @ d / 2
        return float((toy.height(at + d) - model).abs())

    assert error(0.01) <= error(0.02) / 7.9 + 1e-14


def ends(name, start, step, count):
    toy = TOYS[name]()
    return toy, trajectory(toy, torch.tensor(start, dtype=torch.float64), step=step, count=count)[
        -1
    ]


def test_newton_is_drawn_to_the_saddle_and_the_others_are_not():
    start = (0.3, 0.1)
    _, newton = ends("double_well", start, newton_step, 30)
    np.testing.assert_allclose(newton, (0, 0), atol=1e-8)
    for step in (saddle_free_newton_step, trust_region_step(0.5), gradient_step(0.3)):
        _, found = ends("double_well", start, step, 100)
        np.testing.assert_allclose(found, (0, 1), atol=1e-6)


def test_at_the_saddle_itself_only_the_trust_region_moves():
    for name in ("double_well", "product"):
        for step in (newton_step, saddle_free_newton_step, gradient_step(0.1)):
            _, found = ends(name, (0.0, 0.0), step, 50)
            assert not found.any()
        toy, found = ends(name, (0.0, 0.0), trust_region_step(0.5), 60)
        assert float(toy.height(found)) == pytest.approx(
            float(toy.height(torch.tensor(toy.critical_points[1].position))), abs=1e-9
        )


def test_newton_crosses_the_ravine_in_one_step_and_gradient_descent_zigzags():
    _, newton = ends("ravine", (1.0, 1.0), newton_step, 1)
    np.testing.assert_allclose(newton, (0, 0), atol=1e-12)
    toy = TOYS["ravine"]()
    start = torch.ones(2, dtype=torch.float64)
    path = trajectory(toy, start, step=gradient_step(1.95 / 100), count=20)
    assert (path[1:, 1] * path[:-1, 1] < 0).all()  # across: from wall to wall
    assert 0.5 < float(path[-1, 0]) < 1  # along: hardly anywhere
    beyond = trajectory(toy, start, step=gradient_step(2.05 / 100), count=200)
    assert float(beyond[-1, 1].abs()) > 100  # 2/η below the curvature: divergence


def test_the_monkey_saddle_shows_the_hessian_nothing():
    _, found = ends("monkey_saddle", (0.0, 0.0), trust_region_step(0.5), 3)
    assert not found.any()


def first_below(toy, path, height):
    heights = torch.stack([toy.height(place) for place in path])
    return int((heights > height).sum())


def test_momentum_runs_along_the_ravine():
    """At their best settings for κ = 100 the distance shrinks by 0.980 and by 0.818 a step."""
    toy, start = ravine(100.0), torch.ones(2, dtype=torch.float64)
    plain = trajectory(toy, start, step=gradient_step(2 / 101), count=450)
    heavy = trajectory(toy, start, step=momentum_step(4 / 11**2, (9 / 11) ** 2), count=150)
    assert 300 < first_below(toy, plain, 1e-6) < 500
    assert first_below(toy, heavy, 1e-6) < 100


@pytest.mark.slow
def test_momentum_and_noise_leave_the_saddle():
    toy = TOYS["double_well"]()
    near, ridge = (torch.tensor(at, dtype=torch.float64) for at in ((1.0, 1e-4), (1.0, 0.0)))
    plain = first_below(toy, trajectory(toy, near, step=gradient_step(0.05), count=400), -0.24)
    heavy = first_below(toy, trajectory(toy, near, step=momentum_step(0.05), count=200), -0.24)
    assert heavy < plain / 2 < 200
    stuck = trajectory(toy, ridge, step=gradient_step(0.05), count=400)[-1]
    np.testing.assert_allclose(stuck, (0, 0), atol=1e-6)  # it converges, and to the saddle
    freed = trajectory(toy, ridge, step=with_noise(gradient_step(0.05), scale=0.01), count=400)[-1]
    np.testing.assert_allclose(freed.abs(), (0, 1), atol=0.05)


@pytest.mark.slow
def test_gradient_noise_keeps_a_constant_step_from_settling():
    """About the minimum the variance is η²σ² / (1 − (1 − ηλ)²), so that a smaller step sinks."""
    toy, start = ravine(4.0), torch.zeros(2, dtype=torch.float64)
    for lr in (0.1, 0.2):
        step = with_noise(gradient_step(lr), scale=0.5)
        spread = trajectory(toy, start, step=step, count=1500)[100:].var(0)
        for variance, curvature in zip(spread.tolist(), (1.0, 4.0), strict=True):
            expected = lr**2 * 0.25 / (1 - (1 - lr * curvature) ** 2)
            assert variance == pytest.approx(expected, rel=0.35)


def test_the_trust_region_step_is_the_best_in_the_ball():
    generator = torch.Generator().manual_seed(0)
    angles = torch.linspace(0, 2 * torch.pi, 2000, dtype=torch.float64)
    radii = torch.linspace(0, 0.7, 40, dtype=torch.float64)
    ball = torch.stack([angles.cos(), angles.sin()], 1)[:, None] * radii[None, :, None]
    ball = ball.reshape(-1, 2)
    for _ in range(20):
        square = torch.randn(2, 2, generator=generator, dtype=torch.float64)
        hessian = square + square.T
        gradient = torch.randn(2, generator=generator, dtype=torch.float64)

        def model(d, gradient=gradient, hessian=hessian):
            return d @ gradient + (d @ hessian * d).sum(-1) / 2

        step = trust_region_step(0.7)(gradient, hessian)
        assert float(step.norm()) <= 0.7 + 1e-9
        assert float(model(step)) <= float(model(ball).min()) + 1e-9
