"""The contract of a rule: a pure check of a history, and the finding that it returns."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal

from thalweg.record import History, Quantity

Check = Callable[..., "Finding | None"]
Severity = Literal["note", "warning", "error"]
Stage = Literal["wiring", "output", "data", "signal", "optimisation", "generalisation"]
SEVERITIES: tuple[Severity, ...] = ("error", "warning", "note")
STAGES: tuple[Stage, ...] = (
    "wiring",
    "output",
    "data",
    "signal",
    "optimisation",
    "generalisation",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Prescription:
    """One change to try, and the measurement that will show if it worked."""

    change: str
    expect: str
    edit: Mapping[str, object] = field(default_factory=dict)  # recipe keys; empty: words only


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """A fault of a run, with the numbers that show it."""

    severity: Severity
    summary: str
    where: str = ""  # the module, weight, class or step at fault; "" is the whole run
    evidence: Mapping[str, float] = field(default_factory=dict)
    prescriptions: tuple[Prescription, ...] = ()
    rule: str = ""  # filled in by `diagnose`, like the two below
    stage: Stage = "wiring"
    consequences: tuple[str, ...] = ()  # rules whose findings this one explains


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """A named, pure check of a history. Its docstring is its page in the documentation."""

    name: str  # names the fault: reads as "allow <name>"
    stage: Stage
    needs: tuple[Quantity, ...]
    check: Check
    explains: tuple[str, ...] = ()  # other rules whose findings follow from this fault
    symptom: bool = False  # explained by any finding of an earlier stage, named or not
    after_nan: bool = False  # reads also what was measured after the run became NaN

    def __call__(self, history: History, **limits: float) -> Finding | None:
        return self.check(history, **limits)

    @property
    def doc(self) -> str:
        """The rule's page: the docstring of its check."""
        return self.check.__doc__ or ""

    def accounts_for(self, other: "Rule") -> bool:
        """Return whether this fault, where present, explains the other rule's finding."""
        if other.name in self.explains:
            return True
        earlier = STAGES.index(self.stage) < STAGES.index(other.stage)
        return other.symptom and not self.symptom and earlier


def rule(
    name: str,
    *,
    stage: Stage,
    needs: tuple[Quantity, ...],
    explains: tuple[str, ...] = (),
    symptom: bool = False,
    after_nan: bool = False,
) -> Callable[[Check], Rule]:
    """Turn a check into a rule; the decorated name is then the `Rule`.

    A check's keyword `least` is the number of points of the loss, or of a validation score, below
    which it is silent; `least_steps` is the same, in steps. `diagnose` reads their defaults: on
    fewer points, silence is reported as not checked.
    """
    return lambda check: Rule(
        name=name,
        stage=stage,
        needs=needs,
        check=check,
        explains=explains,
        symptom=symptom,
        after_nan=after_nan,
    )
