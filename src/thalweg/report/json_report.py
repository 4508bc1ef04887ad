"""The report as JSON, for programs. Its keys keep their meaning as long as `schema` is the same."""

import json

from thalweg.diagnosis import Diagnosis
from thalweg.record import RunReader
from thalweg.record.schema import JSON, json_safe
from thalweg.report.caveats import caveats
from thalweg.report.confusion import confusion
from thalweg.report.facts import Facts, read_facts
from thalweg.report.label_scores import label_scores
from thalweg.report.selection import selection_text
from thalweg.report.verdict import verdict

SCHEMA = 1  # raised when a key changes its meaning or goes away


def render_json(run: RunReader, diagnosis: Diagnosis) -> str:
    """One JSON object; null for every number that is not finite."""
    facts = read_facts(run, diagnosis)
    headline = verdict(facts)
    content = {
        "schema": SCHEMA,
        "run": facts.name,
        "state": facts.state,
        "steps": facts.steps_done,
        "verdict": {"title": headline.title, "text": headline.lead, "tone": headline.tone},
        "caveats": [caveat._asdict() for caveat in caveats(facts)],
        "saved": selection_text(facts),
        "diagnosis": json.loads(diagnosis.to_json()),
        "headline_metric": facts.headline_metric,
        "metrics": facts.metrics,
        "meta": facts.meta,
        "curves": _curves(facts),
        "classes": _classes(facts),
        "spectrum": facts.spectrum.numbers if facts.spectrum else None,
        "landscape": facts.landscape.numbers if facts.landscape else None,
        "quarantined": [{"name": name, "reason": reason} for name, reason in facts.quarantined],
        "events": [event._asdict() for event in facts.events],
    }
    return json.dumps(json_safe(content), indent=2, allow_nan=False)


def _curves(facts: Facts) -> JSON:
    """Whole series of the quantities of a run; those of each weight stay in the run's file."""
    return {
        quantity.name: {
            "unit": quantity.unit,
            "steps": list(series),
            "values": list(series.values()),
        }
        for quantity in facts.history
        if quantity.per == "run" and (series := facts.history.series(quantity))
    }


def _classes(facts: Facts) -> JSON:
    if facts.answers == "labels":
        return [score._asdict() for score in label_scores(facts.predictions, facts.classes)]
    if facts.answers != "classes" or not facts.predictions:
        return []
    matrix = confusion(facts.predictions, facts.classes)
    return [
        score._asdict()
        | {"called": {n: count for n, count in zip(matrix.names, row, strict=True) if count}}
        for score, row in zip(matrix.scores(), matrix.counts, strict=True)
    ]
