"""What docs/scaffold.py starts is whole: formatted, typed where it can be, and its tests pass."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
# Kind → a file of tests, and those in it that must have passed for what was written.
CHECKS = {
    "rule": (
        "tests/diagnosis/test_rules.py",
        "test_a_rule_fires_on_the_sick_and_passes_the_healthy[toy-thing]",
        "test_each_rule_is_total_where_it_is_reached[toy-thing]",
        "test_every_rule_has_its_page[toy-thing]",
        "test_nothing_measured_is_nothing_passed",
    ),
    "instrument": ("tests/observe/test_toy_thing.py", "test_it_agrees_with_its_definition"),
    "model": (
        "tests/models/test_models.py",
        "test_every_model_starts_at_chance_and_passes_gradients_to_every_weight"
        "[toy_thing-(3, 32, 32)]",
        "test_every_model_of_numbers_serves_as_a_regressor[toy_thing]",
    ),
    "modality": (
        "tests/data/test_modalities.py",
        "test_every_modality_has_its_row",
        "test_its_preprocessing_survives_json[toy-thing]",
        "test_its_recipe_names_a_model_that_takes_its_example_and_its_batches[toy-thing]",
        "test_a_file_is_decoded_for_prediction_as_it_was_for_training[toy-thing]",
    ),
    "task": (
        "tests/tasks/test_tasks.py",
        "test_a_task_goes_from_labels_to_predictions_and_knowing_nothing_scores_chance[toy-thing]",
        "test_every_task_has_its_row",
    ),
}


@pytest.fixture
def checkout(tmp_path):
    """A copy of the sources and tests."""
    for name in ("src", "tests", "pyproject.toml"):
        source = ROOT / name
        ignored = shutil.ignore_patterns("__pycache__", "*.egg-info")
        if source.is_dir():
            shutil.copytree(source, tmp_path / name, ignore=ignored)
        else:
            shutil.copy(source, tmp_path / name)
    return tmp_path


def scaffold(checkout, *arguments):
    command = [sys.executable, ROOT / "docs/scaffold.py", *arguments, "--root", checkout]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def run(command, checkout):
    environment = {**os.environ, "PYTHONPATH": str(checkout / "src")}
    return subprocess.run(
        command, cwd=checkout, env=environment, capture_output=True, text=True, check=False
    )


@pytest.mark.parametrize(
    "kind", [k if k == "rule" else pytest.param(k, marks=pytest.mark.slow) for k in CHECKS]
)
def test_it_starts_from_something_that_works(kind, checkout):
    done = scaffold(checkout, kind, "toy-thing")
    assert done.returncode == 0, done.stderr
    assert "toy_thing.py" in done.stdout
    ruff = Path(sys.executable).with_name("ruff")
    for command in (["check", "src", "tests"], ["format", "--check", "src", "tests"]):
        complaints = run([ruff, *command], checkout)
        assert complaints.returncode == 0, complaints.stdout
    file, *expected = CHECKS[kind]
    names = "toy or nothing_measured or has_its_row"  # its own rows, and what counts the rows
    command = [sys.executable, "-m", "pytest", "-v", "-n", "0", file, "-k", names]
    tests = run(command, checkout)
    assert tests.returncode == 0, tests.stdout
    passed = re.findall(r"^tests/.+::(.+) PASSED", tests.stdout, re.MULTILINE)
    assert set(expected) <= set(passed), tests.stdout


@pytest.mark.slow
def test_a_row_that_its_rule_does_not_fire_on_fails(checkout):
    scaffold(checkout, "rule", "toy-thing")
    rule = checkout / "src/thalweg/diagnosis/rules/toy_thing.py"
    rule.write_text(rule.read_text("utf-8").replace("limit: float = 2.0", "limit: float = 9.0"))
    test = "::".join(CHECKS["rule"][:2])
    done = run([sys.executable, "-m", "pytest", "-v", "-n", "0", test], checkout)
    assert f"{test} FAILED" in done.stdout


@pytest.mark.parametrize(
    ("stage", "neighbours"),
    [
        ("wiring", ("wrong_mode_in_validation", "impossible_loss")),
        ("optimisation", ("training_plateau", "over_regularised")),
        ("generalisation", ("underfitting", "edge_of_stability")),
    ],
)
def test_a_rule_stands_at_the_end_of_its_stage(checkout, stage, neighbours):
    assert scaffold(checkout, "rule", "toy-thing", "--stage", stage).returncode == 0
    rules = checkout / "src/thalweg/diagnosis/rules"
    before, after = neighbours
    assert f"    {before},\n    toy_thing,\n    {after},\n" in (rules / "__init__.py").read_text()
    assert f'stage="{stage}"' in (rules / "toy_thing.py").read_text()


def test_a_name_that_exists_is_refused_and_nothing_is_written(checkout):
    before = (checkout / "src/thalweg/diagnosis/rules/__init__.py").read_text("utf-8")
    done = scaffold(checkout, "rule", "dead-relu")
    assert (done.returncode, "exists already" in done.stdout) == (2, True)
    assert (checkout / "src/thalweg/diagnosis/rules/__init__.py").read_text("utf-8") == before
    assert scaffold(checkout, "model", "Not A Name").returncode == 2
