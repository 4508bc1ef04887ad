"""Scripts under `thalweg run` beside the same scripts under `python`."""

import os
import subprocess
import sys

import pytest

from thalweg.adapters.script.program import run_program
from thalweg.cli.app import main
from thalweg.cli.run import separate_program
from thalweg.record import RunReader

PROGRAMS = {  # without torch, whose import takes seconds
    "the end": "print('done')",
    "what a script sees of itself": """
        import sys
        print(__name__, __file__, __package__, __spec__, sys.argv, sys.path[0], sorted(globals()))
        print(type(__loader__).__name__, sys.modules["__main__"].__dict__ is globals())
    """,
    "exit code": "import sys; print('x', flush=True); sys.exit(3)",
    "exit message": "import sys; sys.exit('no data')",
    "exit without a code": "import sys; sys.exit()",
    "exception": """
        def divide(a):
            return a / 0

        try:
            {}["key"]
        except KeyError as error:
            raise ValueError("two") from error
    """,
    "exception of a library": "import json; json.loads('{')",
    "syntax error": "print('x'\\nfor",
    "own excepthook": """
        import sys
        sys.excepthook = lambda kind, error, _: print("mine:", kind.__name__, error)
        raise RuntimeError("x")
    """,
    "os._exit": "import os; print('x', flush=True); os._exit(5)",
    "interrupted": "import os, signal; print('x', flush=True); os.kill(os.getpid(), signal.SIGINT)",
    "killed": "import os, signal; os.kill(os.getpid(), signal.SIGTERM)",
    "atexit": "import atexit; atexit.register(print, 'last'); print('first')",
    "thread": """
        import threading, time
        def work():
            time.sleep(0.1)
            print("thread")
        threading.Thread(target=work).start()
        print("main")
    """,
    "pickle of its own class": """
        import pickle
        class Point:
            x = 3
        data = pickle.dumps(Point())
        print(data, pickle.loads(data).x)
    """,
    "spawned process": """
        import multiprocessing, sys
        def work(number):
            print(number, __name__, "thalweg" in sys.modules, flush=True)
        if __name__ == "__main__":
            process = multiprocessing.get_context("spawn").Process(target=work, args=(7,))
            process.start()
            process.join()
    """,
    "warnings": "import warnings; warnings.warn('careful'); print(len(warnings.filters))",
    "stdin": "import sys; print(sys.stdin.read(), end='')",
    "encoding": "import sys; out = sys.stdout; print(out.encoding, out.errors, out.line_buffering)",
}  # fmt: skip


def process(*words, cwd):
    """(exit code, stdout, stderr) of a process."""
    done = subprocess.run(
        [sys.executable, *words],
        capture_output=True,
        cwd=cwd,
        input=b"typed",
        timeout=100,
        env={k: v for k, v in os.environ.items() if not k.startswith("FORCE_")},
        check=False,
    )
    return done.returncode, done.stdout.decode(), done.stderr.decode()


def script(folder, text, name="train.py"):
    lines = text.splitlines()
    margin = min((len(x) - len(x.lstrip()) for x in lines if x.strip()), default=0)
    (folder / name).write_text("\n".join(line[margin:] for line in lines) + "\n")
    return name


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_script_runs_as_under_python(name, tmp_path):
    words = [script(tmp_path, PROGRAMS[name]), "--lr", "3", "--out", "x"]
    code, out, err = process("-m", "thalweg", "run", *words, cwd=tmp_path)
    note = "thalweg: nothing to diagnose: train.py: it never imported torch\n"
    assert (code, out, err.removesuffix(note)) == process(*words, cwd=tmp_path)
    assert [path.name for path in tmp_path.iterdir() if path.name == "runs"] == []


def test_a_module_runs_as_under_python(tmp_path):
    text = "import sys; print(__name__, __file__, __spec__.name, sys.argv, sys.path[0]); 1 / 0"
    script(tmp_path, text, "program.py")
    words = ["-m", "program", "--lr", "3"]
    code, out, err = process("-m", "thalweg", "run", *words, cwd=tmp_path)
    assert (code, out, err) == process(*words, cwd=tmp_path)


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (["nothing.py"], "there is no script nothing.py"),
        (["."], ". is a folder"),
        (["-m"], "-m needs the name of a module"),
        ([], "no script was named"),
        (["data.csv"], "data.csv is not a Python program"),
        (["--fail-on", "sometimes", "x.py"], "Invalid value"),
    ],
)
def test_what_cannot_be_run_gets_one_error(words, problem, tmp_path, monkeypatch, capsys):
    (tmp_path / "data.csv").write_text("a,b\n1,,2 3\n")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as ending:
        main(["run", *words])
    assert ending.value.code == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(f"error: {problem}")


@pytest.mark.parametrize(
    ("words", "separated"),
    [
        ("run x.py --out y", "run -- x.py --out y"),
        ("run --out o --quiet x.py --quiet", "run --out o --quiet -- x.py --quiet"),
        ("run --out=o -m x -h", "run --out=o -- -m x -h"),
        ("run -- x.py -h", "run -- x.py -h"),
        ("run --help", "run --help"),
    ],
)
def test_the_scripts_arguments_are_its_own(words, separated):
    assert separate_program(words.split()) == separated.split()


