"""Diagnose logged curves alone; a rule that needs more than they show is not checked."""

from dataclasses import replace
from functools import partial
from inspect import signature

from thalweg.diagnosis.diagnose import Diagnosis, diagnose
from thalweg.diagnosis.rule import Rule
from thalweg.diagnosis.rules import rules_with_plugins
from thalweg.record import History
from thalweg.record.metric_names import READABLE
from thalweg.record.quantities import CHANCE_LOSS, NUM_CLASSES

LEAST_EPOCHS = 10  # means of whole epochs that tell a fall from noise
NOT_IN_CURVES = "curves do not show it: put thalweg.watch into the loop"
READS_FIRST_LOSS = "initial-loss-above-chance"


def diagnose_log(history: History, *, by_epoch: bool = False) -> Diagnosis:
    """Diagnose a history that holds logged numbers alone.

    `by_epoch`: each point is the mean of an epoch. A rule that needs more points than there are is
    not checked, where `diagnose` would pass it.
    """
    rules = [_for_epochs(rule) if by_epoch else rule for rule in rules_with_plugins()]
    diagnosis = diagnose(history, rules)
    not_checked = {}
    for rule in rules:
        if rule.name in diagnosis.not_checked:
            reason = diagnosis.not_checked[rule.name]
            not_checked[rule.name] = _why_not_checked(rule, history) or reason
        elif rule.name in diagnosis.passed and by_epoch and rule.name == READS_FIRST_LOSS:
            not_checked[rule.name] = "the first point is the mean of an epoch"
    passed = tuple(name for name in diagnosis.passed if name not in not_checked)
    return replace(diagnosis, passed=passed, not_checked=not_checked)


def _for_epochs(rule: Rule) -> Rule:
    """Let a rule that counts steps speak from fewer points, where each is the mean of an epoch."""
    if "least_steps" not in signature(rule.check).parameters:
        return rule
    return replace(rule, check=partial(rule.check, least_steps=LEAST_EPOCHS))


def _why_not_checked(rule: Rule, history: History) -> str:
    """The reason in the terms of a log; "" where no quantity is missing."""
    missing = [quantity for quantity in rule.needs if quantity not in history]
    if not missing:
        return ""
    if NUM_CLASSES in missing or CHANCE_LOSS in missing:
        classes_suffice = all(q in READABLE or q in (NUM_CLASSES, CHANCE_LOSS) for q in missing)
        return "tell the number of classes: --num-classes" if classes_suffice else NOT_IN_CURVES
    if any(quantity not in READABLE for quantity in missing):
        return NOT_IN_CURVES
    names = " or ".join(quantity.name for quantity in missing)
    return f"no column was read as {names}: --column {missing[0].name}=COLUMN names one"
