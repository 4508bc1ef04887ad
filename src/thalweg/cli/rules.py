"""`thalweg rules`: list the rules of a diagnosis."""

from thalweg.cli.output import print_json
from thalweg.cli.terminal import table
from thalweg.diagnosis.rules import rules_with_plugins


def rules(*, json: bool = False) -> None:
    """List the rules of a diagnosis.

    Parameters
    ----------
    json: bool
        Print JSON instead of a table.
    """
    rows = [
        (rule.name, rule.stage, rule.doc.strip().partition("\n")[0])
        for rule in rules_with_plugins()
    ]
    if json:
        print_json(rules=[dict(zip(("name", "stage", "fault"), row, strict=True)) for row in rows])
    else:
        print(table(("rule", "stage", "fault"), rows))
