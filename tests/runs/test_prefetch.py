"""Prefetching changes no bit of a run, stopped or not."""

import threading
from typing import Any

import pytest
from runs.test_train import interrupted_at, weights_of

from thalweg.api import resume, train
from thalweg.record.quantities import LOSS

OPTIONS: dict[str, Any] = {"model": "mlp", "epochs": 2, "batch_size": 32}


def making():
    return [thread for thread in threading.enumerate() if thread.name.startswith("batches")]


@pytest.fixture
def threads(monkeypatch):
    """Says how many threads make batches; returns a list that notes who asks."""

    def of(count):
        devices = []
        monkeypatch.setattr(
            "thalweg.data.batches.threads_to_spare", lambda device: devices.append(device) or count
        )
        return devices

    return of


@pytest.mark.slow
def test_resumed_equals_uninterrupted_equals_one_thread(scans, tmp_path, threads):
    threads(0)
    alone = train(scans, out=tmp_path, **OPTIONS)
    devices = threads(2)
    whole = train(scans, out=tmp_path, **OPTIONS)
    stopped = interrupted_at(7, scans, out=tmp_path, **OPTIONS)
    assert len(devices) == 2  # both took their batches from threads
    assert not making()
    resumed = resume(stopped.path)
    assert weights_of(resumed) == weights_of(whole) == weights_of(alone)
    assert resumed.history.series(LOSS) == whole.history.series(LOSS) == alone.history.series(LOSS)
    assert not making()
