"""A run whose losses are read late, as on a GPU, equals one that reads each at once."""

from typing import Any

import pytest

from thalweg.api import FailedRunError, train
from thalweg.record import RunReader
from thalweg.record.quantities import LOSS
from thalweg.training.checkpoint import latest_checkpoint
from thalweg.training.deferred_loss_check import DeferredLossCheck

QUICK: dict[str, Any] = {
    "epochs": 2,
    "batch_size": 32,
    "model": "mlp",
    "edits": {"optimizer.name": "adamw"},
}


def losses(run):
    return run.history.series(LOSS)


def test_a_sound_run_is_the_same_to_the_last_bit(scans, tmp_path, monkeypatch):
    now = train(scans, out=tmp_path / "now", **QUICK)
    monkeypatch.setattr("thalweg.runs.fit.deferred_loss_check", DeferredLossCheck)
    later = train(scans, out=tmp_path / "late", **QUICK)
    assert losses(later) == losses(now)
    assert later.metrics == now.metrics


def failure(scans, out, **changes):
    with pytest.raises(FailedRunError) as failed:
        train(scans, out=out, lr=1e30, **QUICK | changes)
    return failed.value


def test_a_broken_run_names_the_same_step_and_samples(scans, tmp_path, monkeypatch):
    now = failure(scans, tmp_path / "now")
    monkeypatch.setattr("thalweg.runs.fit.deferred_loss_check", DeferredLossCheck)
    late = failure(scans, tmp_path / "late")
    assert (late.problem, late.seen) == (now.problem, now.seen)
    assert late.fix.split("; the run is in")[0] == now.fix.split("; the run is in")[0]
    events = [RunReader(error.path).events for error in (now, late)]
    assert [event.kind for event in events[0]] == [event.kind for event in events[1]]


def test_nothing_is_saved_after_a_bad_loss(scans, tmp_path, monkeypatch):
    """The epoch ends at step 3, before the loss of step 1 would have been read."""
    monkeypatch.setattr("thalweg.runs.fit.deferred_loss_check", DeferredLossCheck)
    error = failure(scans, tmp_path, batch_size=128)
    assert "step 1" in error.problem
    assert latest_checkpoint(error.path / "checkpoints").step == 0
