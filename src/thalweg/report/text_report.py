"""The report of a run as plain text, as wide as the terminal."""

from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import pairwise
from math import isfinite
from shutil import get_terminal_size
from statistics import fmean
from textwrap import wrap
from unicodedata import east_asian_width

from thalweg.diagnosis import Diagnosis, Finding
from thalweg.diagnosis.missing import NOT_SHOWN, is_foreign
from thalweg.record import RunReader
from thalweg.record.history import Series
from thalweg.record.quantities import (
    ACCURACY,
    LOSS,
    VAL_ACCURACY,
    VAL_LOSS,
    VAL_MAE,
    VAL_R2,
    quantity_called,
)
from thalweg.report.confusion import confusion, mistakes
from thalweg.report.curvature_section import spectrum_terms
from thalweg.report.facts import NO_UPDATES, SPLITS, Facts, is_share, metric_name, read_facts
from thalweg.report.forecast_section import bands_text, ladder_rows, score_rows, trees_note
from thalweg.report.label_scores import label_scores
from thalweg.report.language_section import baseline_rows, samples
from thalweg.report.partial_answers import partial_text
from thalweg.report.score_interval import score_interval
from thalweg.report.selection import selection_text, stages_text
from thalweg.report.sequences_section import answer_rows, length_scores, right_and_wrong
from thalweg.report.telling_section import telling_rows
from thalweg.report.trees import NAMES, comparisons
from thalweg.report.verdict import progress_note, sentence, title_of, titles_by_reason, verdict
from thalweg.wording import (
    NARROW,
    count,
    count_or_figure,
    duration,
    figure,
    percent,
    times,
    visible,
)

NARROWEST, WIDEST = 40, 100  # columns
BLOCKS = "▁▂▃▄▅▆▇█"
LARGEST = 1e300  # of a value in a curve
SPARK = 24  # columns of a sparkline
MOST_TEXTS = 3  # that are quoted
MOST_ROWS = 5  # pairs and classes
MOST_LINES = 12  # of a text that the network wrote
MOST_WRONG, LONGEST_SHOWN = 3, 160  # sequences, and characters of each
MOST_NAMES = 8  # checks passed; more are counted
CURVES = (
    *(LOSS, VAL_LOSS, ACCURACY, VAL_ACCURACY, VAL_R2, VAL_MAE),
    *map(quantity_called, ("val_mean_average_precision", "val_macro_f1")),
    *map(quantity_called, ("val_bits_per_byte", "val_token_accuracy", "val_exact_match")),
    quantity_called("val_mase"),
)
_COLORS = {"error": "31", "warning": "33", "good": "32", "plain": "0"}


def render_text(
    run: RunReader, diagnosis: Diagnosis, *, width: int = 0, color: bool = False
) -> str:
    """Verdict, treatment, figures, curves, mistakes, data. `width` 0: the terminal's.

    ANSI colour only with `color`. Control characters in names of files and classes are escaped.
    """
    facts = read_facts(run, diagnosis)
    columns = width or get_terminal_size((80, 24)).columns
    columns = min(max(columns, NARROWEST), WIDEST)
    blocks = [
        _head(facts, columns, color=color),
        _verdict(facts, columns),
        _figures(facts, columns),
        _curves(facts),
        _errors(facts, columns),
        _telling(facts, columns),
        _curvature(facts, columns),
        _data(facts, columns),
        _checks(facts, columns),
    ]
    text = "\n\n".join("\n".join(block) for block in blocks if block)
    return text.replace(NARROW, " ").replace("\u00a0", " ")


def _head(facts: Facts, columns: int, *, color: bool) -> list[str]:
    headline = verdict(facts)
    title = f"\x1b[1;{_COLORS[headline.tone]}m{headline.title}\x1b[0m" if color else headline.title
    about = [facts.meta.get("model"), facts.meta.get("source")]
    model_and_data = " on ".join(str(text) for text in about if text)
    run = " · ".join(filter(None, [facts.name, facts.state, model_and_data]))
    return [*_wrap_text(run, columns), title]


