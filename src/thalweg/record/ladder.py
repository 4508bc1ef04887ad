"""What a climb of the ladder is: rungs from the simplest model to the strongest, on one data set.

A climb is a folder: `ladder.json` is all of it but each sample's error; the networks' runs lie
beside it.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from math import nan
from pathlib import Path
from typing import Any, Literal

from thalweg.errors import RunError
from thalweg.record.schema import json_safe

LADDER = "ladder.json"
FORMAT = 1

# What a rung rests on; "features" is a linear model, "feature network" a network, of made features.
Kind = Literal[
    "baseline", "memory", "linear", "features", "feature network", "network", "pretrained"
]
Metric = Literal["accuracy", "r2"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Rung:
    """One model, fitted to the training split and judged on the validation split."""

    name: str
    title: str
    kind: Kind
    score: float  # on validation, in the climb's metric
    low: float  # its 95 % interval: over validation samples, not over seeds
    high: float
    samples: int  # validation samples that it was judged on
    seconds: float  # all that the rung took, the choice of its settings included
    train_score: float = nan  # on (some) training samples; NaN: not measured
    train_loss: float = nan  # of a network, unsmoothed; NaN: not measured
    parameters: int = 0
    chosen: str = ""  # settings, and how they came about
    run: str = ""  # folder of its run, in that of the climb
    errors: tuple[float, ...] = field(default=(), repr=False)  # per sample; NaN: not judged


@dataclass(frozen=True, slots=True, kw_only=True)
class Ladder:
    """The rungs so far, and what they say of the data."""

    path: Path
    source: str
    task: str
    metric: Metric
    counts: Mapping[str, int]  # split → samples
    state: Literal["running", "finished", "interrupted"] = "running"
    rungs: tuple[Rung, ...] = ()
    left_out: Mapping[str, str] = field(default_factory=dict)  # rung → why
    best: str = ""  # name of the rung of highest score
    stop_at: str = ""  # the cheapest rung that is not shown to be worse than the best
    advice: str = ""
    seconds: float = 0.0
    environment: Mapping[str, str] = field(default_factory=dict)

    def __getitem__(self, name: str) -> Rung:
        """The rung of that name. KeyError where it was not climbed."""
        for rung in self.rungs:
            if rung.name == name:
                return rung
        raise KeyError(name)

    def to_dict(self) -> dict[str, Any]:
        """As JSON values: NaN is null, errors of single samples are left out."""
        body = {part.name: getattr(self, part.name) for part in fields(self)}
        body |= {"path": str(self.path), "format": FORMAT}
        body["rungs"] = [
            {name: value for name, value in asdict(rung).items() if name != "errors"}
            for rung in self.rungs
        ]
        plain: dict[str, Any] = json_safe(body)
        return plain


def save_ladder(climb: Ladder) -> None:
    """Write `ladder.json`, whole or not at all."""
    path = climb.path / LADDER
    fresh = path.with_name(f"{LADDER}.new")
    fresh.write_text(json.dumps(climb.to_dict(), indent=2, ensure_ascii=False) + "\n", "utf-8")
    fresh.replace(path)


def read_ladder(folder: Path | str) -> Ladder:
    """The climb in that folder. Raises: RunError where there is none, or it cannot be read."""
    path = Path(folder) / LADDER
    try:
        body = json.loads(path.read_text("utf-8"))
        if body.pop("format") != FORMAT:
            raise ValueError("made by another version of thalweg")
        rungs = tuple(map(_rung, body["rungs"]))
        return Ladder(**(body | {"rungs": rungs, "path": Path(folder)}))
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise RunError(f"{path} is no climb that can be read", seen=str(error)) from error


def _rung(values: Mapping[str, Any]) -> Rung:
    known: dict[str, Any] = {key: nan if value is None else value for key, value in values.items()}
    return Rung(**known)
