"""The top of the page with verdict, treatment and score; and the section of all checks."""

from collections.abc import Mapping, Sequence

from thalweg.diagnosis import Finding, Prescription
from thalweg.diagnosis.missing import is_foreign
from thalweg.report.facts import Facts, is_share, metric_name
from thalweg.report.partial_answers import partial_text
from thalweg.report.score_interval import score_interval
from thalweg.report.selection import selection_in_short
from thalweg.report.tag import bullet_list, section, terms
from thalweg.report.trees import FULL_NAMES, comparisons
from thalweg.report.verdict import (
    Verdict,
    progress_note,
    sentence,
    title_of,
    titles_by_reason,
    verdict,
)
from thalweg.wording import (
    count,
    count_or_figure,
    duration,
    figure,
    large,
    markup,
    moment,
    percent,
    times,
)

MOST_OPEN = 9  # checks, above which their list is collapsed


def top(facts: Facts) -> str:
    """The <header> of the page."""
    headline = verdict(facts)
    note = progress_note(facts)
    return (
        f'<header><p class="eyebrow">{_eyebrow(facts)}</p><div class="hero">'
        f'<div class="verdict {headline.tone}">{_tag(headline)}<h1>{markup(headline.title)}</h1>'
        f'<p class="lead">{markup(headline.lead)}</p>'
        f"{treatment(headline.cause) if headline.cause else ''}"
        f"{f'<p class=state>{markup(note)}</p>' if note else ''}</div>{_score(facts)}</div>"
        f"{_strip(facts)}</header>"
    )


def checks_section(facts: Facts) -> str:
    """The other findings, the checks that passed, and what the others would need."""
    diagnosis = facts.diagnosis
    others = [finding for finding in diagnosis.findings if finding is not diagnosis.headline]
    body = "".join(_other(finding) for finding in others)
    if diagnosis.passed:
        passed = f'<div class="many">{bullet_list(map(title_of, diagnosis.passed))}</div>'
        body += f"<h3>Checked and well</h3>{_fold(passed, len(diagnosis.passed), 'check')}"
    if diagnosis.not_checked:
        body += f"<h3>Not checked</h3>{_not_checked(diagnosis.not_checked)}"
    return section("checks", "Other findings and checks", body) if body else ""


def _not_checked(not_checked: Mapping[str, str]) -> str:
    """List what each check would take; those of other kinds of runs collapsed under the reason."""
    groups = titles_by_reason(not_checked)
    needs = {", ".join(names): sentence(why) for names, why in groups if not is_foreign(why)}
    noun = "check, and what it would take", "checks, and what each would take"
    body = _fold(terms(needs), len(needs), *noun) if needs else ""
    for names, why in groups:
        if is_foreign(why):
            reason = f"{count(len(names), 'check')}: {why}"
            titles = f'<div class="many">{bullet_list(names)}</div>'
            body += f"<details><summary>{markup(reason)}</summary>{titles}</details>"
    return body


def _fold(body: str, number: int, *noun: str) -> str:
    """Collapse a long body under a summary line."""
    if number <= MOST_OPEN:
        return body
    return f"<details><summary>{count(number, *noun)}</summary>{body}</details>"


def _eyebrow(facts: Facts) -> str:
    began = facts.meta.get("started")
    when = f"begun {moment(float(began))}" if began else ""
    return " · ".join(filter(None, [f"<b>{markup(facts.name)}</b>", markup(facts.state), when]))


def _tag(headline: Verdict) -> str:
    if headline.cause is None:
        return ""
    return f'<p class="tag">{markup(headline.cause.severity)} · {markup(headline.cause.stage)}</p>'


def treatment(cause: Finding) -> str:
    """The place, the prescriptions with their expected effect, the evidence, the consequences."""
    parts = [f'<p class="where">at {markup(cause.where)}</p>' if cause.where else ""]
    if cause.prescriptions:
        first, *rest = cause.prescriptions
        parts.append(f'<dl class="treatment">{_change("Change", first)}</dl>')
        parts.append(_alternatives(rest))
    if cause.evidence:
        parts.append(_evidence(cause))
    if cause.consequences:
        names = ", ".join(map(title_of, cause.consequences))
        parts.append(f"<p>This also explains: {markup(names)}.</p>")
    return "".join(parts)


