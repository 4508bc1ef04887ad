"""A run folder from anybody: damaged anywhere, each command answers or gives one clear error."""

import os
import shutil
import stat
from random import Random

import pytest
from hostile.mutations import MUTATIONS, sql

from thalweg.api import train

# What a damaged file does not take is said, and the training goes on.
pytestmark = pytest.mark.filterwarnings("ignore::thalweg.errors.ThalwegWarning")
CODES = {0, 1, 2, 3, 4}
SECRET = "the user's own file"


@pytest.fixture(scope="module")
def run(scans, tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    trained = train(scans, model="mlp", epochs=2, out=folder)
    return trained.path


@pytest.fixture(scope="module")
def interrupted(run, tmp_path_factory):
    """The same run without its last epoch, as a kill leaves it: to resume it reads everything."""
    copy = tmp_path_factory.mktemp("interrupted") / run.name
    shutil.copytree(run, copy)
    shutil.rmtree(max((copy / "checkpoints").glob("step-*")))
    sql(copy, "UPDATE meta SET value = ? WHERE key = 'state'", '"interrupted"')
    return copy


@pytest.fixture
def case(run, interrupted, tmp_path):
    """Damages a copy of the run; yields the copy, what was done, and the user's own file."""
    outside = tmp_path / "own.txt"

    def damage(seed):
        outside.write_text(SECRET)
        copy = tmp_path / "runs" / f"case-{seed}"
        shutil.copytree(interrupted if seed % 2 else run, copy)
        random = Random(seed)
        return copy, random.choice(MUTATIONS)(copy, random, outside), outside

    return damage


def check(command, copy, outside, scans):
    image = str(scans)
    for words in (
        ("runs", copy.parent),
        ("diagnose", copy),
        ("report", copy),
        ("predict", copy, image),
        ("final", copy),
        ("train", "--resume", copy),
    ):
        code, _, err = command(*words)
        assert code in CODES, (words, code)
        assert "Traceback" not in err, (words, err)
        assert "\x1b[2J" not in err
        assert outside.read_text() == SECRET, words
    for path in copy.rglob("*"):  # or the folder could not be deleted
        if not path.is_symlink() and stat.S_ISREG(path.lstat().st_mode):
            path.chmod(0o600)


def attack(seeds, command, case, scans):
    for seed in seeds:
        copy, damage, outside = case(seed)
        try:
            check(command, copy, outside, scans)
        except BaseException as error:
            error.add_note(f"seed {seed}: {damage}")
            raise
        shutil.rmtree(copy)


def test_a_damaged_run_ends_in_an_answer_or_one_error(command, case, scans):
    attack(range(16), command, case, scans)


def test_runs_that_failed_once_end_in_an_answer_or_one_error(command, case, scans):
    attack((2625, 2777), command, case, scans)


@pytest.mark.slow
@pytest.mark.parametrize("part", range(10))
def test_two_thousand_damaged_runs(part, command, case, scans):
    first = 1000 + 200 * part
    attack(range(first, first + 200), command, case, scans)


def test_only_this_users_files_are_read(run):
    """The run that all copies come from was not touched."""
    assert not [path for path in run.rglob("*") if path.is_symlink()]
    assert os.access(run / "run.db", os.R_OK)
