"""The form of a program: a training loop that a stranger wrote, faulty and repaired, or sound.

A program is a function of `watch`. It builds its model, calls `watch(model, optimizer, ...)` as a
user calls `thalweg.watch`, trains, and returns the numbers by which one sees how well it trained.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

Watch = Callable[..., Any]  # thalweg.watch, or a stand-in that ignores all calls
Metrics = dict[str, float | None]


@dataclass(frozen=True, slots=True)
class Program:
    """A training loop, and the fault that its author put into it."""

    name: str
    kind: str  # "language model", "GAN": what is trained
    fault: str  # in the author's words; "" for a sound program
    source: str  # where people report it, or "own experience"
    train: Callable[..., Metrics]

    def __call__(self, watch: Watch, *, fixed: bool = False) -> Metrics:
        return self.train(watch, fixed) if self.fault else self.train(watch)


PROGRAMS: dict[str, Program] = {}


def faulty(kind: str, *, fault: str, source: str = "own experience") -> Callable[..., Any]:
    """Register `train(watch, fixed)`, which has the fault unless `fixed` is true."""
    return lambda train: _register(Program(train.__name__, kind, fault, source, train))


def sound(kind: str, *, source: str = "own experience") -> Callable[..., Any]:
    """Register `train(watch)`, in which nothing is wrong."""
    return lambda train: _register(Program(train.__name__, kind, "", source, train))


def _register(program: Program) -> Callable[..., Metrics]:
    if program.name in PROGRAMS:
        raise ValueError(f"two programs are called {program.name}")
    PROGRAMS[program.name] = program
    return program.train
