"""`thalweg explain RULE`: the rule's page of the documentation, in the terminal."""

from inspect import cleandoc

from thalweg.diagnosis.rules import RULES
from thalweg.registry import unknown_name


def explain(rule: str, /) -> None:
    """Explain one rule: why it matters, when it is wrong, where it comes from.

    Parameters
    ----------
    rule: str
        Its name as `thalweg rules` has it, or its title as in a report.
    """
    known = {one.name: one for one in RULES}
    name = rule.lower().replace(" ", "-")
    if name not in known:
        raise unknown_name("rule", rule, known)
    found = known[name]
    reads = ", ".join(quantity.name for quantity in found.needs)
    print(f"{name} ({found.stage})\n\n{cleandoc(found.doc)}\n\nReads: {reads}")
