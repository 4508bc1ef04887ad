"""The score of a simple model that sees a part of the inputs, in words, and the scores by kind."""

from thalweg.report.facts import Facts
from thalweg.report.tag import section, table
from thalweg.wording import count, percent


def partial_text(facts: Facts) -> str:
    """Its accuracy, and whether the network is better; "" where there is none."""
    simple = facts.meta.get("partial")
    if not simple:
        return ""
    judgements = {True: "the network is better", False: "the network is not shown to be better"}
    judgement = judgements.get(simple["is_beaten"], "too few samples to compare")
    return f"accuracy {percent(simple['score'])}, {judgement} on the same samples"


def kinds_section(facts: Facts) -> str:
    """The accuracy of each kind of sample; "" where there are no kinds."""
    rows = [
        (each["name"], count(each["samples"]), percent(each["right"] / each["samples"]))
        for each in facts.meta.get("kinds") or ()
    ]
    if not rows:
        return ""
    return section(
        "kinds", "By type", table(("type", "samples", "accuracy"), rows, caption="Accuracy by type")
    )
