"""Run a program as Python itself runs it: as `__main__`, with its own arguments and search path."""

import os
import runpy
import sys
import threading
from collections.abc import Sequence
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import CodeType, ModuleType, TracebackType
from typing import NoReturn

from thalweg.errors import UsageError

OURS = ("thalweg.adapters.script", "thalweg.cli", "thalweg.__main__")
PYTHON_SUFFIXES = (".py", ".pyw")


def check_program(command: Sequence[str]) -> None:
    """Raise UsageError where the command names no Python program."""
    name = command[0] if command else ""
    if name == "-m":
        if len(command) < 2:
            raise UsageError("-m needs the name of a module", fix="thalweg run -m MODULE")
        return
    if not name:
        raise UsageError("no script was named", fix="thalweg run train.py ARGUMENTS…")
    path = Path(name)
    if path.is_dir():
        main = path / "__main__.py"
        file = main if main.is_file() else path / "train.py"
        raise UsageError(f"{name} is a folder, not a script", fix=f"thalweg run {file}")
    if not path.is_file():
        raise UsageError(f"there is no script {name}", seen=f"in {Path.cwd()}", fix=_nearest(path))
    if path.suffix not in PYTHON_SUFFIXES:
        _check_source(path)


def run_as_main(command: Sequence[str]) -> None:
    """Run the program; its exceptions are its own."""
    if command[0] == "-m":
        _run_module(command[1], command[2:])
    else:
        _run_script(command[0], command[1:])


def without_our_frames(error: BaseException) -> BaseException:
    """The error, and those that led to it, with the tracebacks that Python alone would show."""
    visited: set[int] = set()
    queue: list[BaseException | None] = [error]
    while queue:
        one = queue.pop()
        if one is None or id(one) in visited:
            continue
        visited.add(id(one))
        one.__traceback__ = _cleaned(one.__traceback__)
        queue += [one.__cause__, one.__context__, *getattr(one, "exceptions", ())]
    return error


def show_error(error: BaseException) -> None:
    """Report an exception that nobody caught, as Python does."""
    sys.last_type, sys.last_value, sys.last_traceback = type(error), error, error.__traceback__
    sys.excepthook(type(error), error, error.__traceback__)


def wait_for_threads() -> None:
    """Wait for the program's other threads, as Python does when its main module is done."""
    for thread in threading.enumerate():
        own = thread is threading.current_thread() or thread.name == "thalweg-record"
        if not own and not thread.daemon:
            thread.join()


def leave(error: BaseException | None, exit_code: int = 0) -> NoReturn:
    """End the process as Python would after this exception; else with the exit code."""
    if isinstance(error, SystemExit):
        raise error
    if isinstance(error, KeyboardInterrupt):
        sys.excepthook = lambda *_: None  # it has been shown; Python then dies of the signal
        raise error
    sys.exit(1 if error is not None else exit_code)


def _run_script(name: str, arguments: Sequence[str]) -> None:
    path = os.path.abspath(name)  # noqa: PTH100 (as Python: symbolic links stay)
    sys.argv[:] = [name, *arguments]
    _set_first_path(str(Path(name).resolve().parent))
    module = _new_main()
    vars(module).update(
        __file__=path, __cached__=None, __loader__=SourceFileLoader("__main__", path)
    )
    exec(_code(path), vars(module))


def _run_module(name: str, arguments: Sequence[str]) -> None:
    sys.argv[:] = ["-m", *arguments]
    _set_first_path(str(Path.cwd()))
    _new_main()
    vars(runpy)["_run_module_as_main"](name)  # what `python -m` calls


def _set_first_path(folder: str) -> None:
    """Replace the folder of the command `thalweg` in the search path."""
    if not sys.flags.safe_path:
        sys.path[0] = folder


def _new_main() -> ModuleType:
    """A fresh `__main__`, as a new interpreter has it."""
    module = ModuleType("__main__")
    vars(module).update(__builtins__=sys.modules["builtins"], __annotations__={})
    sys.modules["__main__"] = module
    return module


def _code(path: str) -> CodeType:
    return compile(Path(path).read_bytes(), path, "exec", dont_inherit=True)


def _check_source(path: Path) -> None:
    try:
        _code(str(path))
    except (SyntaxError, ValueError) as error:
        raise UsageError(
            f"{path} is not a Python program",
            seen=str(error).partition("\n")[0],
            fix="name the script that trains, such as train.py",
        ) from error


def _nearest(path: Path) -> str:
    folder = path.parent if path.parent.is_dir() else Path()
    scripts = sorted(one.name for one in folder.glob("*.py"))
    return f"scripts there: {', '.join(scripts[:5])}" if scripts else "check the path"


def _cleaned(traceback: TracebackType | None) -> TracebackType | None:
    """The traceback less the frames that start the program, and those of its hooks."""
    frames = []
    while traceback is not None:
        frames.append(traceback)
        traceback = traceback.tb_next
    rest = None
    for frame in reversed([frame for frame in frames if not _is_ours(frame)]):
        frame.tb_next = rest
        rest = frame
    return rest


def _is_ours(traceback: TracebackType) -> bool:
    return str(traceback.tb_frame.f_globals.get("__name__", "")).startswith(OURS)
