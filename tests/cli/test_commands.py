"""One training through the command, then everything that a user does with its run."""

import csv
import io
import json
import os
import pty
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from cli.test_app import modules_loaded_by, run
from PIL import Image
from runs.test_progress_line import read_all

from thalweg.errors import DataError, UsageError

EVIL = "=evil\x1b[2J"  # a formula to a spreadsheet, a cleared screen to a terminal
SHOWN = EVIL.replace("\x1b", "\\x1b")
CLASSES = ("cat", EVIL, "Äpfel 🍏")


def write_images(folder, per_class=24):
    """Squares of one colour per class, with noise: learnt in a few steps."""
    random = np.random.default_rng(0)
    for channel, name in enumerate(CLASSES):
        (folder / name).mkdir(parents=True)
        for number in range(per_class):
            pixels = random.integers(0, 60, (12, 12, 3), dtype=np.uint8)
            pixels[..., channel] += 180
            Image.fromarray(pixels).save(folder / name / f"{number}.png")


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("commands")
    write_images(folder / "photos")
    return folder


@pytest.fixture(scope="module")
def thalweg(place):
    """The command, with a cache and a working folder of its own."""

    def call(*arguments, **environment):
        return run(*arguments, cwd=place, THALWEG_CACHE=str(place / "cache"), **environment)

    return call


@pytest.fixture
def here(place, monkeypatch, command):
    """The command in this process, which spares it the start: (exit code, stdout, stderr)."""
    monkeypatch.chdir(place)
    monkeypatch.setenv("THALWEG_CACHE", str(place / "cache"))
    return command


SMALL = ("--model", "mlp", "--epochs", "3", "--image-size", "12", "--batch-size", "8")


@pytest.fixture(scope="module")
def trained(thalweg):
    """The finished process of one training."""
    return thalweg("train", "photos", *SMALL, "--lr", "0.01")


RUN = "runs/photos-1"


def test_training_prints_the_result_on_stdout_and_progress_on_stderr(trained):
    assert (trained.returncode, "Traceback" in trained.stderr) == (0, False)
    assert f"{RUN}/report.html" in trained.stdout
    assert "epoch" not in trained.stdout.split("thalweg predict")[0].splitlines()[0]
    lines = [line for line in trained.stderr.splitlines() if line.startswith("epoch ")]
    assert 1 <= len(lines) <= 3
    assert "val_accuracy" in lines[-1]
    assert "\x1b" not in trained.stdout + trained.stderr
    assert "\r" not in trained.stderr


def test_a_prediction_names_the_class_of_each_image(trained, thalweg):
    done = thalweg("predict", RUN, "photos/cat/0.png", "photos/Äpfel 🍏")
    rows = done.stdout.splitlines()
    assert done.returncode == 0
    assert rows[0].split() == ["image", "prediction", "probability", "then"]
    assert rows[1].split()[:2] == ["photos/cat/0.png", "cat"]
    assert len(rows) == 1 + 1 + 24
    assert sum("  Äpfel 🍏  " in row for row in rows) >= 22


def test_csv_is_read_back_and_holds_no_formula(trained, thalweg):
    done = thalweg("predict", RUN, f"photos/{EVIL}", "photos/cat", "--csv")
    rows = list(csv.DictReader(io.StringIO(done.stdout)))
    classes = ("cat", f"'{SHOWN}", "Äpfel 🍏")
    assert len(rows) == 48
    assert {row["error"] for row in rows} == {""}
    assert {row["prediction"] for row in rows} == {"cat", f"'{SHOWN}"}
    for row in rows:
        assert sum(float(row[name]) for name in classes) == pytest.approx(1, abs=1e-4)
        assert not [cell for cell in row.values() if cell.startswith(("=", "+", "@"))]


def test_json_holds_every_probability(trained, thalweg):
    done = thalweg("predict", RUN, "photos/cat/0.png", "--json")
    answer = json.loads(done.stdout)
    assert answer["schema"] == 1
    (prediction,) = answer["predictions"]
    assert prediction["label"] == "cat"
    assert set(prediction["probabilities"]) == {"cat", SHOWN, "Äpfel 🍏"}
    assert sum(prediction["probabilities"].values()) == pytest.approx(1, abs=1e-5)