def _change(word: str, prescription: Prescription) -> str:
    edits = ", ".join(f"{key} = {value}" for key, value in prescription.edit.items())
    code = f" <code>{markup(edits)}</code>" if edits else ""
    return (
        f"<div><dt>{word}</dt><dd>{markup(prescription.change)}{code}</dd></div>"
        f"<div><dt>Then expect</dt><dd>{markup(prescription.expect)}</dd></div>"
    )


def _alternatives(prescriptions: Sequence[Prescription]) -> str:
    if not prescriptions:
        return ""
    others = "".join(f'<dl class="treatment">{_change("Or", p)}</dl>' for p in prescriptions)
    name = count(len(prescriptions), "other treatment")
    return f"<details><summary>{name}</summary>{others}</details>"


def _evidence(finding: Finding) -> str:
    pairs = "".join(
        f"<div><dt>{markup(name)}</dt><dd>{count_or_figure(value)}</dd></div>"
        for name, value in finding.evidence.items()
    )
    return f'<dl class="evidence">{pairs}</dl>'


def _other(finding: Finding) -> str:
    where = f" ({finding.where})" if finding.where else ""
    cure = ""
    if finding.prescriptions:
        first = finding.prescriptions[0]
        cure = f"<p>{markup(sentence(first.change))} Then expect: {markup(first.expect)}</p>"
    return finding_article(finding, finding.summary + where, cure)


def finding_article(finding: Finding, text: str, body: str) -> str:
    """A finding as an <article>; `body` is HTML already."""
    return (
        f'<article class="{finding.severity}"><p class="tag">{markup(finding.severity)} · '
        f"{markup(finding.stage)}</p><h3>{markup(title_of(finding.rule))}</h3>"
        f"<p>{markup(sentence(text))}</p>{body}</article>"
    )


def _score(facts: Facts) -> str:
    """The one large figure, with its confidence interval."""
    metric = facts.headline_metric
    if not metric:
        return ""
    value = facts.metrics[metric]
    text = percent(value) if is_share(metric) else figure(value)
    below = [_soft(_interval(facts, metric)), _soft(selection_in_short(facts))]
    for kind, comparison in comparisons(facts).items():
        below.append(_soft(f"{FULL_NAMES[kind][:1].upper()}{FULL_NAMES[kind][1:]}: {comparison}"))
    if simple := partial_text(facts):
        below.append(_soft(f"{str(facts.meta['partial']['name']).capitalize()}: {simple}"))
    return (
        f'<div class="score"><p class="figure">{text}</p><p>{markup(metric_name(metric))}</p>'
        f"{''.join(below)}{_others(facts, metric)}</div>"
    )


def _interval(facts: Facts, metric: str) -> str:
    interval = score_interval(facts, metric)
    return "" if interval is None else str(interval)


def _soft(text: str) -> str:
    return f'<p class="soft">{markup(text)}</p>' if text else ""


def _others(facts: Facts, headline: str) -> str:
    rest = {
        metric_name(name): percent(value) if is_share(name) else figure(value)
        for name, value in facts.metrics.items()
        if name != headline
    }
    if facts.test_uses:
        rest["test split"] = f"used {times(facts.test_uses)}"
    return terms(rest) if rest else ""


def _work(facts: Facts) -> str:
    """Epochs, steps and batch size; before the end, how many steps of how many."""
    if facts.has_no_updates:
        return "a head fitted to frozen features"
    meta, done = facts.meta, facts.steps_done
    planned = int(meta.get("steps") or 0)
    work = f"{count(done)} of {count(planned, 'step')}"
    if done >= planned:
        epochs = f"{count(meta['epochs'], 'epoch')}, " if meta.get("epochs") else ""
        work = epochs + count(done, "step")
    batch = f", batch {count(meta['batch_size'])}" if meta.get("batch_size") else ""
    return work + batch if done else ""


def _strip(facts: Facts) -> str:
    """Model, data, training and time, in one line."""
    meta = facts.meta
    weights: float = meta.get("parameters") or 0
    model = str(meta.get("model") or "")
    if weights:
        model += f", {large(weights)} weights"
    samples, inputs = sum((meta.get("counts") or {}).values()), facts.inputs
    size = f" at {inputs['size']}" if inputs["size"] else ""
    rows = {
        "Model": model,
        "Data": count(samples, inputs["noun"]) + size if samples else "",
        "Training": _work(facts),
        "Time": duration(sum(facts.seconds.values())) if facts.seconds else "",
    }
    rows = {name: text for name, text in rows.items() if text}
    return f'<div class="strip">{terms(rows)}</div>' if rows else ""
