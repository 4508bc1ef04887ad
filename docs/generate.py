"""Write the reference pages from the tables that the code reads. Usage: generate.py [--check]

With --check nothing is written, and the exit code is 1 where a page is not what it would be.
"""

import sys
from collections.abc import Callable, Iterable, Mapping
from inspect import cleandoc, signature
from pathlib import Path
from typing import Any

from thalweg.cli.recipe_options import option
from thalweg.diagnosis.rules import RULES
from thalweg.planning.checks import settings_of
from thalweg.recipes.key import Key, toml_value
from thalweg.recipes.recipe import KEYS
from thalweg.record import QUANTITIES

FOLDER = Path(__file__).parent / "reference"
_NOTICE = (
    "<!-- Written by docs/generate.py: `make reference`. Changes belong into the code. -->\n\n"
)


def rules_page() -> str:
    parts = [
        "# Rules\n\nThe rules of a diagnosis, causes before symptoms. "
        "`thalweg explain RULE` shows the same page in a terminal.\n"
    ]
    for rule in RULES:
        needs = ", ".join(f"`{quantity.name}`" for quantity in rule.needs)
        parts.append(
            f"## {rule.name}\n\n{_prose(rule.doc)}\n\nStage: {rule.stage}. Reads: {needs}.\n"
        )
    return "\n".join(parts)


def quantities_page() -> str:
    rows = [(f"`{q.name}`", q.unit, q.per, q.meaning) for q in QUANTITIES.values()]
    return "# Quantities\n\nEvery quantity that instruments write and rules read.\n\n" + _table(
        ("quantity", "unit", "one value per", "meaning"), rows
    )


def models_page() -> str:
    from thalweg.models import MODELS

    return _registry_page("Models", "--model NAME`; `--model.changes.KEY VALUE", MODELS)


def optimizers_page() -> str:
    from thalweg.optim import OPTIMIZERS

    return _registry_page("Optimizers", "--optimizer.name NAME", OPTIMIZERS)


def schedules_page() -> str:
    from thalweg.optim import SCHEDULES

    return _registry_page("Schedules", "--schedule.name NAME", SCHEDULES)


def losses_page() -> str:
    from thalweg.tasks.label_losses import LABEL_LOSSES
    from thalweg.tasks.losses import LOSSES
    from thalweg.tasks.penalties import PENALTIES
    from thalweg.tasks.value_losses import VALUE_LOSSES

    classes = _registry_page("Losses", "--task.loss NAME", LOSSES)
    values = _registry_page("Losses of values", "--task.loss NAME", VALUE_LOSSES)
    labels = _registry_page("Losses of several labels", "--task.loss NAME", LABEL_LOSSES)
    use = "--task.penalty NAME --task.penalty_weight λ"
    return "\n".join((classes, labels, values, _registry_page("Penalties", use, PENALTIES)))


def _registry_page(title: str, use: str, entries: Mapping[str, Any]) -> str:
    parts = [f"# {title}\n\n`thalweg train PATH {use}`.\n"]
    parts += [f"## {name}\n\n{_entry(entry)}\n" for name, entry in entries.items()]
    return "\n".join(parts)


def _entry(entry: Callable[..., Any]) -> str:
    """The docstring, and the settings with their defaults, which a recipe's `changes` may set."""
    parameters = signature(entry).parameters.values()
    settings = [f"`{p.name}={p.default}`" for p in parameters if p.name in settings_of(entry)]
    about = _prose(entry.__doc__ or "")
    return about + (f"\n\nSettings: {', '.join(settings)}." if settings else "")


def recipe_page() -> str:
    rows = [
        (
            f"`{name}`",
            f"`{option(name)}`",
            _values(key),
            f"`{toml_value(key.default)}`",
            key.meaning,
        )
        for name, key in KEYS.items()
    ]
    return (
        "# Recipe\n\nEvery key of a run. Values that are not given are chosen from the data; where "
        "the data suggest nothing, the default holds.\n"
        "`thalweg train PATH --print-config` shows each value and where it comes from.\n\n"
        "Command line > environment > file (`--config recipe.toml`) > what the data suggest. The "
        "environment variable of `optimizer.lr` is `THALWEG_OPTIMIZER_LR`, and so on.\n\n"
        + _table(("key", "option", "values", "default", "meaning"), rows)
    )


def _values(key: Key) -> str:
    """The type of a key, its choices or its range."""
    if key.choices:
        return ", ".join(f"`{choice}`" for choice in key.choices)
    kind = "table" if key.is_table else key.type.__name__
    return ", ".join(filter(None, (kind, key.range, key.log and "log scale")))


PAGES: dict[str, Callable[[], str]] = {
    "rules": rules_page,
    "quantities": quantities_page,
    "models": models_page,
    "optimizers": optimizers_page,
    "schedules": schedules_page,
    "losses": losses_page,
    "recipe": recipe_page,
}


def main(arguments: list[str]) -> int:
    stale = []
    for name, page in PAGES.items():
        path, text = FOLDER / f"{name}.md", _NOTICE + page()
        if path.exists() and path.read_text(encoding="utf-8") == text:
            continue
        stale.append(name)
        if "--check" not in arguments:
            FOLDER.mkdir(exist_ok=True)
            path.write_text(text, encoding="utf-8")
    if stale and "--check" in arguments:
        print(f"not current: {', '.join(stale)}; `make reference` writes them", file=sys.stderr)
        return 1
    return 0


def _prose(doc: str) -> str:
    return cleandoc(doc).strip()


def _table(header: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    lines = [list(header)]
    lines.append(["---"] * len(lines[0]))
    lines += [[cell.replace("|", "\\|") for cell in row] for row in rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
