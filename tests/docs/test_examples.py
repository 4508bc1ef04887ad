"""Every program in examples/ runs from an empty folder to its end, and is short enough to read."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"
PROGRAMS = sorted(EXAMPLES.glob("*.py"))
NIGHTLY = {
    "compare_models",
    "cross_validation",
    "curvature",
    "train_images",
}  # they train for longer


def marked(program):
    return pytest.param(
        program, id=program.stem, marks=pytest.mark.slow if program.stem in NIGHTLY else ()
    )


@pytest.mark.parametrize("program", [marked(program) for program in PROGRAMS])
def test_it_runs(program, tmp_path):
    environment = {**os.environ, "THALWEG_CACHE": str(tmp_path / "cache")}
    done = subprocess.run(
        [sys.executable, program],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda path: path.stem)
def test_it_is_short_and_in_the_table(program):
    assert len(program.read_text(encoding="utf-8").splitlines()) < 60
    assert f"[{program.name}]({program.name})" in (EXAMPLES / "README.md").read_text("utf-8")
