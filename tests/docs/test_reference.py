"""Every entry of every table has its documentation, and the pages are what the tables say."""

import subprocess
import sys
from pathlib import Path

import pytest

from thalweg.diagnosis.rules import RULES
from thalweg.models import MODELS
from thalweg.optim import OPTIMIZERS, SCHEDULES
from thalweg.recipes.recipe import KEYS
from thalweg.record import QUANTITIES

ROOT = Path(__file__).parents[2]


def test_the_reference_pages_are_current():
    generate = [sys.executable, str(ROOT / "docs/generate.py"), "--check"]
    done = subprocess.run(generate, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.name)
@pytest.mark.parametrize("part", ["Why it matters: ", "False alarms: ", "Source: "])
def test_every_rule_says_why_when_it_is_wrong_and_where_it_comes_from(rule, part):
    assert part in rule.doc


@pytest.mark.parametrize(
    "entry",
    [table[name] for table in (MODELS, OPTIMIZERS, SCHEDULES) for name in table],
    ids=lambda entry: entry.__name__,
)
def test_every_model_optimizer_and_schedule_is_described(entry):
    assert entry.__doc__


@pytest.mark.parametrize("quantity", QUANTITIES.values(), ids=lambda quantity: quantity.name)
def test_every_quantity_has_a_unit_and_a_meaning(quantity):
    assert quantity.unit
    assert quantity.meaning


def test_every_recipe_key_says_what_it_means():
    assert [name for name, key in KEYS.items() if not key.meaning.endswith(".")] == []
