"""A recipe.toml that was edited before a resumption is an event, or one clear error."""

import shutil
from contextlib import suppress
from typing import Any

import pytest
from runs.test_train import weights_of

from thalweg.api import Progress, Run, resume, train
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


@pytest.fixture(scope="module")
def often_saved(scans, tmp_path_factory):
    edits = {"budget.checkpoint_seconds": 0.001}
    return train(scans, out=tmp_path_factory.mktemp("runs"), edits=edits, **OPTIONS).path


@pytest.fixture
def halfway(often_saved, tmp_path):
    """A run with a checkpoint of the middle, and none later."""
    copy = tmp_path / often_saved.name
    shutil.copytree(often_saved, copy)
    shutil.rmtree(max((copy / "checkpoints").glob("step-*")))
    assert int(max((copy / "checkpoints").glob("step-*")).name.removeprefix("step-"))
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


@pytest.mark.parametrize("key", ["lr", "weight_decay"])
def test_what_is_edited_is_what_the_run_goes_on_with(halfway, often_saved, key):
    path = halfway / "recipe.toml"
    lines = path.read_text().splitlines()
    place = next(n for n, line in enumerate(lines) if line.startswith(f"{key} = "))
    lines[place] = f"{key} = 0.3"
    path.write_text("\n".join(lines))
    weights = weights_of(resume(halfway))
    assert weights != weights_of(Run(often_saved))
    with RunWriter(halfway) as writer:  # the run as recorded is the run as made, also a second time
        writer.set("state", "interrupted")
    shutil.rmtree(max((halfway / "checkpoints").glob("step-*")))
    assert weights_of(resume(halfway)) == weights


def test_fewer_epochs_than_were_made_are_named(halfway):
    edit(halfway, "epochs = 3", "epochs = 1")
    newest = max((halfway / "checkpoints").glob("step-*"))
    with pytest.raises(ThalwegError, match="had ended before its last checkpoint") as caught:
        resume(halfway)
    assert "budget.epochs: 3 → 1" in caught.value.seen
    assert newest.exists()


def test_a_run_without_checkpoints_says_that_it_begins_anew(stopped, finished):
    shutil.rmtree(stopped / "checkpoints")
    progress = Progress()
    again = resume(stopped, progress=progress)
    assert any("no checkpoint of the run is left" in message for message in progress.messages)
    assert weights_of(again) == weights_of(Run(finished))


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


def test_data_that_moved_are_found_where_the_recipe_says(scans, tmp_path):
    own = tmp_path / "own.npz"
    shutil.copy(scans, own)
    run = train(own, out=tmp_path, **OPTIONS).path
    shutil.rmtree(max((run / "checkpoints").glob("step-*")))
    with RunWriter(run) as writer:
        writer.set("state", "interrupted")
    moved = own.rename(tmp_path / "moved.npz")
    with pytest.raises(RunError, match="not where they were") as caught:
        resume(run)
    assert "recipe.toml" in caught.value.fix
    edit(run, "own.npz", moved.name)
    assert resume(run).metrics
