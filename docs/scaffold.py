"""Start a rule, instrument, model, modality or task. Usage: scaffold.py KIND NAME [--stage STAGE]

Writes the file, the line in its table and the row in its test, from an example that works: change
it into what you need. NAME: words joined by hyphens or underscores. STAGE: of a rule.
"""

import argparse
import re
import sys
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from textwrap import dedent

STAGES = ("wiring", "output", "data", "signal", "optimisation", "generalisation")

RULE = '''
from thalweg.diagnosis.evidence import curve, number
from thalweg.diagnosis.rule import Finding, Prescription, rule
from thalweg.record import History
from thalweg.record.quantities import LOSS


@rule("{hyphens}", stage="{stage}", needs=(LOSS,))
def {name}(history: History, *, limit: float = 2.0, least: int = 3) -> Finding | None:
    """The loss ends at more than `limit` times its start.

    Why it matters: say what goes wrong in such a training.

    Evidence: the first and the last loss.
    Threshold: twice the first loss, with three losses or more.
    False alarms: say which sound trainings look like this.
    Convicted by: say which experiment would prove the fault.
    Source: cite a paper, a document or a benchmark.
    """
    losses = curve(history, LOSS).values  # the finite ones
    if len(losses) < least or not losses[-1] > limit * losses[0]:
        return None
    first, last = float(losses[0]), float(losses[-1])
    return Finding(
        severity="note",
        summary=f"the loss rose from {{number(first)}} to {{number(last)}}",
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


SOURCE = '''
"""Files of JSON lines, a line a sample, such as {{"values": [0.5, 1], "target": "up"}}."""

import json
from pathlib import Path

import numpy as np

from thalweg.data.samples import UNSPLIT, Labels, Samples
from thalweg.errors import DataError


class {camel}List(list[np.ndarray]):
    """float32 [number] of each sample: a type of its own, by which the modality knows them."""


def {name}_file(path: Path) -> Samples | None:
    """The samples of a file that ends in .{hyphens}; the targets may be words or numbers."""
    if path.suffix != ".{hyphens}":
        return None
    inputs, targets = read_lines(path)
    texts, codes = np.unique(targets, return_inverse=True)
    return Samples(
        inputs=inputs,
        names=[f"line {{number}}" for number in range(1, 1 + len(inputs))],
        labels=Labels(codes, tuple(texts.tolist()), may_be_numbers=True),
        splits=np.full(len(inputs), UNSPLIT, dtype=np.int8),
        label_place="the field 'target'",
    )


def read_lines(path: Path) -> tuple[{camel}List, list[str]]:
    """The values and the target of each line, "" where there is none. Raises DataError."""
    try:
        lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        inputs = {camel}List(np.array(line["values"], dtype=np.float32) for line in lines)
        targets = [str(line.get("target", "")) for line in lines]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(
            f"{{path}} cannot be read", seen=str(error), fix="write an object of JSON on each line"
        ) from error
    if len({{values.shape for values in inputs}}) > 1:
        raise DataError(f"the samples of {{path}} differ in length", fix="pad or cut them")
    return inputs, targets
'''

MODALITY = '''
"""Say what a sample is: here, some numbers in a fixed order, as `{name}_file` reads them."""

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from jaxtyping import Float32
from torch import Tensor

from thalweg.data.modality import Modality, Prepared, ReadOptions, SourceRow, StoredInputs
from thalweg.data.row_digests import row_digests
from thalweg.data.samples import Quarantined, Samples
from thalweg.data.sources.{name}_file import {camel}List, read_lines
from thalweg.errors import UsageError
from thalweg.recipes.vectors import vectors

NAME = "{hyphens}"


@dataclass(frozen=True, slots=True, kw_only=True)
class {camel}Preprocessing:
    """The statistics of all numbers of the training split."""

    modality: ClassVar[str] = NAME
    mean: float
    std: float

    def to_inputs(self, raw: Float32[Tensor, "n d"]) -> Float32[Tensor, "n d"]:
        """(value − mean) / std."""
        return (raw - self.mean) / self.std

    def to_dict(self) -> dict[str, Any]:
        """The values for JSON."""
        return {{"kind": NAME, **asdict(self)}}


def restore(values: Mapping[str, Any]) -> {camel}Preprocessing:
    """The inverse of `{camel}Preprocessing.to_dict`."""
    return {camel}Preprocessing(mean=values["mean"], std=values["std"])


def read(samples: Samples, options: ReadOptions) -> StoredInputs:
    """The samples as they are, with a digest of each; those that cannot be used, by name."""
    good = np.array([bool(np.isfinite(row).all()) for row in samples.inputs])
    bad = [samples.names[row] for row in np.flatnonzero(~good)]
    return StoredInputs(
        rows=samples.inputs,
        digests=row_digests(samples.inputs),
        good=good,
        quarantined=tuple(Quarantined(name, "a number is not finite") for name in bad),
    )


