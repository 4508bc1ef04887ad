"""The command as a user meets it: in a process of its own."""

import os
import subprocess
import sys

import pytest

import thalweg
from thalweg.cli import app as cli_app
from thalweg.errors import DataError, RunError, TrainingError, UsageError

COMMANDS = tuple(cli_app._COMMANDS)


def run(*arguments, cwd=None, **environment):
    """The finished process; its output is that of a pipe."""
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("THALWEG", "FORCE_"))}
    return subprocess.run(
        [sys.executable, "-m", "thalweg", *map(str, arguments)],
        capture_output=True,
        encoding="utf-8",
        env=clean | environment,
        stdin=subprocess.DEVNULL,
        timeout=100,
        cwd=cwd,
        check=False,
    )


def test_help_lists_every_command():
    done = run("--help")
    assert done.returncode == 0
    assert [name for name in COMMANDS if f" {name} " not in done.stdout] == []
    assert done.stderr == ""


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself(command):
    done = run(command, "--help")
    assert (done.returncode, done.stderr) == (0, "")
    assert f"Usage: thalweg {command}" in done.stdout
    assert cli_app._COMMANDS[command].split()[0] in done.stdout


def test_version():
    assert run("--version").stdout == f"{thalweg.__version__}\n"


def test_train_has_an_option_for_every_recipe_key():
    from thalweg.cli.recipe_options import option
    from thalweg.recipes.recipe import KEYS

    text = run("train", "--help", COLUMNS="200").stdout
    assert [key for key in KEYS if f"--{key}" not in text or option(key) not in text] == []


@pytest.mark.parametrize(
    ("arguments", "suggestion"),
    [
        (("trian", "photos"), "train"),
        (("train", "photos", "--epoch", "3"), "--epochs"),
        (("train", "photos", "--optimiser.lr", "3"), "--optimizer.lr"),
        (("explain", "initial-loss"), "initial-loss-above-chance"),
        (("runs", "--jsn"), "--json"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_a_misspelling_is_answered_with_the_nearest_name(arguments, suggestion):
    done = run(*arguments)
    assert done.returncode == UsageError.exit_code
    assert done.stdout == ""
    assert done.stderr.startswith("error: ")
    assert "did you mean" in done.stderr
    assert suggestion in done.stderr.partition("fix:")[2]


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("--augment.small.64", "--augment.progressive_resizing"),
        ("--evaluation.sure", "--evaluation.confidence_threshold"),
    ],
)
def test_an_option_with_an_old_name_is_answered_with_the_new_one(old, new):
    done = run("train", "photos", old, "0.5")
    assert done.returncode == UsageError.exit_code
    assert "has a new name" in done.stderr
    assert f"fix:  {new}\n" in done.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        ("train", "photos", "--lr", "fast"),
        ("train", "photos", "--task.name", "segmentation"),
        ("train", "photos", "--lr", "1", "--optimizer.lr", "2"),
        ("train", "photos", "--config", "/nowhere/recipe.toml"),
        ("diagnose",),
        ("predict", "somewhere"),
        ("explain",),
        ("diagnose", "somewhere", "--fail-on", "catastrophe"),
    ],
    ids=" ".join,
)
def test_what_cannot_be_meant_exits_with_2_and_says_what_to_do(arguments):
    done = run(*arguments)
    assert done.returncode == UsageError.exit_code
    assert done.stdout == ""
    assert done.stderr.startswith("error: ")
    assert "fix:" in done.stderr


def test_a_setting_in_the_environment_is_checked_as_an_option_is():
    done = run("train", "photos", THALWEG_OPTIMISER_LR="1")
    assert done.returncode == UsageError.exit_code
    assert "did you mean THALWEG_OPTIMIZER_LR" in done.stderr


def test_the_help_has_no_escape_codes_in_a_pipe_or_where_colour_is_refused():
    assert "\x1b" not in run("--help").stdout
    assert "\x1b" not in run("--help", TERM="xterm", NO_COLOR="1").stdout
    assert "\x1b[" in run("--help", TERM="xterm", FORCE_COLOR="1").stdout


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (UsageError("p"), 2),
        (DataError("p"), 3),
        (TrainingError("p"), 1),
        (RunError("p"), 1),
        (PermissionError(13, "Permission denied", "/x"), 1),
        (KeyboardInterrupt(), 130),
        (SystemExit(7), 7),
    ],
    ids=lambda value: type(value).__name__,
)
def test_each_error_has_its_exit_code(monkeypatch, capsys, error, code):
    def fails(arguments):
        raise error

    monkeypatch.setattr(cli_app, "build_app", lambda: fails)
    with pytest.raises(SystemExit) as ending:
        cli_app.main([])
    assert ending.value.code == code
    assert "Traceback" not in capsys.readouterr().err


def test_a_reader_that_goes_away_is_no_error():
    command = f"{sys.executable} -m thalweg rules --json | head -c 1; echo ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=True)
    assert done.stderr == ""
    assert done.stdout.splitlines()[0] in ("{0", "{141")


@pytest.mark.parametrize(
    "arguments",
    [
        ("--help",),
        ("--version",),
        ("train", "--help"),
        ("rules",),
        ("explain", "initial-loss-above-chance"),
        ("runs", "nowhere"),
        ("trian",),
    ],
    ids=" ".join,
)
def test_what_needs_no_torch_does_not_wait_for_it(arguments):
    assert "torch" not in modules_loaded_by(*arguments)


def modules_loaded_by(*arguments):
    """Top-level packages in the process after the command."""
    code = (
        "import sys\nfrom thalweg.cli import main\ntry:\n    main(sys.argv[1:])\n"
        "finally:\n    print('\\n', *{name.split('.')[0] for name in sys.modules})"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=False
    )
    return done.stdout.splitlines()[-1].split()


def test_completion_can_be_installed(tmp_path):
    done = run("--install-completion", "--shell", "bash", HOME=str(tmp_path), SHELL="/bin/bash")
    assert done.returncode == 0
    scripts = [path for path in tmp_path.rglob("*") if path.is_file() and "thalweg" in path.name]
    assert "--image-size" in scripts[0].read_text()


@pytest.mark.parametrize(("closed", "code"), [("<&- 2>&-", 0), ("<&- >&- 2>&-", 1)])
def test_only_a_closed_output_is_an_error(tmp_path, closed, code):
    """As some services start a program; results that nobody gets are no success."""
    command = f'"{sys.executable}" -m thalweg rules {closed}'
    done = subprocess.run(["sh", "-c", command], cwd=tmp_path, capture_output=True, check=False)
    assert done.returncode == code
