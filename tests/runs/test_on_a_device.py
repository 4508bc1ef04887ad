"""Whole runs on every device of this machine, the CPU among them."""

from typing import Any

import pytest
import torch
from runs.test_train import interrupted_at, weights_of

from thalweg.api import plan, resume, train
from thalweg.record.quantities import ACCURACY, INSTRUMENT_FAILED, LOSS

DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)]
QUICK: dict[str, Any] = {"epochs": 8, "batch_size": 32, "model": "convnet"}


@pytest.fixture(autouse=True)
def _one_algorithm(monkeypatch):
    """On a GPU the fastest ones add in no fixed order."""
    monkeypatch.setattr(torch.backends.cudnn, "deterministic", True)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize(
    "edits",
    [
        {},
        pytest.param(
            {"optimizer.name": "muon", "optimizer.ema_decay": 0.9}, marks=pytest.mark.slow
        ),
    ],
)
def test_it_learns_and_nothing_that_measures_breaks(scans, tmp_path, device, edits):
    run = train(scans, out=tmp_path, device=device, edits=edits, **QUICK)
    assert run.metrics["val_accuracy"] > 0.85
    assert not run.history.by_place(INSTRUMENT_FAILED)
    assert run.history.by_place(ACCURACY)
    assert run.diagnosis.headline is None


@pytest.mark.parametrize("device", DEVICES)
def test_a_resumed_run_is_the_whole_one_to_the_last_bit(scans, tmp_path, device):
    wishes = QUICK | {"epochs": 2, "device": device}
    whole = train(scans, out=tmp_path, **wishes)
    resumed = resume(interrupted_at(13, scans, out=tmp_path, **wishes).path)
    assert resumed.history.series(LOSS) == whole.history.series(LOSS)
    assert weights_of(resumed) == weights_of(whole)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize(
    "augment",
    [
        {"augment.mixup": 0.3, "augment.cutmix": 1.0},
        {"augment.random_ops": 2, "augment.brightness": 0.2, "augment.saturation": 0.2},
        {"augment.crop_scale": 0.5, "augment.cutout": 0.25},
    ],
    ids=" ".join,
)
def test_the_same_batch_comes_again_whatever_is_augmented(scans, device, augment):
    ready = plan(scans, device=device, edits=augment, **QUICK)
    batches = ready.training_batches()
    first: Any = next(batches.stream(3))
    again: Any = next(batches.stream(3))
    assert first.inputs.device.type == first.targets.device.type == device
    assert torch.equal(first.inputs, again.inputs)
    assert first.inputs.isfinite().all()
