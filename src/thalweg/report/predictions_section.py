"""The section on predictions that are neither classes nor numbers: some beside their targets."""

from thalweg.report.facts import SPLITS, Facts
from thalweg.report.tag import section, table
from thalweg.wording import count

SHOWN = 24  # samples


def predictions_section(facts: Facts) -> str:
    """The first predictions of the test or validation split; "" without any."""
    if not facts.predictions:
        return ""
    rows = [[row.name, row.target, row.predicted] for row in facts.predictions[:SHOWN]]
    listing = table(["sample", "true", "predicted"], rows, caption="Predictions", words=[1, 2])
    number = count(len(facts.predictions), f"{SPLITS[facts.split]} sample")
    return section("errors", "What it predicts", f"<p>The first of {number}.</p>{listing}")
