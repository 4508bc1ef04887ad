"""The command line: words typed in a shell become calls. Only this folder prints."""

from thalweg.cli.app import main

__all__ = ["main"]
