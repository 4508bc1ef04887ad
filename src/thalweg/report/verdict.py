"""The headline of a report: the first cause, or that no check found a fault."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from thalweg.diagnosis import Finding
from thalweg.diagnosis.missing import is_foreign
from thalweg.diagnosis.text_page import by_reason
from thalweg.report.caveats import Caveat, caveats
from thalweg.report.facts import Facts
from thalweg.wording import count


@dataclass(frozen=True)
class Verdict:
    title: str
    lead: str  # one or two sentences
    tone: str  # error, warning, good, or plain: nothing to judge
    cause: Finding | None


def verdict(facts: Facts) -> Verdict:
    """One headline, from the diagnosis and the state of the run."""
    diagnosis, cause = facts.diagnosis, facts.diagnosis.headline
    if cause is not None:
        return Verdict(title_of(cause.rule), sentence(cause.summary), cause.severity, cause)
    if facts.state == "failed":
        return Verdict("The run failed", _failure(facts), "error", None)
    if not facts.steps_done:
        lead = "The run has begun; its first measurements are still to come."
        if facts.state != "running":
            lead = "The run ended before its first update was recorded."
        return Verdict("Nothing measured yet", lead, "plain", None)
    if limits := caveats(facts):
        return _limited(facts, limits)
    if not diagnosis.passed:
        return Verdict(
            "Too little measured to judge", _not_checked(diagnosis.not_checked), "plain", None
        )
    passed = count(len(diagnosis.passed), "check")
    lead = f"All {passed} passed."
    if facts.has_no_updates:
        return Verdict("Nothing wrong found", f"{passed} passed.", "good", None)
    if diagnosis.not_checked:
        lead = f"{passed} passed. {_not_checked(diagnosis.not_checked)}"
    return Verdict("Nothing wrong found", lead, "good", None)


def _limited(facts: Facts, limits: Sequence[Caveat]) -> Verdict:
    """No rule found a fault, but the score means less than it seems."""
    texts = [sentence(limit.text) for limit in limits]
    checks = count(len(facts.diagnosis.passed), "check")
    return Verdict(
        limits[0].title, " ".join([*texts, f"Of the training, {checks} passed."]), "warning", None
    )


def title_of(rule: str) -> str:
    """initial-loss-above-chance → "Initial loss above chance"."""
    words = rule.replace("-", " ").replace("relu", "ReLU").replace("nan ", "NaN ")
    return words[:1].upper() + words[1:]


def sentence(text: str) -> str:
    """The text with a capital and a full stop."""
    text = text.strip()
    return text[:1].upper() + text[1:] + ("" if text.endswith((".", "!", "?")) else ".")


def progress_note(facts: Facts) -> str:
    """The progress of an unfinished run; "" for a finished one."""
    steps, planned = facts.steps_done, int(facts.meta.get("steps") or 0)
    of = f" of {count(planned)}" if planned else ""
    done = f"{count(steps)}{of} steps made"
    resume = "" if facts.is_script else "thalweg train --resume goes on"
    return {
        "running": f"Still running when this was written: {done}.",
        "interrupted": f"Interrupted: {done}." + (resume and f" {resume} from there."),
        "died": f"The process died: {done}." + (resume and f" {resume} from the last checkpoint."),
        "failed": f"Stopped by a failure: {done}.",
    }.get(facts.state, "")


def _failure(facts: Facts) -> str:
    messages = [event.message for event in facts.events if event.message]
    return sentence(messages[-1]) if messages else "No reason was recorded."


def titles_by_reason(not_checked: Mapping[str, str]) -> list[tuple[list[str], str]]:
    """(titles, reason) of the rules that lack the same thing."""
    return [(list(map(title_of, names)), reason) for names, reason in by_reason(not_checked)]


def _not_checked(not_checked: Mapping[str, str]) -> str:
    """The number of checks that could have been made; those of other kinds of runs apart."""
    foreign = sum(map(is_foreign, not_checked.values()))
    missing = len(not_checked) - foreign
    parts = [f"{count(missing, 'check')} could not be made for lack of measurements"] * bool(
        missing
    )
    parts += [f"{count(foreign, 'check')} are about other kinds of runs"] * bool(foreign)
    return "; ".join(parts) + "."
