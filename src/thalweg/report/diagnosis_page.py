"""A diagnosis alone as an HTML page, where there is no run to report on."""

from thalweg.diagnosis import Diagnosis, Finding
from thalweg.diagnosis.text_page import by_reason
from thalweg.report.page import html_page
from thalweg.report.tag import bullet_list, section, terms
from thalweg.report.verdict_section import finding_article, treatment
from thalweg.wording import count, markup


def render_diagnosis(diagnosis: Diagnosis) -> str:
    """Show the causes with their treatment, then what follows from them, then the checks."""
    headline = diagnosis.verdict
    counts = (
        f"{count(len(diagnosis.findings), 'finding')} · "
        f"{count(len(diagnosis.passed), 'check')} passed · {len(diagnosis.not_checked)} not made"
    )
    causes = "".join(
        finding_article(cause, cause.summary, treatment(cause)) for cause in diagnosis.causes
    )
    others = [_line(f, diagnosis) for f in diagnosis.findings if f not in diagnosis.causes]
    body = section("causes", "What to change", causes) if causes else ""
    body += section("others", "Also seen", bullet_list(others)) if others else ""
    if diagnosis.not_checked:
        unchecked = terms(
            {", ".join(names): why for names, why in by_reason(diagnosis.not_checked)}
        )
        body += section("unchecked", "Not checked, and what it would take", unchecked)
    if diagnosis.passed:
        body += section(
            "passed", "Checked and well", f"<p>{markup(', '.join(diagnosis.passed))}</p>"
        )
    return html_page(
        headline,
        f'<header><p class="eyebrow">{counts}</p><h1>Diagnosis: {markup(headline)}</h1></header>\n'
        f"<main>{body}</main>",
    )


def _line(finding: Finding, diagnosis: Diagnosis) -> str:
    """One line, without advice: treating a consequence would not mend its cause."""
    causes = (f.rule for f in diagnosis.findings if finding.rule in f.consequences)
    cause = next(causes, "")
    follows = f" (follows from {cause})" if cause else ""
    return f"{finding.rule} ({finding.severity}): {finding.summary}{follows}"
