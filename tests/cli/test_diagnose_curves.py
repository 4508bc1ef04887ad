"""`thalweg diagnose` on curves that somebody else logged."""

import json

import pytest
from cli.test_app import modules_loaded_by, run
from record.test_logs import KERAS, LIGHTNING, LOG, STATE

from thalweg.record import RunWriter
from thalweg.record.quantities import LOSS

OVERFIT = "epoch,train_loss,validation/ce\n" + "".join(
    f"{i},{2 / (i + 1):.3f},{0.5 + 2 / (i + 1) + 0.06 * i:.3f}\n" for i in range(30)
)


@pytest.fixture
def here(tmp_path, monkeypatch, command):
    """The command in this process: (exit code, stdout, stderr)."""
    monkeypatch.chdir(tmp_path)
    return command


def test_the_page_says_what_was_read_and_what_was_not(here, tmp_path):
    (tmp_path / "log.csv").write_text(OVERFIT)
    code, out, err = here("diagnose", "log.csv")
    assert (code, err) == (0, "")
    assert out.startswith("log.csv: loss ← train_loss\nnot read: validation/ce; --column names one")
    code, out, _ = here(
        "diagnose", "log.csv", "--column", "val_loss=validation/ce", "--fail-on", "warning"
    )
    assert code == 4
    assert "val_loss ← validation/ce" in out
    assert "Diagnosis: overfitting" in out


def test_json_and_html(here, tmp_path):
    (tmp_path / "log.csv").write_text(KERAS)
    code, out, _ = here("diagnose", "log.csv", "--json", "--html", "page.html")
    diagnosis = json.loads(out)
    assert code == 0
    assert (diagnosis["schema"], diagnosis["columns"]["val_loss"]) == (1, "val_loss")
    assert diagnosis["unread"] == []
    assert "nothing found wrong" in (tmp_path / "page.html").read_text()


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("metrics.csv", LIGHTNING.encode()),
        pytest.param("trainer_state.json", json.dumps(STATE).encode(), marks=pytest.mark.slow),
        pytest.param("events.out.tfevents.1", LOG, marks=pytest.mark.slow),
    ],
)
def test_every_kind_of_log_without_torch(name, content, tmp_path):
    (tmp_path / name).write_bytes(content)
    done = run("diagnose", name, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "Diagnosis: nothing found wrong" in done.stdout
    assert "loss ←" in done.stdout
    assert "torch" not in modules_loaded_by("diagnose", str(tmp_path / name))


@pytest.mark.parametrize(
    ("content", "arguments", "code", "text"),
    [
        (b"", (), 3, "is empty"),
        (b"\0\1", (), 3, "is not a text file"),
        (b"step,ce\n0,1\n", (), 3, "no column has a known name\n  seen: ce\n  fix:  name what"),
        (b"a\nb\n", (), 3, "has no column of numbers"),
        (b"loss\n1\n", ("--column", "val_loss"), 2, "--column takes a quantity and a column"),
        (b"loss\n1\n", ("--column", "val_loss=los"), 2, "did you mean loss?"),
        (b"loss\n1\n", ("--column", "val_los=loss"), 2, "did you mean val_loss?"),
    ],
)
def test_what_cannot_be_read_ends_in_one_clear_error(
    here, tmp_path, content, arguments, code, text
):
    (tmp_path / "log.csv").write_bytes(content)
    ended, out, err = here("diagnose", "log.csv", *arguments)
    assert (ended, out) == (code, "")
    assert text in err


def test_a_truncated_event_file_is_noted_and_read(tmp_path):
    (tmp_path / "events.out.tfevents.1").write_bytes(LOG[:-7])
    done = run("diagnose", "events.out.tfevents.1", cwd=tmp_path)
    assert done.returncode == 0
    assert "loss ← Loss/train" in done.stdout
    assert done.stderr.startswith("note: ")
    assert "breaks off within a record" in done.stderr


def test_a_column_that_would_clear_the_screen_is_shown_escaped(here, tmp_path):
    (tmp_path / "log.csv").write_text("step,loss,\x1b[2J\n0,1,1\n")
    assert "\x1b" not in here("diagnose", "log.csv")[1]


def test_fewer_than_two_classes_are_refused(here, tmp_path):
    (tmp_path / "log.csv").write_text(OVERFIT)
    code, _, err = here("diagnose", "log.csv", "--num-classes", "-3")
    assert code == 2
    assert "two classes or more" in err


def test_where_nothing_could_be_checked_nothing_is_called_well(here, tmp_path):
    (tmp_path / "log.csv").write_text("step,lr\n0,0.1\n")
    code, out, _ = here("diagnose", "log.csv", "--html", "page.html")
    assert code == 0
    assert "looked for: loss, accuracy" in out
    assert "Diagnosis: nothing could be checked (0 checked" in out
    assert "Diagnosis: nothing could be checked" in (tmp_path / "page.html").read_text()
    assert here("diagnose", "log.csv", "--fail-on", "error")[0] == 3


@pytest.mark.parametrize(("fail_on", "code"), [("note", 4), ("warning", 4), ("error", 0)])
def test_a_headline_that_warns_fails_as_a_finding_does(here, tmp_path, fail_on, code):
    with RunWriter(tmp_path / "run-1") as writer:
        writer.set("caveats", [{"title": "Duplicates across the splits", "text": "3 contents"}])
        for step in range(100):
            writer.add(LOSS, step, {"": 1.0 / (step + 1)})
    assert here("diagnose", "run-1", "--fail-on", fail_on)[0] == code
