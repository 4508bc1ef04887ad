"""Odd words in any command: empty paths, web addresses, huge numbers, runs that are none."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

HUGE = "9" * 400


@pytest.mark.parametrize(
    "words",
    [
        "train |",
        "train --data.path |",
        "train digits --out |",
        "train --resume |",
        "train digits --config |",
        "predict | x.png",
        "predict runs/a-1 |",
        "report |",
        "report runs/a-1 --out |",
        "diagnose |",
        "diagnose runs/a-1 --html |",
        "runs |",
        "final |",
        "generate |",
        "forecast runs/a-1 |",
        "spectrum |",
        "landscape runs/a-1 --to |",
        "ladder |",
        "lr |",
        "plan |",
        "demo --out |",
    ],
)
@pytest.mark.parametrize(
    ("word", "problem"), [("", "empty"), ("https://a.org/x", "downloads nothing")]
)
def test_a_path_that_names_nothing_is_refused_by_every_command(command, words, word, problem):
    code, out, err = command(*(word if part == "|" else part for part in words.split()))
    assert (code, out) == (2, "")
    assert problem in err
    assert "fix:" in err
    assert word in err


@pytest.mark.parametrize(
    "words",
    [
        "train digits --epochs",
        "train digits --lr",
        "train digits --model.changes.width",
        "generate runs/a-1 --seed",
        "generate runs/a-1 --top-k",
        "lr digits --steps",
        "ladder digits --minutes",
        "spectrum runs/a-1 --top",
        "diagnose runs/a-1 --num-classes",
        "model mlp --changes.width",
    ],
)
def test_a_number_of_400_digits_is_called_too_large(command, words):
    code, out, err = command(*words.split(), HUGE)
    assert (code, out) == (2, "")
    assert f"{words.split()[-1]} is too large" in err
    assert "at most" in err
    assert HUGE not in err


def test_a_text_may_be_empty_or_look_like_a_number(command):
    code, _, err = command("generate", "nothing-here", "--prompt", "")
    assert (code, "no trained model" in err) == (2, True)
    code, _, err = command("predict", "nothing-here", "x", "--question", HUGE)
    assert (code, "no trained model" in err) == (2, True)


@pytest.mark.parametrize(
    "words",
    [
        "predict nope x",
        "report nope",
        "diagnose nope",
        "runs nope",
        "final nope",
        "forecast nope",
        "generate nope",
        "spectrum nope",
        "landscape nope",
        "train --resume nope",
        "run nope",
    ],
)
def test_a_run_or_script_that_is_not_there_is_an_error_of_use(command, words):
    assert command(*words.split())[0] == 2


def test_the_variables_of_the_benchmarks_are_no_unknown_settings(command, monkeypatch):
    benchmarks = Path(__file__).parents[2] / "benchmarks"
    text = "".join(path.read_text(encoding="utf-8") for path in benchmarks.glob("*.py"))
    names = set(re.findall(r"THALWEG_[A-Z_]+[A-Z]", text)) - {"THALWEG_SEED", "THALWEG_CACHE"}
    assert "THALWEG_DATA" in names
    for name in names:
        monkeypatch.setenv(name, "x")
    assert "there is no nothing-here" in command("train", "nothing-here")[2]


def test_a_web_address_in_the_environment_is_refused(command, monkeypatch):
    monkeypatch.setenv("THALWEG_DATA_PATH", "https://a.org/x.csv")
    code, _, err = command("train")
    assert code == 2
    assert "https://a.org/x.csv" in err
    assert "downloads nothing" in err


def test_an_html_file_is_not_written_over_a_folder(command, tmp_path):
    (tmp_path / "log.csv").write_text("step,loss\n0,1\n1,0.5\n", encoding="utf-8")
    code, _, err = command("diagnose", str(tmp_path / "log.csv"), "--html", str(tmp_path))
    assert code == 2
    assert "is a folder" in err
    assert "fix:" in err


@pytest.mark.parametrize("output", [">&-", "> /dev/full", "1< /dev/null"])
def test_results_that_cannot_be_printed_are_an_error(output):
    script = f"exec {sys.executable} -m thalweg rules {output}"
    done = subprocess.run(["sh", "-c", script], stderr=subprocess.PIPE, text=True, check=False)
    assert done.returncode == 1
    assert "the results could not be printed" in done.stderr
    assert done.stderr.count("\n") == 3


def test_a_closed_pipe_is_quiet():
    script = f"{sys.executable} -m thalweg rules | head -c1"
    done = subprocess.run(["sh", "-c", script], stderr=subprocess.PIPE, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
