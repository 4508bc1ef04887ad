"""A diagnosis as a page that a person can act on: plain text, and one HTML file."""

from collections.abc import Mapping, Sequence
from html import escape
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
) -> str:
    """Verdict, evidence, what to change, what to expect; then the rest, shortest last."""
    parts = [_verdict(causes, passed, not_checked)]
    parts += [_cause(finding, rank) for rank, finding in enumerate(causes, 1)]
    others = [finding for finding in findings if finding not in causes]
    if others:
        parts.append("Also seen\n" + "\n".join(_line(finding) for finding in others))
    if passed:
        parts.append(f"Checked and well ({len(passed)})\n" + _wrapped(", ".join(passed)))
    if not_checked:
        rows = [_wrapped(f"{names}: {why}", hanging=6) for names, why in _by_reason(not_checked)]
        parts.append(f"Not checked ({len(not_checked)})\n" + "\n".join(rows))
    return "\n\n".join(parts)


def _verdict(
    causes: Sequence[Finding], passed: Sequence[str], not_checked: Mapping[str, str]
) -> str:
    if causes:
        return f"Diagnosis: {causes[0].rule}"
    checked = f"{len(passed)} checked, {len(not_checked)} not checked"
    return f"Diagnosis: nothing found wrong ({checked})"


def _by_reason(not_checked: Mapping[str, str]) -> list[tuple[str, str]]:
    """(names, why): those that lack the same thing are told together."""
    together: dict[str, list[str]] = {}
    for name, why in not_checked.items():
        together.setdefault(why, []).append(name)
    return [(", ".join(names), why) for why, names in together.items()]


def _cause(finding: Finding, rank: int) -> str:
    where = f" (at {finding.where})" if finding.where else ""
    lines = [_wrapped(f"{rank}. {finding.rule}: {finding.summary}{where}", indent=0, hanging=3)]
    if finding.evidence:
        shown = " · ".join(f"{name} {number(value)}" for name, value in finding.evidence.items())
        lines.append(_wrapped(f"evidence: {shown}", indent=3, hanging=13))
    for prescription in finding.prescriptions:
        lines.append(_wrapped(f"change:   {prescription.change}", indent=3, hanging=13))
        lines.append(_wrapped(f"expect:   {prescription.expect}", indent=3, hanging=13))
    if finding.consequences:
        lines.append(_wrapped(f"explains: {', '.join(finding.consequences)}", 3, hanging=13))
    return "\n".join(lines)


def _line(finding: Finding) -> str:
    return _wrapped(f"{finding.rule} ({finding.severity}): {finding.summary}", hanging=6)


def _wrapped(text: str, indent: int = 3, *, hanging: int = 3) -> str:
    return fill(
        text,
        WIDTH,
        initial_indent=" " * indent,
        subsequent_indent=" " * hanging,
        break_long_words=False,
        break_on_hyphens=False,
    )


STYLE = """
:root { color-scheme: light dark; --ink: #1c2024; --soft: #60646c; --line: #d9dbe0;
  --paper: #fff; --error: #b42318; --warning: #9a5b00; --note: #3358a8; }
@media (prefers-color-scheme: dark) { :root { --ink: #edeef0; --soft: #a9adb5; --line: #3a3d42;
  --paper: #16181b; --error: #ff8a7a; --warning: #f0b45a; --note: #9db8ff; } }
* { box-sizing: border-box } body { margin: 0 auto; padding: 1.5rem 1rem 3rem; max-width: 46rem;
  font: 16px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--paper);
  overflow-wrap: anywhere }
h1 { font-size: 1.5rem; margin: 0 0 .25rem } h2 { font-size: 1.05rem; margin: 2rem 0 .5rem }
article { border: 1px solid var(--line); border-left: 4px solid var(--tone);
  border-radius: 6px; padding: .75rem 1rem; margin: .75rem 0 }
article h3 { margin: 0 0 .25rem; font-size: 1rem } .tag { color: var(--tone); font-size: .8rem;
  font-weight: 600; text-transform: uppercase; letter-spacing: .04em }
.error { --tone: var(--error) } .warning { --tone: var(--warning) } .note { --tone: var(--note) }
table { border-collapse: collapse; font-size: .9rem; margin: .5rem 0 }
td, th { padding: .15rem 1rem .15rem 0; text-align: left; font-weight: 400; vertical-align: top }
th, .soft { color: var(--soft) } article td { font-variant-numeric: tabular-nums;
  white-space: nowrap }
ol { padding-left: 1.2rem } li { margin: .35rem 0 } ul { padding: 0; list-style: none }
"""


def html_page(
    causes: Sequence[Finding],
    findings: Sequence[Finding],
    passed: Sequence[str],
    *,
    not_checked: Mapping[str, str],
) -> str:
    """The same page as HTML: no script, no network, light and dark."""
    others = [finding for finding in findings if finding not in causes]
    verdict = causes[0].rule if causes else "nothing found wrong"
    count = f"{len(findings)} findings · {len(passed)} checks passed · {len(not_checked)} not made"
    body = [f"<h1>Diagnosis: {escape(verdict)}</h1><p class=soft>{count}</p>"]
    body += [_article(finding) for finding in causes]
    if others:
        lines = "".join(_symptom(finding, findings) for finding in others)
        body.append(f"<h2>Also seen</h2><ul>{lines}</ul>")
    if not_checked:
        rows = "".join(
            f"<tr><th scope=row>{escape(names)}<td>{escape(why)}"
            for names, why in _by_reason(not_checked)
        )
        body.append(f"<h2>Not checked, and what it would take</h2><table>{rows}</table>")
    if passed:
        body.append(f"<h2>Checked and well</h2><p class=soft>{escape(', '.join(passed))}</p>")
    return (
        "<!doctype html><html lang=en><meta charset=utf-8><meta name=viewport "
        f'content="width=device-width, initial-scale=1"><title>{escape(verdict)}</title>'
        f"<style>{STYLE}</style><main>{''.join(body)}</main></html>\n"
    )


def _symptom(finding: Finding, findings: Sequence[Finding]) -> str:
    """One line, without advice: treating a consequence would not mend its cause."""
    cause = next((one.rule for one in findings if finding.rule in one.consequences), "")
    follows = f" <span class=soft>(follows from {escape(cause)})</span>" if cause else ""
    return (
        f"<li class={finding.severity}><span class=tag>{finding.severity}</span> "
        f"<b>{escape(finding.rule)}</b>: {escape(finding.summary)}{follows}"
    )


def _article(finding: Finding) -> str:
    where = f" <span class=soft>at {escape(finding.where)}</span>" if finding.where else ""
    rows = "".join(
        f"<tr><th scope=row>{escape(name)}<td>{number(value)}"
        for name, value in finding.evidence.items()
    )
    cures = "".join(
        f"<li>{escape(p.change)}<br><span class=soft>then: {escape(p.expect)}</span>"
        for p in finding.prescriptions
    )
    explains = ", ".join(finding.consequences)
    return (
        f"<article class={finding.severity}><span class=tag>{finding.severity} · {finding.stage}"
        f"</span><h3>{escape(finding.rule)}{where}</h3><p>{escape(finding.summary)}</p>"
        + (f"<table>{rows}</table>" if rows else "")
        + (f"<ol>{cures}</ol>" if cures else "")
        + (f"<p class=soft>explains: {escape(explains)}</p>" if explains else "")
        + "</article>"
    )
