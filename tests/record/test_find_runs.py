"""Where a folder is no run, the error names one, or a command that works."""

import pytest

from thalweg.errors import RunError
from thalweg.inference.saved_model import load_model
from thalweg.record import RunReader, RunWriter
from thalweg.record.find_runs import run_to_name


def make_run(folder, *, has_model=False, has_recipe=True):
    RunWriter(folder).close()
    if has_recipe:
        (folder / "recipe.toml").write_text("seed = 0\n")
    if has_model:
        (folder / "model").mkdir()
        (folder / "model" / "model.json").write_text("{}")


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def fix_of(call, *arguments):
    with pytest.raises(RunError) as error:
        call(*arguments)
    return error.value.fix


def test_a_run_without_a_model_can_be_finished(here):
    make_run(here / "runs/a-1")
    fix = fix_of(load_model, here / "runs/a-1/model")
    assert fix == f"finish the run: thalweg train --resume {here / 'runs/a-1'}"


def test_a_run_that_failed_is_not_to_be_resumed(here):
    make_run(here / "runs/a-1")
    with RunWriter(here / "runs/b-1") as writer:
        writer.set("state", "failed")
    (here / "runs/b-1/recipe.toml").write_text("seed = 0\n")
    fix = fix_of(load_model, here / "runs/b-1/model")
    assert "thalweg diagnose" in fix
    assert "--resume" not in fix


@pytest.mark.parametrize("name", ["nowhere", "photos", "table.csv"])
def test_no_run_is_never_to_be_resumed(here, name):
    (here / "photos").mkdir()
    (here / "table.csv").write_text("a,b\n")
    assert "--resume" not in fix_of(load_model, here / name / "model")
    assert "thalweg train PATH" in fix_of(load_model, here / name / "model")


def test_a_watched_script_saves_no_model_and_cannot_be_resumed(here):
    make_run(here / "script-1", has_recipe=False)
    assert "--resume" not in fix_of(load_model, here / "script-1/model")


def test_the_folder_of_runs_names_the_newest_with_a_model(here):
    make_run(here / "all/a-1", has_model=True)
    make_run(here / "all/b-1")
    assert fix_of(load_model, here / "all/model").endswith(str(here / "all/a-1"))


def test_a_ladder_or_a_cross_validation_names_one_of_its_runs(here):
    make_run(here / "runs/x-folds-1/fold-1", has_model=True)
    assert fix_of(load_model, here / "runs/x-folds-1/model").endswith("fold-1")
    assert run_to_name(here / "runs").endswith("fold-1")


def test_a_folder_inside_a_run_names_the_run(here):
    make_run(here / "runs/a-1", has_model=True)
    assert fix_of(RunReader, here / "runs/a-1/model").endswith(str(here / "runs/a-1"))


def test_elsewhere_the_default_folder_is_searched(here):
    make_run(here / "runs/a-1", has_model=True)
    assert fix_of(RunReader, here / "nowhere") == "the folder of a run, such as runs/a-1"