def test_one_bad_image_fails_alone(trained, thalweg, place):
    (place / "bad.png").write_bytes(b"<html>404</html>")
    done = thalweg("predict", RUN, "bad.png", "photos/cat/0.png", "missing.png")
    assert done.returncode == DataError.exit_code
    assert "bad.png" in done.stderr
    assert "missing.png" in done.stderr
    assert "2 of 3 could not be read; the others are answered" in done.stderr
    assert [line.split()[1] for line in done.stdout.splitlines()[1:]] == ["(not", "cat", "(not"]
    assert thalweg("predict", RUN, "bad.png").returncode == DataError.exit_code


def test_a_folder_without_images_is_named(trained, here, place):
    (place / "nothing").mkdir()
    code, _, err = here("predict", RUN, "nothing")
    assert code == DataError.exit_code
    assert "nothing" in err
    code, out, err = here("predict", RUN, "nothing", "photos/cat/0.png")
    assert code == DataError.exit_code
    assert out.splitlines()[2].split()[:2] == ["photos/cat/0.png", "cat"]


def test_diagnose_prints_text_or_json_and_writes_html(trained, thalweg, place):
    shown = thalweg("diagnose", RUN).stdout
    assert "Nothing wrong found" in shown
    assert "thalweg rules lists them" in shown
    report = json.loads(thalweg("diagnose", RUN, "--json").stdout)
    assert "loss-not-finite" in report["diagnosis"]["passed"]
    assert thalweg("diagnose", RUN, "--html", "out.html").returncode == 0
    assert (place / "out.html").read_text().startswith("<!")


def test_a_diagnosis_can_fail_a_script(thalweg):
    sick = thalweg("train", "photos", *SMALL, "--lr", "300", "--out", "sick")
    assert sick.returncode in (0, 1)
    done = thalweg("diagnose", "sick/photos-1", "--fail-on", "warning")
    assert done.returncode == 4
    assert thalweg("diagnose", "sick/photos-1").returncode == 0


def test_reports_are_written_where_asked(trained, thalweg, place):
    assert thalweg("report", RUN).stdout == f"{RUN}/report.html\n"
    assert thalweg("report", RUN, "--out", "r.html").stdout == "r.html\n"
    assert "<svg" in (place / "r.html").read_text()
    json.loads(thalweg("report", RUN, "--json").stdout)


def test_predicting_with_what_is_no_run_is_answered_with_one(trained, here):
    code, _, err = here("predict", "photos", "photos/cat/0.png")
    assert code == 2
    assert f"such as {RUN}" in err.partition("fix:")[2]


def test_without_any_answer_no_others_are_spoken_of(trained, here):
    code, _, err = here("predict", RUN, "no.png", "nor.png")
    assert code == 3
    assert "none of the 2 could be read" in err
    assert "the others" not in err


def test_the_saved_weights_are_explained(trained, thalweg):
    assert "saved                weights of epoch" in trained.stdout
    assert "best validation accuracy; ties by loss" in " ".join(trained.stdout.split())
    report = json.loads(thalweg("report", RUN, "--json").stdout)
    assert report["saved"].startswith("weights of epoch")
    assert report["caveats"] == []


def test_runs_are_listed(trained, thalweg):
    assert "photos-1" in thalweg("runs").stdout
    (summary,) = list(json.loads(thalweg("runs", "--json").stdout)["runs"])
    assert summary["state"] == "finished"
    assert thalweg("runs", "nowhere").returncode in (0, 1, 2)


def test_the_cache_is_shown_and_cleared(trained, thalweg):
    assert json.loads(thalweg("cache", "--json").stdout)["bytes"] > 0
    assert thalweg("cache", "--clear").returncode == 0
    assert json.loads(thalweg("cache", "--json").stdout)["bytes"] == 0


def test_the_plan_is_shown_and_nothing_is_written(thalweg, place):
    done = thalweg("train", "photos", "--dry-run", *SMALL, "--out", "never")
    assert done.returncode == 0
    assert "steps" in done.stdout
    assert "# estimated time: " in done.stdout
    assert "# estimated memory: " in done.stdout
    assert not (place / "never").exists()


