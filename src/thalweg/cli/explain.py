"""`thalweg explain RULE`: the rule's page of the documentation, in the terminal."""

from inspect import cleandoc

from thalweg.diagnosis.rules import RULES
from thalweg.registry import unknown_name


def explain(rule: str, /) -> None:
    """Explain one rule: why it matters, when it is wrong, where it comes from.

    Parameters
    ----------
    rule: str
        The rule's name, as in `thalweg rules`.
    """
    known = {one.name: one for one in RULES}
    if rule not in known:
        raise unknown_name("rule", rule, known)
    needs = ", ".join(quantity.name for quantity in known[rule].needs)
    print(f"{rule} ({known[rule].stage})\n\n{cleandoc(known[rule].doc)}\n\nMeasured by: {needs}")
