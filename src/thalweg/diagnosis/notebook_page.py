"""A diagnosis for a cell of a notebook, as HTML."""

from collections.abc import Mapping, Sequence

from thalweg.diagnosis.evidence import number
from thalweg.diagnosis.rule import Finding
from thalweg.diagnosis.text_page import by_reason
from thalweg.notebook import details, paragraph, table, title
from thalweg.wording import count, markup


def notebook_page(
    causes: Sequence[Finding],
    findings: Sequence[Finding],
    passed: Sequence[str],
    *,
    not_checked: Mapping[str, str],
    verdict: str,
) -> str:
    """The causes with evidence and treatment; the rest opens at a click."""
    parts = [_cause(cause) for cause in causes]
    if not causes:
        parts.append(title(verdict.capitalize(), "good" if passed else "plain"))
    others = [finding for finding in findings if finding not in causes]
    if others:
        rows = [(markup(f.rule), markup(f.summary)) for f in others]
        parts.append(details(count(len(others), "other finding"), table((), rows)))
    if passed:
        parts.append(details(f"{count(len(passed), 'check')} passed", paragraph(", ".join(passed))))
    if not_checked:
        rows = [(markup(", ".join(n)), markup(why)) for n, why in by_reason(not_checked)]
        parts.append(details(f"{count(len(not_checked))} not checked", table((), rows)))
    return f"<div>{''.join(parts)}</div>"


def _cause(finding: Finding) -> str:
    where = f" (at {finding.where})" if finding.where else ""
    rows = [(markup(name), markup(number(value))) for name, value in finding.evidence.items()]
    for prescription in finding.prescriptions:
        rows += [("change", markup(prescription.change)), ("expect", markup(prescription.expect))]
    return (
        title(finding.rule, finding.severity) + paragraph(finding.summary + where) + table((), rows)
    )
