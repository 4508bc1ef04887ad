"""The words that speak most for each class, as the network has learned them."""

from thalweg.report.facts import Facts
from thalweg.report.tag import section, terms
from thalweg.wording import visible

MOST_CLASSES, MOST_NAMES = 5, 8  # in a terminal


def telling_section(facts: Facts) -> str:
    """The <section> of the words for each class; "" for other inputs."""
    words = facts.meta.get("telling") or {}
    rows = {name: ", ".join(names) for name, names in words.items() if names}
    if not rows:
        return ""
    note = (
        "<p>The n-grams whose presence moves the outputs most, among the most frequent ones of the "
        "training texts.</p>"
    )
    return section("telling", "Words that speak for each class", note + terms(rows))


def telling_rows(facts: Facts) -> list[tuple[str, str]]:
    """The same in a few lines of text."""
    words = facts.meta.get("telling") or {}
    pairs = [(name, names[:MOST_NAMES]) for name, names in words.items() if names]
    return [(visible(name), visible(", ".join(names))) for name, names in pairs[:MOST_CLASSES]]
