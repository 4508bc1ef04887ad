"""A recipe.toml that was edited before a resumption is an event, or one clear error."""

import shutil
from contextlib import suppress
from typing import Any

import pytest

from thalweg.api import Progress, resume, train
from thalweg.errors import RunError, ThalwegError
from thalweg.record import RunReader, RunWriter

OPTIONS: dict[str, Any] = {"model": "mlp", "epochs": 3, "seed": 1}


@pytest.fixture(scope="module")
def finished(scans, tmp_path_factory):
    return train(scans, out=tmp_path_factory.mktemp("runs"), **OPTIONS).path


@pytest.fixture
def stopped(finished, tmp_path):
    """The run as a kill leaves it after its second epoch."""
    copy = tmp_path / finished.name
    shutil.copytree(finished, copy)
    shutil.rmtree(max((copy / "checkpoints").glob("step-*")))
    with RunWriter(copy) as writer:
        writer.set("state", "interrupted")
    return copy


def edit(run, old, new):
    path = run / "recipe.toml"
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def edits_of(run):
    return [event for event in RunReader(run).events if event.kind == "recipe-edited"]


def test_an_untouched_recipe_is_no_event(stopped):
    resume(stopped)
    assert not edits_of(stopped)


def test_an_edit_is_an_event_that_names_both_values(stopped):
    edit(stopped, "checkpoint_seconds = 60.0", "checkpoint_seconds = 7.5")
    newest = max((stopped / "checkpoints").glob("step-*"))
    progress = Progress()
    resume(stopped, progress=progress)
    (event,) = edits_of(stopped)
    assert "budget.checkpoint_seconds: 60.0 → 7.5" in event.message
    assert newest.name == f"step-{event.step:0{len(newest.name) - len('step-')}}"
    assert event.message in progress.messages
    page = (stopped / "report.html").read_text()
    assert "recipe was edited" in page


def test_it_is_said_once(stopped):
    edit(stopped, "checkpoint_seconds = 60.0", "checkpoint_seconds = 7.5")
    resume(stopped)
    with RunWriter(stopped) as writer:
        writer.set("state", "interrupted")
    resume(stopped)
    assert len(edits_of(stopped)) == 1


def test_an_edit_of_the_data_is_named_as_the_cause(stopped):
    edit(stopped, "val_fraction = 0.2", "val_fraction = 0.3")
    with pytest.raises(RunError, match=r"recipe of .* was edited so that its data") as caught:
        resume(stopped)
    assert "data.val_fraction: 0.2 → 0.3" in caught.value.seen


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('name = "mlp"', 'name = "convnet"'),
        ("epochs = 3", "epochs = 1"),
    ],
)
def test_an_edit_that_the_checkpoint_does_not_fit_is_one_error_or_an_event(stopped, old, new):
    edit(stopped, old, new)
    with suppress(ThalwegError):
        resume(stopped)
    assert len(edits_of(stopped)) == 1
