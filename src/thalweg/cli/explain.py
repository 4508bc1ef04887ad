"""`thalweg explain RULE`: print a rule's page of the documentation."""

from inspect import cleandoc

from thalweg.diagnosis.rules import rules_with_plugins
from thalweg.registry import unknown_name


def explain(rule: str, /) -> None:
    """Explain one rule: why it matters, when it is wrong, where it comes from.

    Parameters
    ----------
    rule: str
        Its name, as `thalweg rules` lists it, or its title, as in a report.
    """
    rules = {entry.name: entry for entry in rules_with_plugins()}
    name = rule.lower().replace(" ", "-")
    if name not in rules:
        raise unknown_name("rule", rule, rules)
    entry = rules[name]
    needs = ", ".join(quantity.name for quantity in entry.needs)
    print(f"{name} ({entry.stage})\n\n{cleandoc(entry.doc)}\n\nReads: {needs}")
