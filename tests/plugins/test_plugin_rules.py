"""Rules of another package join a diagnosis; one that cannot be loaded is not checked."""

import sys

import pytest

import thalweg
from thalweg.cli.explain import explain
from thalweg.cli.rules import rules
from thalweg.diagnosis import diagnose_log
from thalweg.record import History
from thalweg.record.quantities import LOSS

MODULE = '''
from thalweg.diagnosis.rule import Finding, rule
from thalweg.record.quantities import LOSS


@rule("loss-is-odd", stage="optimisation", needs=(LOSS,))
def loss_is_odd(history):
    """The last loss is an odd number."""
    return Finding(severity="warning", summary="odd") if history.last(LOSS) % 2 == 1 else None


@rule("wrong-answer", stage="data", needs=(LOSS,))
def wrong_answer(history):
    return "not a finding"


def undecorated(history):
    return None
'''
ENTRY_POINTS = """
[thalweg.rules]
loss-is-odd = odd_rules:loss_is_odd
wrong-answer = odd_rules:wrong_answer
undecorated = odd_rules:undecorated
absent = odd_rules:absent
no-module = no_such_module:rule
"""


@pytest.fixture(autouse=True)
def package(tmp_path, monkeypatch):
    (tmp_path / "odd_rules.py").write_text(MODULE)
    about = tmp_path / "odd_rules-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: odd-rules\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text(ENTRY_POINTS)
    monkeypatch.syspath_prepend(tmp_path)
    yield
    sys.modules.pop("odd_rules", None)


def losses(*values):
    history = History()
    for step, value in enumerate(values):
        history.add(LOSS, step, {"": float(value)})
    return history


@pytest.mark.parametrize("diagnose", [thalweg.diagnose, diagnose_log])
def test_it_fires_and_passes(diagnose):
    assert "loss-is-odd" in {finding.rule for finding in diagnose(losses(4, 3)).findings}
    assert "loss-is-odd" in diagnose(losses(4, 2)).passed
    assert "loss-is-odd" in diagnose(History()).not_checked


def test_a_rule_that_cannot_be_loaded_or_used_is_not_checked():
    reasons = thalweg.diagnose(losses(4, 2)).not_checked
    assert "AttributeError" in reasons["absent"]
    assert "ModuleNotFoundError" in reasons["no-module"]
    assert "odd_rules:undecorated is no Rule" in reasons["undecorated"]
    assert "the rule itself failed: Type" in reasons["wrong-answer"]


def test_the_commands_list_and_explain_it(capsys):
    rules()
    listed = capsys.readouterr().out
    assert "The last loss is an odd number." in listed
    assert "cannot be loaded: ModuleNotFoundError" in listed
    explain("loss-is-odd")
    assert "Reads: loss" in capsys.readouterr().out