def _verdict(facts: Facts, columns: int) -> list[str]:
    headline = verdict(facts)
    lines = _wrap_text(headline.lead, columns)
    if note := progress_note(facts):
        lines += _wrap_text(note, columns)
    return lines + (_treatment(headline.cause, columns) if headline.cause else [])


def _treatment(cause: Finding, columns: int) -> list[str]:
    rows = [("where", cause.where)] if cause.where else []
    rows += [(name, count_or_figure(value)) for name, value in cause.evidence.items()]
    for number, prescription in enumerate(cause.prescriptions):
        rows.append(("or change" if number else "change", prescription.change))
        rows.append(("then expect", prescription.expect))
    if cause.consequences:
        rows.append(("explains", ", ".join(map(title_of, cause.consequences))))
    return ["", *_terms(rows, columns)]


def _figures(facts: Facts, columns: int) -> list[str]:
    headline = facts.headline_metric
    rows = [
        (metric_name(name), percent(value) if is_share(name) else figure(value))
        for name, value in sorted(facts.metrics.items(), key=lambda pair: pair[0] != headline)
    ]
    if rows and headline and (interval := score_interval(facts, headline)) is not None:
        rows[0] = (rows[0][0], f"{rows[0][1]} ({interval})")
    if selection := selection_text(facts):
        rows.append(("saved", selection))
    rows += [(NAMES[kind], text) for kind, text in comparisons(facts).items()]
    if simple := partial_text(facts):
        rows.append((str(facts.meta["partial"]["name"]), simple))
    if sizes := stages_text(facts):
        rows.append(("image sizes", sizes))
    if facts.test_uses:
        rows.append(("test split", f"used {times(facts.test_uses)}"))
    if facts.seconds:
        rows.append(("time", duration(sum(facts.seconds.values()))))
    return _terms(rows, columns)


def _curves(facts: Facts) -> list[str]:
    """First value, sparkline, last value of each curve."""
    rows = []
    for quantity in CURVES:
        values = _bin_means(facts.history.series(quantity))
        if len(values) > 1:
            shares = is_share(quantity.name)
            ends = [percent(v) if shares else figure(v) for v in (values[0], values[-1])]
            rows.append((metric_name(quantity.name), ends[0], _sparkline(values), ends[1]))
    if not rows:
        return []
    left, first = (max(len(row[i]) for row in rows) for i in (0, 1))
    return [f"{n:<{left}}  {a:>{first}} {line:<{SPARK}} {b}" for n, a, line, b in rows]


