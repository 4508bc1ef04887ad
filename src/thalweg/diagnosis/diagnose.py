"""Run the rules. A rule that lacks a measurement is reported as not checked, never as passed."""

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from functools import cache
from inspect import signature
from json import dumps

from numpy import errstate

from thalweg.diagnosis.finite_part import finite_part, first_lasting_nan
from thalweg.diagnosis.missing import NOT_SHOWN, how_to_measure
from thalweg.diagnosis.notebook_page import notebook_page
from thalweg.diagnosis.rule import SEVERITIES, STAGES, Check, Finding, Rule
from thalweg.diagnosis.rules import rules_with_plugins
from thalweg.diagnosis.text_page import text_page
from thalweg.record import History
from thalweg.record.quantities import INSTRUMENT_FAILED, LOSS, NOT_MEASURED, VAL_ACCURACY, VAL_LOSS
from thalweg.record.schema import json_safe

COUNTED = (LOSS, VAL_LOSS, VAL_ACCURACY)  # quantities of which a rule needs many points
MOST_CAUSES = 3  # ranked causes that a page shows; more would be a list, not a verdict


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """The findings about a run, the rules that passed, and the rules that could not be checked."""

    findings: tuple[Finding, ...]  # worst first: causes, then what they explain, then notes
    passed: tuple[str, ...]
    not_checked: Mapping[str, str]  # rule → what would have to be measured or passed in

    @property
    def headline(self) -> Finding | None:
        """The one cause to treat first; None when no finding is worse than a note."""
        return self.causes[0] if self.causes else None

    @property
    def has_result(self) -> bool:
        """False where not one rule could be checked."""
        return bool(self.findings or self.passed)

    @property
    def verdict(self) -> str:
        """The rule of the headline, or that nothing was found, or could be checked."""
        if self.headline is not None:
            return self.headline.rule
        return "nothing found wrong" if self.has_result else "nothing could be checked"

    @property
    def causes(self) -> tuple[Finding, ...]:
        """At most three findings that no other one explains, in the order of treatment."""
        explained = {name for finding in self.findings for name in finding.consequences}
        causes = [f for f in self.findings if f.severity != "note" and f.rule not in explained]
        return tuple(causes[:MOST_CAUSES])

    def to_json(self) -> str:
        """Everything, as JSON; numbers that are not finite become null."""
        return dumps(json_safe(asdict(self)), indent=2, allow_nan=False, ensure_ascii=False)

    def _repr_html_(self) -> str:
        """The page for a cell of a notebook."""
        return notebook_page(
            self.causes,
            self.findings,
            self.passed,
            not_checked=self.not_checked,
            verdict=self.verdict,
        )

    def __str__(self) -> str:
        return text_page(
            self.causes,
            self.findings,
            self.passed,
            not_checked=self.not_checked,
            verdict=self.verdict,
        )


def diagnose(history: History, rules: Iterable[Rule] | None = None) -> Diagnosis:
    """Apply all rules, or these; earlier causes come first and explain later symptoms.

    What was measured after the run became NaN is evidence for those rules alone that ask for it.
    """
    whole, end = history, first_lasting_nan(history)
    before = whole if end is None else finite_part(whole, end)
    rules = tuple(rules_with_plugins() if rules is None else rules)
    findings: list[tuple[Rule, Finding]] = []
    passed: list[str] = []
    not_checked: dict[str, str] = {}
    failures = _instrument_failures(history)
    for rule in rules:
        history = whole if rule.after_nan else before
        if any(quantity not in history for quantity in rule.needs):
            not_checked[rule.name] = (
                f"measured only after step {end}, from which on the run is not finite"
                if all(quantity in whole for quantity in rule.needs)
                else _why_not_checked(rule, history, failures)
            )
            continue
        try:
            finding = _finding(rule, history)
        except Exception as error:  # a rule that breaks says nothing about the run
            not_checked[rule.name] = f"the rule itself failed: {type(error).__name__}: {error}"
            continue
        if finding is not None:
            findings.append((rule, finding))
        elif reasons := [failures[q.name] for q in rule.needs if q.name in failures]:
            not_checked[rule.name] = reasons[0]
        elif reason := too_few_points(rule, history):
            not_checked[rule.name] = reason
        else:
            passed.append(rule.name)
    return Diagnosis(_ranked_findings(findings), tuple(passed), not_checked)


def too_few_points(rule: Rule, history: History) -> str:
    """The reason why the silence of a rule means nothing; "" where it means something."""
    least = _least_points(rule.check)
    for quantity in rule.needs:
        if not least or quantity not in COUNTED:
            continue
        points = max((len(series) for series in history.by_place(quantity).values()), default=0)
        if points < least:
            more = "train longer" if quantity is LOSS else "train longer, or validate more often"
            return f"{points} points of {quantity.name} are too few: it takes {least}; {more}"
    return ""


@cache
def _least_points(check: Check) -> float:
    """The number of points below which a check is silent: the default of its keyword; 0: any."""
    limits = signature(check).parameters
    return next((limits[n].default for n in ("least", "least_steps") if n in limits), 0)


def _finding(rule: Rule, history: History) -> Finding | None:
    with errstate(all="ignore"):  # an overflow becomes infinite, and is reported as that
        finding = rule(history)
    return finding and replace(finding, rule=rule.name, stage=rule.stage)


def _ranked_findings(findings: list[tuple[Rule, Finding]]) -> tuple[Finding, ...]:
    """Causes first, in the order of the stages; then what they explain; then the notes."""
    linked = [
        (rule, replace(finding, consequences=_consequences(rule, finding, findings)))
        for rule, finding in findings
    ]
    explained = {name for _, finding in linked for name in finding.consequences}

    def rank(entry: tuple[Rule, Finding]) -> tuple[bool, bool, int, int]:
        rule, finding = entry
        stage, severity = STAGES.index(rule.stage), SEVERITIES.index(finding.severity)
        return finding.severity == "note", rule.name in explained, stage, severity

    return tuple(finding for _, finding in sorted(linked, key=rank))


def _consequences(
    rule: Rule, finding: Finding, findings: list[tuple[Rule, Finding]]
) -> tuple[str, ...]:
    """The rules whose findings follow from this one; a note explains nothing."""
    if finding.severity == "note":
        return ()
    return tuple(
        other.name
        for other, _ in findings
        if other is not rule and rule.accounts_for(other) and not other.accounts_for(rule)
    )


def _instrument_failures(history: History) -> dict[str, str]:
    """Quantity → the error of its instrument, or why it does not apply to the model."""
    absent = (reason.partition(": ") for reason in history.by_place(NOT_MEASURED))
    broken = history.by_place(INSTRUMENT_FAILED)
    return {name: f"not measured: {why}" for name, _, why in absent} | {
        reason.partition(":")[0]: f"a measurement broke: {reason}" for reason in broken
    }


def _why_not_checked(rule: Rule, history: History, failures: Mapping[str, str]) -> str:
    missing = [quantity for quantity in rule.needs if quantity not in history]
    reasons = [failures[quantity.name] for quantity in missing if quantity.name in failures]
    if reasons:
        return reasons[0]
    ways = dict.fromkeys(how_to_measure(quantity, history) for quantity in missing)
    return NOT_SHOWN if NOT_SHOWN in ways else "; ".join(ways)
