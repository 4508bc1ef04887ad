"""Run a command on what a stranger sent: one clear error or an answer, in time, nothing touched."""

import signal
from contextlib import contextmanager
from io import StringIO

import pytest

from thalweg.cli import app

SECONDS = 300  # of one command, which needs a few, and many times that beside other work


class HangError(BaseException):
    """A command that did not end: no handler of exceptions takes it for a fault of the data."""


@contextmanager
def limited(seconds=SECONDS):
    def stop(*_):
        raise HangError

    previous = signal.signal(signal.SIGALRM, stop)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, previous)


@pytest.fixture
def command(monkeypatch):
    """Runs a command in this process; returns exit code, output and errors."""

    def run(*words):
        out, err = StringIO(), StringIO()
        with monkeypatch.context() as patch, limited():
            patch.setattr("sys.stdout", out)
            patch.setattr("sys.stderr", err)
            code = app._run_command([str(word) for word in words])
        return code, out.getvalue(), err.getvalue()

    return run