def _bin_means(series: Series) -> list[float]:
    """The finite values, averaged over at most SPARK equal bins; cut where sums would overflow."""
    finite = (series[step] for step in sorted(series) if isfinite(series[step]))
    values = [max(-LARGEST, min(LARGEST, value)) for value in finite]
    bins = min(SPARK, len(values))
    edges = [len(values) * i // bins for i in range(bins + 1)] if bins else []
    return [fmean(values[a:b]) for a, b in pairwise(edges)]


def _sparkline(values: Sequence[float]) -> str:
    low, high = min(values), max(values)
    span = (high - low) or 1.0
    return "".join(BLOCKS[round((len(BLOCKS) - 1) * (value - low) / span)] for value in values)


def _errors(facts: Facts, columns: int) -> list[str]:
    if facts.answers == "tokens":
        return _written(facts, columns)
    if facts.answers == "sequences":
        return _sequences(facts, columns)
    if facts.answers == "steps":
        return _forecast(facts, columns)
    if not facts.predictions or facts.answers not in ("classes", "labels"):
        return []
    if facts.answers == "labels":
        return _label_errors(facts, columns)
    matrix = confusion(facts.predictions, facts.classes)
    wrong = matrix.total - matrix.right
    lines = [f"{count(wrong)} of {count(matrix.total)} {SPLITS[facts.split]} samples are wrong"]
    pairs = matrix.pairs()[:MOST_ROWS]
    rows = [
        (
            f"{visible(p.target)} → {visible(p.predicted)}",
            f"{p.samples} ({percent(p.share, 0)})",
        )
        for p in pairs
    ]
    if rows:
        lines += ["", "most often confused, true → predicted", *_terms(rows, columns, indent=2)]
    scored = sorted((s for s in matrix.scores() if s.samples), key=lambda s: s.recall)[:MOST_ROWS]
    weakest = [(visible(s.name), f"recall {percent(s.recall)}, n = {s.samples}") for s in scored]
    return [*lines, "", "weakest classes", *_terms(weakest, columns, indent=2)]


def _written(facts: Facts, columns: int) -> list[str]:
    """The losses of simple models beside the network's, and the last text that it wrote."""
    rows = [
        (name, f"{figure(nat)} nat a token, {figure(bits)} bits a byte")
        for name, nat, bits in baseline_rows(facts)
    ]
    lines = ["validation loss beside simple models", *_terms(rows, columns, indent=2)]
    if not (written := samples(facts)):
        return lines if rows else []
    text = str(written[-1].detail.get("text") or "").strip().split("\n")
    wrapped = [part for line in text for part in _wrap_text(line, columns - 2) or [""]]
    shown = [f"  {line}".rstrip() for line in wrapped[:MOST_LINES]]
    lines += [""] * bool(rows) if rows else []
    return [*(lines if rows else []), f"written after {count(written[-1].step, 'step')}", *shown]


def _sequences(facts: Facts, columns: int) -> list[str]:
    """Simple answers beside the network's, right by length, and a few wrong sequences."""
    if not facts.predictions:
        return []
    rows = [
        (name, f"exact match {exact}" + (f", BLEU {bleu}" if bleu != "–" else ""))
        for name, exact, bleu in answer_rows(facts)
    ]
    lines = ["who writes", *_terms(rows, columns, indent=2)]
    noun, bins = length_scores(facts.predictions)
    if len(bins) > 1:
        rows = [(one.name, f"{percent(one.share)} of {count(one.samples)}") for one in bins]
        lines += ["", f"right by the length of the target, in {noun}"]
        lines += _terms(rows, columns, indent=2)
    _, wrong = right_and_wrong(facts.predictions)
    if wrong:
        lines += ["", f"written wrong, such as ({count(len(wrong))} in all)"]
        for row in wrong[:MOST_WRONG]:
            pairs = [("input", row.name), ("right", row.target), ("written", row.predicted)]
            lines += _terms([(name, _short(text)) for name, text in pairs], columns, indent=2)
    return lines


def _short(text: str) -> str:
    return text if len(text) <= LONGEST_SHOWN else f"{text[:LONGEST_SHOWN]}…"


def _forecast(facts: Facts, columns: int) -> list[str]:
    """Simple forecasts beside the network, its band, and the ladder of lags."""
    rows = [
        (name, f"MASE {mase}, mean absolute error {mae}, RMSE {rmse}, sMAPE {smape}")
        for name, mase, mae, rmse, smape in score_rows(facts)
    ]
    if not rows:
        return []
    lines = ["validation error beside simple forecasts", *_terms(rows, columns, indent=2)]
    for sentences in (trees_note(facts), bands_text(facts)):
        lines += _wrap_text(sentences, columns)
    ladder = [
        (lags, f"{train} training, {val} validation") for lags, train, val in ladder_rows(facts)
    ]
    if ladder:
        lines += ["", "linear models of ever more lags, one step ahead: RMSE"]
        lines += _terms(ladder, columns, indent=2)
    return lines


def _label_errors(facts: Facts, columns: int) -> list[str]:
    wrong = len(mistakes(facts.predictions))
    total = count(len(facts.predictions))
    scores = label_scores(facts.predictions, facts.classes)
    weakest = sorted(scores, key=lambda score: score.f1 if score.samples else 2.0)[:MOST_ROWS]
    rows = [
        (
            visible(s.name),
            f"recall {percent(s.recall)}, precision {percent(s.precision)}, n = {s.samples}",
        )
        for s in weakest
    ]
    line = f"{count(wrong)} of {total} {SPLITS[facts.split]} samples have a wrong label"
    return [line, "", "weakest labels", *_terms(rows, columns, indent=2)]


def _telling(facts: Facts, columns: int) -> list[str]:
    if not (rows := telling_rows(facts)):
        return []
    are_classes = facts.answers == "classes"
    mistaken = mistakes(facts.predictions)[:MOST_TEXTS] if are_classes else []
    shown = [(f"{row.target} → {row.predicted}", row.name) for row in mistaken]
    lines = ["the surest mistakes, true → predicted", *_terms(shown, columns, indent=2), ""]
    return [
        *(lines if shown else []),
        "words that speak for each",
        *_terms(rows, columns, indent=2),
    ]


def _curvature(facts: Facts, columns: int) -> list[str]:
    rows = spectrum_terms(facts.spectrum.numbers) if facts.spectrum else {}
    return _terms([(name.lower(), text) for name, text in rows.items()], columns)


def _data(facts: Facts, columns: int) -> list[str]:
    counts = facts.meta.get("counts") or {}
    rows = [(SPLITS.get(name, name), count(n, "sample")) for name, n in counts.items() if n]
    reasons = Counter(reason for _, reason in facts.quarantined).most_common(MOST_ROWS)
    rows += [("left out", f"{count(n)}: {visible(reason)}") for reason, n in reasons]
    lead = verdict(facts).lead  # which may have notes that limit the score
    notes = [note for note in facts.meta.get("notes") or () if sentence(str(note)) not in lead]
    rows += [("note", visible(note)) for note in notes]
    return _terms(rows, columns)


def _checks(facts: Facts, columns: int) -> list[str]:
    diagnosis = facts.diagnosis
    rows: list[tuple[str, str]] = [
        (finding.severity, f"{title_of(finding.rule)}: {sentence(finding.summary)}")
        for finding in diagnosis.findings
        if finding is not diagnosis.headline
    ]
    if diagnosis.passed:
        names = ", ".join(map(title_of, diagnosis.passed))
        many = f"{count(len(diagnosis.passed), 'check')}; thalweg rules lists them"
        rows.append(("passed", names if len(diagnosis.passed) <= MOST_NAMES else many))
    if facts.has_no_updates:
        rows.append(
            ("not checked", f"{count(len(diagnosis.not_checked), 'check')} of {NO_UPDATES}")
        )
        return _terms(rows, columns)
    if facts.is_script and diagnosis.not_checked:
        names = ", ".join(map(title_of, diagnosis.not_checked))
        rows.append(("not checked", f"{names}; the report says why"))
        return _terms(rows, columns)
    for titles, why in titles_by_reason(diagnosis.not_checked):
        if is_foreign(why):
            reason = f"as {why}" if why == NOT_SHOWN else why
            rows.append(("not checked", f"{count(len(titles), 'check')}, {reason}"))
        else:
            rows.append(("not checked", f"{', '.join(titles)}: {why}"))
    return _terms(rows, columns)


def _terms(rows: Iterable[tuple[str, str]], columns: int, *, indent: int = 0) -> list[str]:
    """Name and text in two columns; the text wrapped beside its name, or below a long one."""
    rows = [(visible(name), visible(text)) for name, text in rows]
    left = min(max((_cells(name) for name, _ in rows), default=0), columns // 2)
    lines = []
    margin = " " * indent
    for name, text in rows:
        body = wrap(text, max(12, columns - left - 2 - indent), break_on_hyphens=False) or [""]
        below = [f"{margin}{' ' * (left + 2)}{line}" for line in body]
        if _cells(name) > left:
            lines += [f"{margin}{part}" for part in wrap(name, columns - indent)]
        else:
            pad = " " * (left - _cells(name))
            below[0] = f"{margin}{name}{pad}  {body[0]}"
        lines += [line.rstrip() for line in below]
    return lines


def _cells(text: str) -> int:
    """The width of a text in terminal columns."""
    return sum(2 if east_asian_width(char) in "WF" else 1 for char in text)


def _wrap_text(text: str, columns: int) -> list[str]:
    return wrap(visible(text), columns, break_on_hyphens=False)