TRAINING = """
    import sys
    import torch
    torch.manual_seed(0)
    class Net(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.hidden, self.head = torch.nn.Linear(20, 32), torch.nn.Linear(32, 3)
        def forward(self, inputs):
            return self.head(self.hidden(inputs).relu())
    inputs = torch.randn(256, 20)
    targets = (inputs[:, 0] > 0).long() + (inputs[:, 1] > 1).long()
    model = Net()
    optimizer = torch.optim.SGD(model.parameters(), lr=float(sys.argv[1]))
    for step in range(60):
        loss = torch.nn.functional.cross_entropy(model(inputs), targets)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step == 40 and "raise" in sys.argv:
            raise RuntimeError("in the middle")
        if step == 40 and "stop" in sys.argv:
            raise KeyboardInterrupt
    sys.exit(3 if "exit" in sys.argv else 0)
"""


@pytest.fixture
def program(tmp_path, monkeypatch):
    """Run a script in this process; return its end, and what was said meanwhile."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("thalweg.diagnosis.live_verdict.FREE", 600.0)  # however slow the machine
    monkeypatch.setattr(sys, "argv", [])
    monkeypatch.setattr(sys, "path", ["", *sys.path])
    monkeypatch.setitem(sys.modules, "__main__", sys.modules["__main__"])
    monkeypatch.setattr(sys, "excepthook", lambda *_: None)

    def run(text, *arguments, out="runs"):
        lines = []
        name = script(tmp_path, text)
        out = None if out is None else tmp_path / out
        return run_program([name, *arguments], out=out, say=lines.append), lines

    return run


def test_a_training_is_diagnosed_and_recorded(program, tmp_path):
    ended, lines = program(TRAINING, "30")
    (training,) = ended.trainings
    assert training.name == "Net"
    assert training.diagnosis.headline.rule == "learning-rate-too-high"
    assert (tmp_path / "runs/train-1/report.html").is_file()
    reader = RunReader(tmp_path / "runs/train-1")
    assert reader.state == "finished"
    assert reader.meta["source"] == "train.py"
    (line,) = lines
    assert "learning-rate-too-high" in line
    assert ended.notes == []


def test_a_sound_training_is_let_alone(program):
    ended, lines = program(TRAINING, "0.5", out=None)
    assert lines == []
    assert [t.diagnosis.headline for t in ended.trainings] == [None]
    assert [t.run for t in ended.trainings] == [None]
    assert ended.succeeded


@pytest.mark.parametrize(
    ("word", "state", "error"),
    [("raise", "failed", RuntimeError), ("stop", "interrupted", KeyboardInterrupt),
     ("exit", "finished", SystemExit)],
)  # fmt: skip
def test_however_a_script_ends_it_is_diagnosed(word, state, error, program, tmp_path):
    ended, _ = program(TRAINING, "30", word)
    assert isinstance(ended.error, error)
    assert not ended.succeeded
    assert len(ended.trainings) == 1
    assert RunReader(tmp_path / "runs/train-1").state == state


def test_a_script_that_trains_nothing_is_told_so_in_a_line(program, tmp_path):
    ended, _ = program("import torch; print(torch.ones(2).sum())")
    assert ended.trainings == []
    assert ended.notes == ["nothing to diagnose: train.py trained nothing in this process"]
    assert not (tmp_path / "runs").exists()


def test_only_the_first_rank_speaks(program, tmp_path, monkeypatch):
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "2")
    ended, lines = program(TRAINING, "30")
    assert (ended.trainings, ended.notes, lines) == ([], [], [])
    assert not (tmp_path / "runs").exists()


@pytest.mark.slow
@pytest.mark.parametrize(
    "words", [["0.5"], ["30"], ["0.5", "exit"], ["0.5", "raise"], ["0.5", "stop"]], ids=" ".join
)
def test_output_exit_code_and_weights_are_those_of_python(words, tmp_path):
    dump = (
        "\n    import atexit, hashlib\n    atexit.register(lambda: print(hashlib.sha256(b''.join("
    )
    dump += (
        "w.detach().numpy().tobytes() for w in model.parameters())).hexdigest(), torch.rand(1)))"
    )
    text = TRAINING.replace("    for step", f"{dump}\n    for step")
    name = script(tmp_path, text)
    code, out, err = process("-m", "thalweg", "run", name, *words, cwd=tmp_path)
    expected = process(name, *words, cwd=tmp_path)
    assert (code, out) == expected[:2]
    lines = expected[2].splitlines()
    assert [line for line in err.splitlines() if line in lines] == lines
    assert "report   runs/train-1/report.html" in err


@pytest.mark.slow
def test_findings_fail_a_script_that_succeeds(tmp_path):
    name = script(tmp_path, TRAINING)
    start = ["-m", "thalweg", "run", "--quiet", "--fail-on", "error"]
    assert process(*start, name, "30", cwd=tmp_path)[0] == 4
    assert process(*start, name, "0.5", cwd=tmp_path)[0] == 0
    assert process(*start, name, "30", "exit", cwd=tmp_path)[0] == 3
