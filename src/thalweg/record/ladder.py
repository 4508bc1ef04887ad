"""A ladder: rungs from the simplest model to the strongest, on one data set.

A ladder is a folder: `ladder.json` holds all of it but the errors of single samples; the runs of
its networks lie beside it.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from math import nan
from pathlib import Path
from typing import Any, Literal

from thalweg.errors import RunError
from thalweg.files import json_text, read_json_object, replace_file
from thalweg.record.schema import json_safe

LADDER = "ladder.json"
FORMAT = 1

# "features" is a linear model of computed features, "feature network" a network of them.
Kind = Literal[
    "baseline", "memory", "linear", "trees", "features", "feature network", "network", "pretrained"
]
STRONG: frozenset[Kind] = frozenset({"trees", "feature network", "network", "pretrained"})
Metric = Literal["accuracy", "r2"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Rung:
    """One model, fitted to the training split and scored on the validation split."""

    name: str
    title: str
    kind: Kind
    score: float  # on validation, in the ladder's metric
    low: float  # its 95 % interval: over validation samples, not over seeds
    high: float
    samples: int  # validation samples scored
    seconds: float  # for fitting, choosing its settings and scoring
    train_score: float = nan  # on training samples, perhaps not all; NaN: not measured
    train_loss: float = nan  # of a network, unsmoothed; NaN: not measured
    parameters: int = 0
    chosen: str = ""  # settings, and how they were chosen
    run: str = ""  # folder of its run, inside the ladder's
    errors: tuple[float, ...] = field(default=(), repr=False)  # per sample; NaN: not scored


@dataclass(frozen=True, slots=True, kw_only=True)
class Ladder:
    """The rungs so far, and what they tell about the data."""

    path: Path
    source: str
    task: str
    metric: Metric
    counts: Mapping[str, int]  # split → samples
    state: Literal["running", "finished", "interrupted"] = "running"
    rungs: tuple[Rung, ...] = ()
    left_out: Mapping[str, str] = field(default_factory=dict)  # rung → reason
    untried: tuple[str, ...] = ()  # titles of strong rungs that time or a package was missing for
    best: str = ""  # name of the rung of highest score
    # The cheapest rung that is not shown to be worse than the best; "" while one is untried.
    stop_at: str = ""
    advice: str = ""
    seconds: float = 0.0
    environment: Mapping[str, str] = field(default_factory=dict)

    def __getitem__(self, name: str) -> Rung:
        """The rung of that name. Raises KeyError where there is none."""
        for rung in self.rungs:
            if rung.name == name:
                return rung
        raise KeyError(name)

    def to_dict(self) -> dict[str, Any]:
        """JSON values: NaN becomes None, errors of single samples are left out."""
        body = {each.name: getattr(self, each.name) for each in fields(self)}
        body |= {"path": str(self.path), "format": FORMAT}
        body["rungs"] = [
            {name: value for name, value in asdict(rung).items() if name != "errors"}
            for rung in self.rungs
        ]
        return dict(json_safe(body))


def save_ladder(ladder: Ladder) -> None:
    """Write `ladder.json` atomically."""
    text = json_text(ladder.to_dict()) + "\n"
    replace_file(ladder.path / LADDER, text)


def read_ladder(folder: Path | str) -> Ladder:
    """Read the ladder of a folder. Raises RunError where there is none, or it cannot be read."""
    path = Path(folder) / LADDER
    try:
        body = read_json_object(path)
        if body.pop("format") != FORMAT:
            raise ValueError("made by another version of thalweg")
        rungs = tuple(map(_rung, body["rungs"]))
        body |= {"untried": tuple(body.get("untried", ()))}
        return Ladder(**(body | {"rungs": rungs, "path": Path(folder)}))
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise RunError(f"{path} is no ladder that can be read", seen=str(error)) from error


def _rung(values: Mapping[str, Any]) -> Rung:
    entries: dict[str, Any] = {name: nan if v is None else v for name, v in values.items()}
    return Rung(**entries)