def prepare(stored: StoredInputs, train: np.ndarray, features: tuple[str, ...]) -> Prepared:
    """Fit the preprocessing to the training rows alone."""
    numbers = np.concatenate([stored.rows[row] for row in train.tolist()])
    mean, std = float(numbers.mean()), float(numbers.std()) or 1.0
    return Prepared(stored.rows, {camel}Preprocessing(mean=mean, std=std))


def read_source(preprocessing: {camel}Preprocessing, source: Path | bytes) -> Iterator[SourceRow]:
    """The samples of a file that a trained model is to judge."""
    if isinstance(source, bytes):
        raise UsageError("the model takes files, not bytes", fix="name a .{hyphens} file")
    for line, values in enumerate(read_lines(source)[0], 1):
        yield SourceRow(f"{{source}}, line {{line}}", values)


{upper} = Modality(
    name=NAME,
    noun="sample",
    takes=lambda inputs: isinstance(inputs, {camel}List),
    read=read,
    prepare=prepare,
    input_shape=np.shape,
    restore=restore,
    read_source=read_source,
    recipe=vectors,
)
'''

TASK = '''
"""Say what the answer is: here, a count such as visits in a day, by Poisson regression."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import log, nan

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from thalweg.recipes.recipe import TaskRecipe
from thalweg.tasks.labels import numeric_labels
from thalweg.tasks.task import Labels, Prediction, Readout, TargetFacts, Targets, Task, TaskType

NAME = "{hyphens}"


def poisson(
    rates: Float[Tensor, " sample"], targets: Float[Tensor, " sample"]
) -> Float[Tensor, ""]:
    """Mean rate − target · ln rate: the negative log-likelihood, less what has no gradient."""
    return F.poisson_nll_loss(rates.log(), targets)


@dataclass(frozen=True, slots=True, kw_only=True)
class {camel}:
    """The mean of the training targets, which a model predicts that knows nothing."""

    mean: float

    def decode(self, logits: Float[Tensor, "sample 1"]) -> Float[Tensor, " sample"]:
        """The expected count."""
        return logits.squeeze(1).float().exp() * self.mean

    def loss(
        self, logits: Float[Tensor, "sample 1"], targets: Float[Tensor, " sample"]
    ) -> Float[Tensor, ""]:
        """The loss of the decoded counts."""
        return poisson(self.decode(logits), targets)

    def d2(self, logits: Float[Tensor, "sample 1"], targets: Float[Tensor, " sample"]) -> float:
        """The share of the deviance that is explained; 0 for the targets' own mean."""
        targets, predicted = targets.double(), self.decode(logits).double()
        own = deviance(targets, targets.mean().expand_as(targets))
        return (1 - deviance(targets, predicted) / own).item() if own > 0 else nan

    def readout(
        self,
        logits: Float[Tensor, "sample 1"],
        targets: Float[Tensor, " sample"],
        class_names: Sequence[str],
    ) -> Readout:
        """Counts, and expected counts of three digits."""
        predicted = [f"{{count:.3g}}" for count in self.decode(logits).tolist()]
        return Readout(
            [f"{{count:g}}" for count in targets.tolist()], predicted, [nan] * len(predicted), ()
        )


def deviance(
    targets: Float[Tensor, " sample"], predicted: Float[Tensor, " sample"]
) -> Float[Tensor, ""]:
    """2 Σ (y ln(y / μ) − y + μ). Source: McCullagh and Nelder 1989, section 2.3."""
    return 2 * (torch.xlogy(targets, targets / predicted) - targets + predicted).sum()


def count_prediction(value: Float[Tensor, ""], class_names: Sequence[str]) -> Prediction:
    """The expected count, and as text of three digits."""
    return Prediction(f"{{value.item():.3g}}", 1.0, {{}}, value.item())


def count_targets(labels: Labels | np.ndarray, place: str) -> Targets | None:
    """The counts; None for words, fractions and negative numbers, and where all are zero."""
    numbers = numeric_labels(labels)
    if numbers is None or not (numbers.any() and (numbers >= 0).all()):
        return None
    if (numbers != np.round(numbers)).any():
        return None
    return Targets(task=NAME, values=numbers.astype(np.float32))


def build(facts: TargetFacts, recipe: TaskRecipe) -> Task:
    """The task at the mean of the training targets."""
    scale = {camel}(mean=facts.target_mean)
    return Task(
        name=NAME,
        loss_fn=scale.loss,
        outputs=1,
        chance_loss=facts.target_mean * (1 - log(facts.target_mean)),
        metrics={{"d2": scale.d2}},
        headline="d2",
        decode=scale.decode,
        predict=count_prediction,
        read=scale.readout,
    )