@pytest.mark.slow
def test_printed_settings_say_where_they_come_from_and_can_be_used(thalweg, place):
    arguments = ("train", "photos", "--print-config", *SMALL)
    done = thalweg(*arguments, THALWEG_OPTIMIZER_LR="0.02", THALWEG_SEED="5")
    assert "lr = 0.02  # environment: THALWEG_OPTIMIZER_LR" in done.stdout
    assert "epochs = 3  # command line: --epochs" in done.stdout
    assert "val_fraction = 0.2  # default" in done.stdout
    (place / "again.toml").write_text(done.stdout)
    again = thalweg("train", "--config", "again.toml", "--print-config", "--seed", "6", "--json")
    recipe = json.loads(again.stdout)
    assert (recipe["recipe"]["optimizer.lr"], recipe["recipe"]["seed"]) == (0.02, 6)
    assert recipe["origins"]["optimizer.lr"] == "file: again.toml"


def test_an_unknown_key_in_a_file_is_answered_with_file_and_nearest_name(here, place):
    (place / "bad.toml").write_text("[optimizer]\nlrr = 1\n")
    code, _, err = here("train", "photos", "--config", "bad.toml")
    assert code == UsageError.exit_code
    assert "bad.toml: no recipe key is called 'optimizer.lrr'" in err
    assert "did you mean optimizer.lr" in err


@pytest.mark.parametrize(
    ("arguments", "code", "text"),
    [
        (("train", "nowhere"), 3, "nowhere"),
        (("train", "photos", "--model", "resnet81"), 2, "resnet18"),
        (("train", "photos", "--epochs", "0"), 2, "epochs"),
        (("train", "photos", "--device", "tpu9"), 2, "tpu9"),
        (("train",), 2, "PATH"),
        (("diagnose", "nowhere"), 2, "nowhere"),
        (("report", "photos"), 2, "photos"),
        (("predict", "nowhere", "x.png"), 2, "nowhere"),
        (("train", "--resume", "nowhere"), 2, "nowhere"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_what_cannot_be_done_is_an_error_in_three_parts(here, arguments, code, text):
    ended, out, err = here(*arguments)
    assert (ended, out) == (code, "")
    assert text in err
    assert err.splitlines()[-1].startswith("  fix:")


def test_a_resumed_run_keeps_its_recipe(trained, thalweg):
    done = thalweg("train", "--resume", RUN, "--lr", "0.5")
    assert done.returncode == UsageError.exit_code
    assert "--lr" in done.stderr
    assert thalweg("train", "--resume", RUN).returncode == 0


@pytest.mark.parametrize("command", ["diagnose", "report", "runs"])
def test_a_recorded_run_is_read_without_torch(trained, place, command, monkeypatch):
    monkeypatch.chdir(place)
    assert "torch" not in modules_loaded_by(command, "runs" if command == "runs" else RUN)


LONG = ("train", "photos", "--model", "mlp", "--epochs", "100000", "--image-size", "12")


@pytest.mark.parametrize(
    ("kind", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)], ids=["ctrl-c", "term"]
)
def test_a_stopped_run_is_saved_and_can_be_resumed(place, kind, code, tmp_path):
    ours, theirs = pty.openpty()
    with subprocess.Popen(
        [sys.executable, "-m", "thalweg", *LONG, "--out", str(tmp_path)],
        cwd=place,
        env=os.environ | {"THALWEG_CACHE": str(place / "cache"), "TERM": "xterm"},
        stderr=theirs,
        stdout=subprocess.PIPE,
        start_new_session=True,
    ) as process:
        os.close(theirs)
        sent = read_until(ours, b"step ")
        os.killpg(process.pid, kind)
        sent += read_all(ours).encode()
        assert process.stdout.read() == b""
    assert process.returncode == code
    assert b"Traceback" not in sent
    assert f"thalweg train --resume {tmp_path / 'photos-1'}".encode() in sent


def read_until(descriptor, text, seconds=60):
    """Read what was sent to the terminal, up to `text`."""
    sent, end = b"", time.monotonic() + seconds
    while text not in sent and time.monotonic() < end:
        sent += os.read(descriptor, 4096)
    return sent


def test_plan_shows_what_was_timed(here):
    code, out, _ = here("plan", "photos", "--model", "mlp", "--precision.threads", "1", "--json")
    assert code == 0
    timings = json.loads(out)
    assert [row["verdict"] for row in timings["rows"]].count("chosen") == 1
    assert "float32" in timings["rows"][0]["setting"]
    code, out, _ = here("plan", "photos", "--model", "mlp", "--precision.threads", "1")
    assert "ms a step" in out
    assert timings["note"] in out
