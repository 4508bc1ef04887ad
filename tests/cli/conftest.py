"""For all tests of commands: the command in this process, which spares it the start."""

import pytest

from thalweg.cli import main


@pytest.fixture
def command(capsys):
    """What was typed → (exit code, stdout, stderr)."""

    def call(*arguments):
        with pytest.raises(SystemExit) as ending:
            main(list(arguments))
        return ending.value.code, *capsys.readouterr()

    return call