{upper} = TaskType(
    name=NAME,
    answers="other",
    targets=count_targets,
    losses={{"poisson": poisson}},
    standard_loss="poisson",
    build=build,
)
'''


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("kind", choices=sorted(SCAFFOLDS))
    parser.add_argument("name")
    parser.add_argument("--stage", choices=STAGES, default="optimisation", help="of a rule")
    parser.add_argument("--root", type=Path, default=Path(__file__).resolve().parents[1])
    options = parser.parse_args(arguments)
    name = options.name.replace("-", "_").lower()
    if not re.fullmatch(r"[a-z][a-z0-9]*(_[a-z0-9]+)*", name):
        print(f"not a name: {options.name!r}\nfix: words joined by hyphens, as dead-relu")
        return 2
    try:
        if options.kind == "rule":
            steps = scaffold_rule(options.root, name, stage=options.stage)
        else:
            steps = SCAFFOLDS[options.kind](options.root, name)
    except FileExistsError as error:
        print(f"{error}\nfix: choose another name")
        return 2
    print(*steps, sep="\n")
    return 0


def scaffold_rule(root: Path, name: str, *, stage: str = "optimisation") -> list[str]:
    """Write a rule, its line in the table of rules and a row of the table test."""
    table = root / "src/thalweg/diagnosis/rules/__init__.py"
    hyphens = name.replace("_", "-")
    _write(table.with_name(f"{name}.py"), RULE, name=name, hyphens=hyphens, stage=stage)
    _insert(table, after=f"    {_last_rule(table, stage)},\n", text=f"    {name},\n")
    _add_import(table, f"from thalweg.diagnosis.rules.{name} import {name}")
    row = f'    "{hyphens}": (history(loss=[1.0, 2.0, 3.0]), history(loss=[3.0, 2.0, 1.0])),\n'
    tests = root / "tests/diagnosis/test_rules.py"
    _insert(tests, after="SICK_AND_HEALTHY = {\n", text=row)
    return [
        f"wrote src/thalweg/diagnosis/rules/{name}.py, its line in __init__.py (order: by stage),",
        f"and a row of SICK_AND_HEALTHY in {tests.relative_to(root)}",
        "next: an injected fault in tests/faults/faults.py; make reference; make test",
    ]


def _last_rule(table: Path, stage: str) -> str:
    """The last rule of a stage in the table of rules."""
    source = table.read_text(encoding="utf-8")
    names = re.findall(r"^    (\w+),$", source.split("RULES = (", 1)[1], re.MULTILINE)
    own = [f'stage="{stage}"' in table.with_name(f"{n}.py").read_text("utf-8") for n in names]
    runs = pairwise([*zip(names, own, strict=True), ("", False)])
    return next(name for (name, is_own), (_, goes_on) in runs if is_own and not goes_on)


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
    _write(table.with_name(f"{name}.py"), MODEL, name=name, camel=_camel(name))
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


def scaffold_modality(root: Path, name: str) -> list[str]:
    """Write a modality and a source of its files, their lines in the tables and a row of a test."""
    modalities = root / "src/thalweg/data/modalities/__init__.py"
    sources = root / "src/thalweg/data/sources/__init__.py"
    words = {"name": name, "hyphens": name.replace("_", "-"), "camel": _camel(name)}
    _write(modalities.with_name(f"{name}.py"), MODALITY, upper=name.upper(), **words)
    _write(sources.with_name(f"{name}_file.py"), SOURCE, **words)
    _add_import(modalities, f"from thalweg.data.modalities.{name} import {name.upper()}")
    _insert(modalities, after="        VECTOR,\n", text=f"        {name.upper()},\n")
    _add_import(sources, f"from thalweg.data.sources.{name}_file import {name}_file")
    _insert(sources, after="        csv_table,\n", text=f"        {name}_file,\n")
    tests = root / "tests/data/test_modalities.py"
    row = f'    "{words["hyphens"]}": lambda folder: json_lines(folder, ".{words["hyphens"]}"),\n'
    _insert(tests, after="ROWS = {\n", text=row)
    return [
        f"wrote src/thalweg/data/modalities/{name}.py, src/thalweg/data/sources/{name}_file.py,",
        f"their lines in __init__.py, and a row of ROWS in {tests.relative_to(root)}",
        "next: a recipe in src/thalweg/recipes/ for such samples; make test",
    ]


def scaffold_task(root: Path, name: str) -> list[str]:
    """Write a task, its line in the table of tasks and a row of its test."""
    table = root / "src/thalweg/tasks/__init__.py"
    words = {"name": name, "hyphens": name.replace("_", "-"), "camel": _camel(name)}
    _write(table.with_name(f"{name}.py"), TASK, upper=name.upper(), **words)
    _add_import(table, f"from thalweg.tasks.{name} import {name.upper()}")
    _insert(table, after="        REGRESSION,\n", text=f"        {name.upper()},\n")
    tests = root / "tests/tasks/test_tasks.py"
    row = f'    "{words["hyphens"]}": np.arange(60.0) % 7,\n'
    _insert(tests, after="LABELS: dict[str, Labels | TargetTexts | np.ndarray] = {\n", text=row)
    return [
        f"wrote src/thalweg/tasks/{name}.py, its line in __init__.py,",
        f"and a row of LABELS in {tests.relative_to(root)}",
        "next: compare its metrics with another library's; make test",
    ]


SCAFFOLDS: dict[str, Callable[[Path, str], list[str]]] = {
    "rule": scaffold_rule,
    "instrument": scaffold_instrument,
    "model": scaffold_model,
    "modality": scaffold_modality,
    "task": scaffold_task,
}


def _camel(name: str) -> str:
    return "".join(word.capitalize() for word in name.split("_"))


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
