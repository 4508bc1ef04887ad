"""The sections on data, recipe, environment, time and events of a run."""

from collections import Counter

from thalweg.report.facts import SPLITS, Facts
from thalweg.report.tag import bar, bullet_list, section, table, terms
from thalweg.wording import count, duration, markup, moment, percent

MOST_NAMES = 100  # quarantined samples listed by name


def data_section(facts: Facts) -> str:
    """Counts, sizes, quarantined samples with their reasons, and the loader's notes."""
    meta = facts.meta
    body = terms(_data_terms(facts))
    notes = [str(note) for note in meta.get("notes") or ()]
    if notes:
        body += f"<h3>Notes on the data</h3>{bullet_list(notes)}"
    body += _quarantine(facts)
    return section("data", "Data", body)


def _data_terms(facts: Facts) -> dict[str, str]:
    meta = facts.meta
    counts = meta.get("counts") or {}
    classes = facts.classes
    rows = {"Source": str(meta.get("source") or "")}
    rows |= {
        SPLITS.get(name, name).capitalize(): count(n, "sample") for name, n in counts.items() if n
    }
    if classes:
        listing = ", ".join(classes[:12]) + (", …" if len(classes) > 12 else "")
        rows["Classes"] = f"{count(len(classes))}: {listing}"
    rows |= facts.inputs["lines"]
    rows["Left out"] = count(len(facts.quarantined), "sample") if facts.quarantined else "none"
    return {name: text for name, text in rows.items() if text}


def _quarantine(facts: Facts) -> str:
    if not facts.quarantined:
        return ""
    reasons = Counter(reason for _, reason in facts.quarantined).most_common()
    rows = [[reason, count(number)] for reason, number in reasons[:20]]
    names = [f"{name}: {reason}" for name, reason in facts.quarantined[:MOST_NAMES]]
    left = len(facts.quarantined) - len(names)
    names += [f"and {count(left)} more"] if left else []
    return (
        f"<h3>Left out, and why</h3>"
        f"{table(['reason', 'samples'], rows, caption='Samples left out')}"
        f"<details><summary>Their names</summary>{bullet_list(names)}</details>"
    )


def recipe_section(facts: Facts) -> str:
    """The recipe, as `thalweg train --config` reads it."""
    if not facts.recipe.strip():
        return ""
    text = "\n".join(map(markup, facts.recipe.strip().split("\n")))
    body = f'<pre class="recipe" role="region" tabindex="0" aria-label="Recipe">{text}</pre>'
    return section("recipe", "Recipe", body)


def time_section(facts: Facts) -> str:
    """The time spent by phase, and the events."""
    total = sum(facts.seconds.values())
    rows = "".join(
        f'<tr><th scope="row">{markup(phase)}</th><td class="bars">{bar(s / total, "plain")}</td>'
        f"<td>{duration(s)}</td><td>{percent(s / total, 0)}</td></tr>"
        for phase, s in sorted(facts.seconds.items(), key=lambda pair: -pair[1])
        if total
    )
    spent = ""
    if rows:
        spent = '<table class="classes"><caption class="unseen">Time spent by phase</caption>'
        spent += '<thead class="unseen"><tr><th scope="col">phase</th><th scope="col">share</th>'
        spent += '<th scope="col">time</th><th scope="col">percent</th></tr></thead>'
        spent += f"<tbody>{rows}</tbody></table>"
    events = [
        [
            moment(event.time),
            event.message or event.kind,
            count(event.step) if event.step >= 0 else "",
        ]
        for event in facts.events
    ]
    if events:
        header = ["when", "what", "step"]
        spent += f"<h3>Events</h3>{table(header, events, caption='Events', words=[1])}"
    return section("time", "Time spent", spent) if spent else ""


def environment_section(facts: Facts) -> str:
    """The versions and the machine, on which the numbers depend."""
    environment = facts.meta.get("environment") or {}
    rows = {str(name): str(value) for name, value in environment.items() if value not in (None, "")}
    return section("environment", "Environment", terms(rows)) if rows else ""
