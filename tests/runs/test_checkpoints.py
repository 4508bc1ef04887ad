"""Checkpoints are spaced in time; the best weights are safe in memory until one is written."""

from typing import Any

import pytest
import torch

from thalweg.api import train
from thalweg.distributed.ranks import Ranks
from thalweg.inference.saved_model import load_model
from thalweg.planning.make_plan import make_plan
from thalweg.record import RunReader
from thalweg.runs.checkpoints import Checkpoints
from thalweg.runs.session import build_session
from thalweg.training.checkpoint import latest_checkpoint
from thalweg.training.nonfinite import NonFiniteWeightsError


def weights(run) -> dict[str, bytes]:
    state = load_model(run.path / "model").module.state_dict()
    return {name: value.numpy().tobytes() for name, value in state.items()}


@pytest.fixture
def session(scans):
    return build_session(make_plan(scans, {"model.name": "mlp"}), Ranks())


def set_weights(session, value):
    with torch.no_grad():
        for weight in session.model.parameters():
            weight.fill_(value)


def first_weight(session):
    return next(session.model.parameters()).flatten()[0].item()


def steps_on_disk(folder):
    return sorted(int(path.name.removeprefix("step-")) for path in folder.glob("step-*"))


def test_a_run_of_seconds_saves_its_beginning_and_its_end(scans, tmp_path, monkeypatch):
    """The best weights are those of every epoch saved, also where they are not the last."""
    edits = {"optimizer.lr": 0.3}  # so that the last weights are not the best
    options: dict[str, Any] = {"model": "mlp", "epochs": 5, "seed": 3, "edits": edits}
    runs = []
    for spacing in (0.0, 1e9):
        monkeypatch.setattr("thalweg.runs.recorder.SPACING", spacing)
        runs.append(train(scans, out=tmp_path / str(spacing), **options))
    each, few = runs
    assert weights(few) == weights(each)
    assert few.metrics == each.metrics
    best = RunReader(few.path).meta["selection"]["step"]
    last = RunReader(few.path).meta["steps"]
    assert steps_on_disk(few.path / "checkpoints") in ([0, best, last], [best, last], [0, last])
    assert latest_checkpoint(few.path / "checkpoints").step == last


def test_held_weights_are_written_with_the_next_checkpoint(session, tmp_path):
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(session, done=0, extra={}, best=-1)
    set_weights(session, 3.0)
    checkpoints.hold_best(session, done=3, extra={"best": {"step": 3}}, best=3)
    set_weights(session, 4.0)
    checkpoints.hold_best(session, done=4, extra={}, best=3)
    assert steps_on_disk(tmp_path) == [0]
    set_weights(session, 5.0)
    checkpoints.save(session, done=5, extra={}, best=3)
    assert steps_on_disk(tmp_path) == [3, 5]
    assert Checkpoints(tmp_path).restore_best(session, 3)  # by another process
    assert first_weight(session) == 3.0
    assert latest_checkpoint(tmp_path, step=3).extra == {"best": {"step": 3}}


def test_held_weights_are_restored_from_memory(session, tmp_path):
    checkpoints = Checkpoints(tmp_path)
    set_weights(session, 3.0)
    checkpoints.hold_best(session, done=3, extra={}, best=3)
    set_weights(session, 5.0)
    assert checkpoints.restore_best(session, 3)
    assert first_weight(session) == 3.0
    assert not checkpoints.restore_best(session, 4)


@pytest.mark.parametrize("best", [3, 2])
def test_weights_that_are_not_finite_are_refused_though_nothing_is_written(session, tmp_path, best):
    set_weights(session, float("nan"))
    with pytest.raises(NonFiniteWeightsError):
        Checkpoints(tmp_path).hold_best(session, done=3, extra={}, best=best)
