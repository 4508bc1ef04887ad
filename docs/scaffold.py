"""Start a new rule, instrument, model, modality or task. Usage: scaffold.py KIND NAME [--root DIR]

Writes the file, the line in its table and the row in its test, from an example that works: change
it into what you need. KIND: rule, instrument, model. NAME: words joined by hyphens or underscores.
"""

import argparse
import re
import sys
from collections.abc import Callable
from pathlib import Path
from textwrap import dedent

RULE = '''
from thalweg.diagnosis.rule import Finding, Prescription, rule
from thalweg.record import History
from thalweg.record.quantities import LOSS


@rule("{hyphens}", stage="optimisation", needs=(LOSS,))
def {name}(history: History, *, limit: float = 2.0) -> Finding | None:
    """The loss ends at more than `limit` times its start.

    Why it matters: say what goes wrong in such a training.

    Evidence: the first and the last loss.
    Threshold: twice the first loss.
    False alarms: say which sound trainings look like this.
    Source: cite a paper, a document or a benchmark.
    """
    first, last = history.first(LOSS), history.last(LOSS)
    if not last > limit * first:  # also for NaN
        return None
    return Finding(
        severity="note",
        summary=f"the loss rose from {{first:.3g}} to {{last:.3g}}",
        evidence={{"first loss": first, "last loss": last}},
        prescriptions=(Prescription(change="say what to change", expect="say what then happens"),),
    )
'''

INSTRUMENT = '''
from thalweg.observe.instrument import Measurements, Moment, instrument
from thalweg.record.quantities import {upper}


@instrument({upper})
def {name}(moment: Moment) -> Measurements:
    """L2 norm of each weight after the update.

    Cost: one read of every weight.
    """
    return {{n: w.norm() for n, w in zip(moment.names, moment.weights, strict=True)}}
'''

QUANTITY = """{upper} = Quantity("{name}", "‖w‖₂ after the update", per="weight", how=_UPDATE)
"""

INSTRUMENT_TEST = '''
"""The measurement agrees with its definition, computed from the weights alone."""

import pytest
import torch
from torch import nn

from thalweg.observe import watch
from thalweg.record.quantities import {upper}


def test_it_agrees_with_its_definition():
    torch.manual_seed(0)
    model = nn.Linear(4, 3)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with watch(model, optimizer) as watcher:
        loss = model(torch.randn(8, 4)).square().mean()
        loss.backward()
        optimizer.step()
        watcher.step(loss)
    measured = watcher.history.by_place({upper})
    assert set(measured) == {{"weight", "bias"}}
    for name, weight in model.named_parameters():
        assert measured[name][0] == pytest.approx(weight.detach().norm().item(), rel=1e-5)
'''

MODEL = '''
"""Say in one sentence what the architecture is, and cite its paper."""

from math import prod

from jaxtyping import Float
from torch import Tensor, nn


class {camel}(nn.Module):
    def __init__(self, features: int, width: int, num_classes: int) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Flatten(), nn.Linear(features, width), nn.ReLU())
        self.head = nn.Linear(width, num_classes)
        nn.init.normal_(self.head.weight, std=0.01)  # near-equal logits: the first loss is chance
        nn.init.zeros_(self.head.bias)

    def forward(self, inputs: Float[Tensor, " batch *shape"]) -> Float[Tensor, "batch class"]:
        return self.head(self.body(inputs))


def {name}(num_classes: int, *, input_shape: tuple[int, ...], width: int = 64) -> {camel}:
    """Say what the network has, in which units `width` is, and for which inputs it is good."""
    return {camel}(prod(input_shape), width, num_classes)
'''


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("kind", choices=sorted(SCAFFOLDS))
    parser.add_argument("name")
    parser.add_argument("--root", type=Path, default=Path(__file__).resolve().parents[1])
    options = parser.parse_args(arguments)
    name = options.name.replace("-", "_").lower()
    if not re.fullmatch(r"[a-z][a-z0-9]*(_[a-z0-9]+)*", name):
        print(f"not a name: {options.name!r}\nfix: words joined by hyphens, as dead-relu")
        return 2
    try:
        steps = SCAFFOLDS[options.kind](options.root, name)
    except FileExistsError as error:
        print(f"{error}\nfix: choose another name")
        return 2
    print(*steps, sep="\n")
    return 0


