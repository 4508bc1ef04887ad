"""Sound runs, hard negatives among them: nothing worse than a note may be said of any."""

import pytest
import torch
from faults.programs import diabetes, run
from healthy.loops import LOOPS
from healthy.programs import RUNS, sound
from torch import nn

from thalweg.diagnosis import diagnose
from thalweg.observe import watch

FAST = (
    "plain",
    "two_lines",
    "warm_restarts",
    "weighted_imbalance",
    "multi_label",
    "tiny_validation",
    "frozen_backbone",
    "converged",
    "log_softmax",
)
NIGHTLY = (
    "accumulated",
    "momentum",
    "little_data",
    "head_in_optimizer",
    "half_precision",
    "sparse",
    "mixed_up",
    "zero_head",
)
SLOW = pytest.mark.slow


def alarms(diagnosis):
    return {f.rule: f.summary for f in diagnosis.findings if f.severity != "note"}


def broken(diagnosis):
    return [why for why in diagnosis.not_checked.values() if "failed" in why or "broke" in why]


@pytest.mark.parametrize("name", [*FAST, *(pytest.param(n, marks=SLOW) for n in NIGHTLY)])
def test_no_alarm(name):
    diagnosis, _ = run(sound(name, "mlp"))
    assert not alarms(diagnosis)
    assert not broken(diagnosis)


@pytest.mark.parametrize("name", [n for n, base in RUNS if base == "regression"])
def test_no_alarm_in_regression(name):
    diagnosis, _ = run(sound(name, "regression"))
    assert not alarms(diagnosis)
    assert not broken(diagnosis)


@pytest.mark.slow
@pytest.mark.parametrize("base", ["mlp", "cnn", "transformer", "gru"])
def test_two_alarms_in_a_hundred(base):
    said = {name: alarms(run(sound(name, base))[0]) for name, b in RUNS if b == base}
    loud = {name: found for name, found in said.items() if found}
    assert len(loud) <= 1, loud


QUICK = (
    "contrastive",
    "focal_loss",
    "second_order_closure",
    "ordinal_regression",
    "policy_gradient",
    "value_learning",
    "graph_network",
    "counts",
)
QUICK_NIGHTLY = (
    "triplets",
    "low_rank_adaptation",
    "cyclical_rates",
    "gradient_penalty",
    "distillation",
    "two_heads",
    "quantiles",
    "logistic_regression",
)


@pytest.mark.parametrize(
    "loop",
    [loop for loop in LOOPS if loop.__name__ in QUICK]
    + [pytest.param(loop, marks=SLOW) for loop in LOOPS if loop.__name__ in QUICK_NIGHTLY],
)
def test_no_alarm_in_a_loop_of_another_kind(loop):
    torch.manual_seed(0)
    diagnosis = loop()
    assert not alarms(diagnosis)
    assert not broken(diagnosis)


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_two_alarms_in_a_hundred_loops(seed):
    loud = {}
    for loop in LOOPS:
        torch.manual_seed(seed)
        if found := alarms(loop()):
            loud[loop.__name__] = found
    assert len(loud) <= 1, loud


def test_there_are_a_hundred_runs():
    assert len(RUNS) >= 100
    assert {one.__name__ for one in LOOPS} >= set(QUICK)


def test_no_alarm_in_an_adversarial_pair():
    torch.manual_seed(0)
    real = diabetes()[0][:, :2]
    maker = nn.Sequential(nn.Linear(4, 32), nn.ReLU(), nn.Linear(32, 2))
    judge = nn.Sequential(nn.Linear(2, 32), nn.LeakyReLU(0.2), nn.Linear(32, 1))
    both = nn.ModuleDict({"maker": maker, "judge": judge})
    optimizers = [
        torch.optim.Adam(m.parameters(), lr=1e-3, betas=(0.5, 0.9)) for m in (maker, judge)
    ]
    with watch(both, optimizers, diagnose=diagnose) as watcher:
        for _ in range(200):
            true, fake = real[torch.randint(len(real), (32,))], maker(torch.randn(32, 4))
            loss = nn.functional.softplus(-judge(true)).mean()
            loss = loss + nn.functional.softplus(judge(fake.detach())).mean()
            optimizers[1].zero_grad()
            loss.backward()
            optimizers[1].step()
            optimizers[0].zero_grad()
            nn.functional.softplus(-judge(fake)).mean().backward()
            optimizers[0].step()
            watcher.step(loss)
    assert not alarms(watcher.diagnose())
