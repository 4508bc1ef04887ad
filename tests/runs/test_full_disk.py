"""A disk that fills while a run trains: room is made, the training goes on, nothing is lost."""

import errno
from pathlib import Path
from typing import Any

import pytest

from thalweg.api import resume, train
from thalweg.errors import TrainingError
from thalweg.files import write_new
from thalweg.inference.saved_model import load_model
from thalweg.planning.progress import Progress
from thalweg.record import RunReader
from thalweg.record.quantities import VAL_ACCURACY

OPTIONS: dict[str, Any] = {"model": "mlp", "epochs": 4, "seed": 3}


class FullDisk:
    """Checkpoints at these steps find no space, as many times as given."""

    def __init__(self, monkeypatch, fails):
        self.fails = fails
        monkeypatch.setattr("thalweg.runs.recorder.SPACING", 0.0)  # each epoch is saved
        monkeypatch.setattr("thalweg.training.checkpoint.write_new", self)

    def __call__(self, path, data, *, flush=False):
        step = int(path.parent.name.rpartition("-")[2].partition(".")[0])
        if self.fails(step):
            path.write_bytes(data[: len(data) // 2])
            raise OSError(errno.ENOSPC, "No space left on device", str(path))
        write_new(path, data, flush=flush)


def weights(run) -> dict[str, bytes]:
    state = load_model(run.path / "model").module.state_dict()
    return {name: value.numpy().tobytes() for name, value in state.items()}


@pytest.fixture(scope="module")
def undisturbed(scans, tmp_path_factory):
    return train(scans, out=tmp_path_factory.mktemp("undisturbed"), **OPTIONS)


@pytest.mark.parametrize("failing", ["one try", "every try", "all but the first"])
def test_the_training_goes_on_to_the_same_end(scans, tmp_path, monkeypatch, undisturbed, failing):
    tries: list[int] = []

    def fails(step):
        tries.append(step)
        if failing == "one try":
            return step > 0 and tries.count(step) == 1
        return step > 0 and (failing == "all but the first" or step < 60)

    FullDisk(monkeypatch, fails)
    progress = Progress()
    run = train(scans, out=tmp_path, progress=progress, **OPTIONS)
    assert run.metrics == undisturbed.metrics
    assert weights(run) == weights(undisturbed)
    warned = [message for message in progress.messages if "no checkpoint can be written" in message]
    assert len(warned) == (failing != "one try")
    for message in warned:
        assert "No space left on device" in message
        assert f"--resume {run.path}" in message
    assert not list((run.path / "checkpoints").glob(".draft-*"))


def test_the_first_checkpoint_must_be_written(scans, tmp_path, monkeypatch):
    FullDisk(monkeypatch, lambda step: True)
    with pytest.raises(TrainingError, match="no checkpoint could be written"):
        train(scans, out=tmp_path, **OPTIONS)


def test_a_model_that_does_not_fit_is_named_and_written_once_there_is_space(
    scans, tmp_path, monkeypatch, undisturbed
):
    def full(path: Path, data: bytes) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", str(path))

    with monkeypatch.context() as patch:
        patch.setattr("thalweg.inference.saved_model.write_new", full)
        with pytest.raises(TrainingError, match="trained model could not be written") as failure:
            train(scans, out=tmp_path, **OPTIONS)
    folder = next(tmp_path.iterdir())
    assert f"--resume {folder}" in failure.value.fix
    assert weights(resume(folder)) == weights(undisturbed)


def test_room_is_made_for_the_model(scans, tmp_path, monkeypatch, undisturbed):
    """It fits once a checkpoint is deleted that neither resumes nor holds the best weights."""
    tries: list[str] = []

    def full(path: Path, data: bytes) -> None:
        tries.append(path.name)
        if len(tries) == 1:
            raise OSError(errno.ENOSPC, "No space left on device", str(path))
        write_new(path, data)

    monkeypatch.setattr("thalweg.inference.saved_model.write_new", full)
    run = train(scans, out=tmp_path, **OPTIONS)
    assert weights(run) == weights(undisturbed)
    assert len(list((run.path / "checkpoints").iterdir())) <= 2


def test_best_weights_that_are_lost_are_not_scored_as_the_models(scans, tmp_path, monkeypatch):
    from thalweg.runs.checkpoints import Checkpoints

    monkeypatch.setattr(Checkpoints, "restore_best", lambda *_: False)
    edits = {"optimizer.lr": 0.3}  # so that the last weights are not the best
    progress = Progress()
    run = train(scans, out=tmp_path, progress=progress, edits=edits, **OPTIONS)
    history = run.history.series(VAL_ACCURACY)
    lost = any("best weights" in message for message in progress.messages)
    assert lost == (max(history.values()) > history[max(history)])
    assert run.metrics["val_accuracy"] == pytest.approx(history[max(history)])


def test_a_report_that_was_never_written_is_written_by_resuming(undisturbed):
    report = undisturbed.path / "report.html"
    report.unlink()
    assert RunReader(undisturbed.path).state == "finished"
    resume(undisturbed.path)
    assert report.read_text().startswith("<!")
