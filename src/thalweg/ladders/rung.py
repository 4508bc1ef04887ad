"""What a rung is before it is climbed."""

from collections.abc import Callable
from dataclasses import dataclass

from thalweg.data.dataset import DataFacts
from thalweg.errors import ThalwegError
from thalweg.ladders.samples import Climbed, Ground
from thalweg.record.ladder import Kind


class TooLongError(ThalwegError):
    """A rung that cannot be climbed in the time left; `minutes` would do."""

    def __init__(self, seconds: float) -> None:
        super().__init__(f"needs about {max(1, round(seconds)):,} s")
        self.seconds = seconds


class MissingError(ThalwegError):
    """A rung that needs what is not installed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RungMaker:
    """A line of the table of rungs."""

    name: str
    title: str
    kind: Kind
    climb: Callable[[Ground], Climbed]  # raises TooLongError, MissingError, DataError
    unfit: Callable[[DataFacts], str] = lambda facts: ""  # why not these data; "": they fit
    share: float = 0.5  # of the time left that it may take; the last rung may take all


def images_only(facts: DataFacts) -> str:
    return "" if facts.kind == "image" else "needs images"


def classes_only(facts: DataFacts) -> str:
    return "" if facts.task == "classification" else "needs classes"


def classified_images_only(facts: DataFacts) -> str:
    return images_only(facts) or classes_only(facts)
