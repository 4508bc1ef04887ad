"""Speak while a run is going on: one line, once, as soon as an error stands."""

from collections.abc import Callable
from time import monotonic, thread_time

from thalweg.diagnosis.diagnose import diagnose
from thalweg.diagnosis.rule import Finding
from thalweg.diagnosis.rules import rules_with_plugins
from thalweg.errors import printable
from thalweg.record import History
from thalweg.record.quantities import INSTRUMENT_FAILED, LOSS

SHARE = 0.02  # of the run's time that checks may take
FREE = 0.1  # s of the processor that they may take in any case, if a run is short


class LiveVerdict:
    """Diagnoses a run at its readings, until an error is the headline of two checks in a row.

    Then `say` receives a line, and nothing is checked any more. A finding that rests on a
    measurement that broke is not passed on. Cost: milliseconds a check; where that is more than
    `share` of the run's time so far, the check waits for a later reading.
    """

    def __init__(
        self, say: Callable[[str], object], *, name: str = "", share: float = SHARE
    ) -> None:
        self._say, self._name, self._share = say, name, share
        self._rules = tuple(rules_with_plugins())
        self._began, self._spent = monotonic(), -FREE
        self._last = ""  # the error that the last check had as its headline
        self._is_over = False

    def check(self, history: Callable[[], History]) -> None:
        """Check the history so far; it is fetched only if a check is due."""
        if self._is_over or self._spent > self._share * (monotonic() - self._began):
            return
        start = thread_time()
        finding = self._error(history())
        self._spent += thread_time() - start
        rule = "" if finding is None else finding.rule
        if finding is not None and rule == self._last:
            self._is_over = True
            self._say(_line(finding, self._name, history()))
        self._last = rule

    def _error(self, history: History) -> Finding | None:
        """The headline, if it is an error that rests on measurements that work."""
        headline = diagnose(history, self._rules).headline
        if headline is None or headline.severity != "error":
            return None
        broken = {reason.partition(":")[0] for reason in history.by_place(INSTRUMENT_FAILED)}
        needs = next(rule.needs for rule in self._rules if rule.name == headline.rule)
        return None if any(quantity.name in broken for quantity in needs) else headline


def _line(finding: Finding, name: str, history: History) -> str:
    """The step, the fault and the first change to make, on one line."""
    step = max(history.series(LOSS), default=0)
    about = f"{name}, step {step}" if name else f"step {step}"
    change = f"; {finding.prescriptions[0].change}" if finding.prescriptions else ""
    return printable(f"thalweg: {about}: {finding.rule}: {finding.summary}{change}")
