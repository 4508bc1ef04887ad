"""A run by two processes equals that of one, also after a killed rank and after Ctrl-C."""

import os
import signal
import threading
from itertools import islice
from pathlib import Path
from time import monotonic, sleep
from typing import Any

import pytest
import torch
from runs.test_train import interrupted_at

from thalweg.api import FailedRunError, Progress, Run, plan, resume, train
from thalweg.errors import TrainingError, UsageError
from thalweg.planning.checks import check_devices
from thalweg.recipes.recipe import Recipe
from thalweg.record.quantities import INSTRUMENT_FAILED, LOSS, VAL_LOSS

WISHES: dict[str, Any] = {
    "model": "convnet",
    "epochs": 4,
    "batch_size": 48,
    "lr": 0.01,
    "edits": {
        "precision.dtype": "float32",
        "precision.channels_last": True,
        "precision.matmul": "highest",
        "precision.threads": 1,
        "precision.compile": False,
        "model.changes": {"width": 8},
        "augment.crop_padding": 1,
        "augment.random_ops": 1,
        "optimizer.ema_decay": 0.9,
        "budget.checkpoint_seconds": 0.05,
    },
}


@pytest.fixture(scope="module")
def one(scans, tmp_path_factory):
    """By this process. The last batch has 32 samples, the others 48."""
    return train(scans, out=tmp_path_factory.mktemp("one"), **WISHES)


def rank_process(rank):
    """The process id of that rank, a child of this process."""
    for task in Path("/proc/self/task").iterdir():
        for child in (task / "children").read_text().split():
            if f"RANK={rank}".encode() in Path(f"/proc/{child}/environ").read_bytes().split(b"\0"):
                return int(child)
    raise LookupError(rank)


def killed_at(step, path, *, rank, **options):
    """Train until that rank is killed after `step` steps; the run, the error, seconds until it."""
    progress, killed = Progress(), []

    def kill():
        while progress.step < step:
            sleep(0.005)
        os.kill(rank_process(rank), signal.SIGKILL)
        killed.append(monotonic())

    threading.Thread(target=kill, daemon=True).start()
    with pytest.raises(TrainingError) as ended:
        train(path, progress=progress, **options)
    return progress.run, ended.value, monotonic() - killed[0]


def assert_same(run, one):
    history, expected = run.history, one.history
    for quantity in (LOSS, VAL_LOSS):
        assert history.series(quantity) == pytest.approx(expected.series(quantity), abs=1e-5)
    assert not history.by_place(INSTRUMENT_FAILED)
    assert set(history) == set(expected)
    assert run.metrics == pytest.approx(dict(one.metrics), abs=1e-5)
    assert run.reader.state == "finished"
    pairs = zip(run.reader.predictions, one.reader.predictions, strict=True)
    assert all((a.name, a.predicted) == (b.name, b.predicted) for a, b in pairs)


@pytest.mark.slow
def test_a_killed_rank_ends_the_run_which_two_ranks_take_up(scans, one, tmp_path):
    folder, error, seconds = killed_at(12, scans, rank=1, out=tmp_path, devices=2, **WISHES)
    assert error.problem.startswith("rank 1 on ")
    assert "SIGKILL" in error.problem
    assert f"--resume {folder}" in error.fix
    assert seconds < 300  # a rank that waits for a dead one would do so for half an hour
    assert Run(folder).reader.state in {"interrupted", "died"}
    assert list((folder / "checkpoints").glob("step-*"))
    progress = Progress()
    assert_same(resume(folder, progress=progress), one)
    assert progress.phase == "done"
    assert progress.step == progress.steps == one.reader.meta["steps"]


@pytest.mark.slow
def test_ctrl_c_ends_all_ranks_and_one_process_goes_on(scans, one, tmp_path):
    stop = interrupted_at(8, scans, out=tmp_path, devices=2, **WISHES)
    assert stop.exit_code == 130
    with pytest.raises(LookupError):
        rank_process(1)
    left = Run(stop.path)
    assert left.reader.state == "interrupted"
    assert 8 <= len(left.history.series(LOSS)) < one.reader.meta["steps"]
    assert (stop.path / "report.html").exists()
    assert_same(resume(stop.path, devices=1), one)


@pytest.mark.parametrize("mixed", [{"augment.mixup": 0.5, "augment.cutmix": 1.0}, {}])
def test_the_ranks_parts_are_what_one_process_trains_on(scans, mixed):
    # Sharpened, a grey image that is alone in its part differs in the last digit: another kernel.
    edits = WISHES["edits"] | {"augment.random_ops": 0, "augment.crop_scale": 0.5} | mixed
    ready = plan(scans, **WISHES | {"edits": edits})
    whole = islice(ready.training_stream(start=5), 6)  # into the next epoch, over a last batch
    parts = [ready.training_stream(start=5, rank=rank, count=3) for rank in range(3)]
    for batch, *parts_of_batch in zip(whole, *parts, strict=False):
        assert torch.equal(torch.cat([part.inputs for part in parts_of_batch]), batch.inputs)
        assert all(torch.equal(part.targets, batch.targets) for part in parts_of_batch)


@pytest.mark.slow
def test_a_loss_that_is_no_number_is_found_in_the_whole_batch(scans, tmp_path):
    def failure(**options):
        with pytest.raises(FailedRunError) as failed:
            train(scans, out=tmp_path, **WISHES | {"lr": 1e30, "epochs": 1} | options)
        return failed.value.problem, failed.value.seen

    problem, seen = failure(devices=2)
    assert (problem, seen) == failure()
    assert "a batch of 48" in seen


@pytest.mark.parametrize(
    ("options", "seen"),
    [
        ({"devices": 0}, "devices is out of range"),
        ({"devices": 3, "batch_size": 2}, "batch.size = 2"),
        ({"devices": 2, "edits": {"precision.compile": True}}, "precision.compile"),
    ],
)
def test_what_cannot_be_divided_is_refused_at_once(scans, options, seen):
    with pytest.raises(UsageError) as refused:
        plan(scans, **options)
    assert seen in str(refused.value)


def test_more_devices_than_gpus_are_refused(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    with pytest.raises(UsageError) as refused:
        check_devices(Recipe(devices=3, device="cuda"), here=3)
    assert (refused.value.seen, refused.value.fix) == ("devices = 3, 2 here", "--devices 2")
