"""Run the rules. A rule that lacks a measurement is reported as not checked, never as passed."""

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from json import dumps

from thalweg.diagnosis.rule import STAGES, Finding, Rule
from thalweg.diagnosis.rules import RULES
from thalweg.record import History

_SEVERITIES = ("error", "warning", "note")


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """What is wrong with a run, what was looked at and found well, and what was not looked at."""

    findings: tuple[Finding, ...]  # worst first
    passed: tuple[str, ...]
    not_checked: Mapping[str, str]  # rule -> what would have to be measured or passed in

    @property
    def headline(self) -> Finding | None:
        """The one cause to treat first; None when nothing worse than a note was found."""
        if self.findings and self.findings[0].severity != "note":
            return self.findings[0]
        return None

    def to_json(self) -> str:
        return dumps(asdict(self), indent=2, allow_nan=False)


def diagnose(history: History, rules: Iterable[Rule] = RULES) -> Diagnosis:
    """Judge a history by every rule; earlier causes come first and explain later symptoms."""
    findings: list[Finding] = []
    passed: list[str] = []
    not_checked: dict[str, str] = {}
    for rule in rules:
        missing = [quantity.name for quantity in rule.needs if quantity not in history]
        if missing:
            not_checked[rule.name] = f"not measured: {', '.join(missing)}"
        elif (finding := rule(history)) is None:
            passed.append(rule.name)
        else:
            findings.append(replace(finding, rule=rule.name, stage=rule.stage))
    findings.sort(key=lambda f: (_SEVERITIES.index(f.severity), STAGES.index(f.stage)))
    return Diagnosis(tuple(findings), tuple(passed), not_checked)