def scaffold_rule(root: Path, name: str) -> list[str]:
    """Write a rule, its line in the table of rules and a row of the table test."""
    table = root / "src/thalweg/diagnosis/rules/__init__.py"
    hyphens = name.replace("_", "-")
    _write(table.with_name(f"{name}.py"), RULE, name=name, hyphens=hyphens)
    _add_import(table, f"from thalweg.diagnosis.rules.{name} import {name}")
    _insert(table, after="    clipping_too_tight,\n", text=f"    {name},\n")
    row = (
        f'    "{name.replace("_", " ")}": (history(loss=[1.0, 3.0]), []),  # a note is not listed\n'
    )
    tests = root / "tests/diagnosis/test_rules.py"
    _insert(tests, after="CURVES = {\n", text=row)
    return [
        f"wrote src/thalweg/diagnosis/rules/{name}.py, its line in __init__.py (order: by stage),",
        f"and a row of CURVES in {tests.relative_to(root)}",
        "next: an injected fault in tests/faults/faults.py; make reference; make test",
    ]


def scaffold_instrument(root: Path, name: str) -> list[str]:
    """Write an instrument, its quantity, its line in the table and a test of its definition."""
    table = root / "src/thalweg/observe/instruments/__init__.py"
    upper = name.upper()
    _write(table.with_name(f"{name}.py"), INSTRUMENT, name=name, upper=upper)
    _add_import(table, f"from thalweg.observe.instruments.{name} import {name}")
    _insert(table, after="    update_ratio,\n", text=f"    {name},\n")
    quantities = root / "src/thalweg/record/quantities.py"
    text = QUANTITY.format(name=name, upper=upper)
    _insert(quantities, before="NUM_CLASSES = Quantity(", text=text)
    test = root / f"tests/observe/test_{name}.py"
    _write(test, INSTRUMENT_TEST, name=name, upper=upper)
    return [
        f"wrote src/thalweg/observe/instruments/{name}.py, its line in __init__.py,",
        f"its quantity in src/thalweg/record/quantities.py and {test.relative_to(root)}",
        "next: a rule that reads it (docs/scaffold.py rule NAME); make reference; make test",
    ]


def scaffold_model(root: Path, name: str) -> list[str]:
    """Write a model, its line in the table of models and a row of the battery of tests."""
    table = root / "src/thalweg/models/__init__.py"
    camel = "".join(word.capitalize() for word in name.split("_"))
    _write(table.with_name(f"{name}.py"), MODEL, name=name, camel=camel)
    _add_import(table, f"from thalweg.models.{name} import {name}")
    _insert(table, after="        convnet,\n", text=f"        {name},\n")
    tests = root / "tests/models/test_models.py"
    _insert(
        tests, after='    "convnet": {"width": 16},\n', text=f'    "{name}": {{"width": 16}},\n'
    )
    return [
        f"wrote src/thalweg/models/{name}.py, its line in __init__.py,",
        f"and a row of BATTERY in {tests.relative_to(root)}",
        "next: compare a forward pass with the paper's own code; make reference; make test",
    ]


SCAFFOLDS: dict[str, Callable[[Path, str], list[str]]] = {
    "rule": scaffold_rule,
    "instrument": scaffold_instrument,
    "model": scaffold_model,
}


def _write(path: Path, template: str, **words: str) -> None:
    if path.exists():
        raise FileExistsError(f"{path} exists already")
    path.write_text(dedent(template).lstrip("\n").format(**words), encoding="utf-8")


def _add_import(table: Path, line: str) -> None:
    """Add an import to a table's own imports, in alphabetical order."""
    lines = table.read_text(encoding="utf-8").splitlines(keepends=True)
    package = line.split(" import ")[0].rsplit(".", 1)[0]
    places = [i for i, text in enumerate(lines) if text.startswith(f"{package}.")]
    later = [i for i in places if lines[i] > line]
    index = later[0] if later else places[-1] + 1
    if not later and lines[places[-1]].rstrip().endswith("("):  # an import of several lines
        index = next(i for i in range(places[-1], len(lines)) if lines[i].startswith(")")) + 1
    lines.insert(index, f"{line}\n")
    table.write_text("".join(lines), encoding="utf-8")


def _insert(path: Path, *, text: str, after: str = "", before: str = "") -> None:
    """Insert text after or before a mark, which must stand in the file."""
    source = path.read_text(encoding="utf-8")
    mark = after or before
    assert mark in source, f"{path} has no {mark!r}"
    fresh = f"{mark}{text}" if after else f"{text}{mark}"
    path.write_text(source.replace(mark, fresh, 1), encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
