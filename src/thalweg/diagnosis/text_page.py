"""A diagnosis as plain text that a person can act on."""

from collections.abc import Mapping, Sequence
from textwrap import fill

from thalweg.diagnosis.evidence import number
from thalweg.diagnosis.rule import Finding

WIDTH = 92  # columns of the text page


def text_page(
    causes: Sequence[Finding],
    findings: Sequence[Finding],
    passed: Sequence[str],
    *,
    not_checked: Mapping[str, str],
    verdict: str,
) -> str:
    """The causes with evidence and treatment; then the other findings, the passes, the gaps."""
    checked = f" ({len(passed)} checked, {len(not_checked)} not checked)" * (not causes)
    parts = [f"Diagnosis: {verdict}{checked}"]
    parts += [_cause(finding, rank) for rank, finding in enumerate(causes, 1)]
    others = [finding for finding in findings if finding not in causes]
    if others:
        parts.append("Also seen\n" + "\n".join(_line(finding) for finding in others))
    if passed:
        parts.append(f"Checked and well ({len(passed)})\n" + _wrap(", ".join(passed)))
    if not_checked:
        rows = [
            _wrap(f"{', '.join(names)}: {reason}", hanging=6)
            for names, reason in by_reason(not_checked)
        ]
        parts.append(f"Not checked ({len(not_checked)})\n" + "\n".join(rows))
    return "\n\n".join(parts)


def by_reason(not_checked: Mapping[str, str]) -> list[tuple[list[str], str]]:
    """(names, reason), with the rules that lack the same thing in one entry."""
    names: dict[str, list[str]] = {}
    for name, reason in not_checked.items():
        names.setdefault(reason, []).append(name)
    return [(every, reason) for reason, every in names.items()]


def _cause(finding: Finding, rank: int) -> str:
    where = f" (at {finding.where})" if finding.where else ""
    lines = [_wrap(f"{rank}. {finding.rule}: {finding.summary}{where}", indent=0, hanging=3)]
    if finding.evidence:
        shown = " · ".join(f"{name} {number(value)}" for name, value in finding.evidence.items())
        lines.append(_wrap(f"evidence: {shown}", indent=3, hanging=13))
    for prescription in finding.prescriptions:
        lines.append(_wrap(f"change:   {prescription.change}", indent=3, hanging=13))
        lines.append(_wrap(f"expect:   {prescription.expect}", indent=3, hanging=13))
    if finding.consequences:
        lines.append(_wrap(f"explains: {', '.join(finding.consequences)}", 3, hanging=13))
    return "\n".join(lines)


def _line(finding: Finding) -> str:
    return _wrap(f"{finding.rule} ({finding.severity}): {finding.summary}", hanging=6)


def _wrap(text: str, indent: int = 3, *, hanging: int = 3) -> str:
    return fill(
        text,
        WIDTH,
        initial_indent=" " * indent,
        subsequent_indent=" " * hanging,
        break_long_words=False,
        break_on_hyphens=False,
    )
