"""What docs/scaffold.py starts is whole: formatted, typed where it can be, and its tests pass."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
CHECKS = {
    "rule": ["tests/diagnosis/test_rules.py", "-k", "curves_say or unmeasured or nothing_measured"],
    "instrument": ["tests/observe/test_toy_thing.py"],
    "model": ["tests/models/test_models.py", "-k", "toy_thing"],
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


@pytest.mark.parametrize("kind", CHECKS)
def test_it_starts_from_something_that_works(kind, checkout):
    done = scaffold(checkout, kind, "toy-thing")
    assert done.returncode == 0, done.stderr
    assert "toy_thing.py" in done.stdout
    ruff = Path(sys.executable).with_name("ruff")
    for command in (["check", "src", "tests"], ["format", "--check", "src", "tests"]):
        complaints = run([ruff, *command], checkout)
        assert complaints.returncode == 0, complaints.stdout
    command = [sys.executable, "-m", "pytest", "-q", "-n", "0", *CHECKS[kind]]
    tests = run(command, checkout)
    assert tests.returncode == 0, tests.stdout


def test_a_name_that_exists_is_refused_and_nothing_is_written(checkout):
    before = (checkout / "src/thalweg/diagnosis/rules/__init__.py").read_text("utf-8")
    done = scaffold(checkout, "rule", "dead-relu")
    assert (done.returncode, "exists already" in done.stdout) == (2, True)
    assert (checkout / "src/thalweg/diagnosis/rules/__init__.py").read_text("utf-8") == before
    assert scaffold(checkout, "model", "Not A Name").returncode == 2
