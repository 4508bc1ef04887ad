"""Words typed in a shell become calls; the only place that prints. Starts without torch."""

from thalweg.cli.app import main

__all__ = ["main"]
