"""The declaration of a quantity: its name, meaning, unit, and what one value belongs to."""

from dataclasses import dataclass
from typing import Literal

Per = Literal["run", "group", "weight", "module", "class", "kind", "reason"]


@dataclass(frozen=True, slots=True)
class Quantity:
    """One measurable thing. The unit of a pure number is "1"."""

    name: str
    meaning: str
    unit: str = "1"
    per: Per = "run"  # what a place is; of a run there is one, called ""
    how: str = ""  # what the user does to have it measured
    how_in_trainer: str = ""  # the same, for a run of thalweg's own trainer
    classes_only: bool = False  # it exists only where the targets are class numbers
