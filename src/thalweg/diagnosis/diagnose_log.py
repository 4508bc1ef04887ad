"""Judge curves alone: what they cannot show is not checked, and said to be."""

from dataclasses import replace
from functools import partial
from inspect import signature

from thalweg.diagnosis.diagnose import Diagnosis, diagnose
from thalweg.diagnosis.rule import Rule
from thalweg.diagnosis.rules import RULES
from thalweg.record import History
from thalweg.record.metric_names import READABLE
from thalweg.record.quantities import CHANCE_LOSS, LOSS, NUM_CLASSES, VAL_ACCURACY, VAL_LOSS

EPOCHS = 10  # means of whole epochs that tell a fall from noise
UNSHOWN = "curves do not show it: put thalweg.watch into the loop"
MANY = (LOSS, VAL_LOSS, VAL_ACCURACY)  # whose points a rule counts
OF_FIRST_LOSS = "initial-loss-above-chance"


def diagnose_log(history: History, *, by_epoch: bool = False) -> Diagnosis:
    """The diagnosis that a history of nothing but logged numbers allows.

    `by_epoch`: each point is the mean of an epoch. A rule that takes more points than there are is
    not checked, where `diagnose` would pass it.
    """
    rules = [_by_epoch(rule) if by_epoch else rule for rule in RULES]
    made = diagnose(history, rules)
    not_checked = {}
    for rule in rules:
        if rule.name in made.not_checked:
            not_checked[rule.name] = _why(rule, history)
        elif rule.name in made.passed and (why := _says_nothing(rule, history, by_epoch)):
            not_checked[rule.name] = why
    passed = tuple(name for name in made.passed if name not in not_checked)
    return replace(made, passed=passed, not_checked=not_checked)


def _by_epoch(rule: Rule) -> Rule:
    """Fewer points do where each is a mean over an epoch, if the rule counts steps."""
    if "least_steps" not in signature(rule.check).parameters:
        return rule
    return replace(rule, check=partial(rule.check, least_steps=EPOCHS))


def _says_nothing(rule: Rule, history: History, by_epoch: bool) -> str:
    """Why it means nothing that the rule found nothing; "" where it does."""
    if by_epoch and rule.name == OF_FIRST_LOSS:
        return "the first point is the mean of an epoch"
    limits = signature(rule.check).parameters
    least = next((limits[n].default for n in ("least", "least_steps") if n in limits), 0)
    for quantity in rule.needs:
        found = max((len(series) for series in history.by_place(quantity).values()), default=0)
        if quantity in MANY and found < least:
            return f"{found} points of {quantity.name} are too few: it takes {least}"
    return ""


def _why(rule: Rule, history: History) -> str:
    missing = [quantity for quantity in rule.needs if quantity not in history]
    if not missing:
        return "the rule itself failed"
    if NUM_CLASSES in missing or CHANCE_LOSS in missing:
        told = all(q in READABLE or q in (NUM_CLASSES, CHANCE_LOSS) for q in missing)
        return "tell the number of classes: --num-classes" if told else UNSHOWN
    if any(quantity not in READABLE for quantity in missing):
        return UNSHOWN
    names = " or ".join(quantity.name for quantity in missing)
    return f"no column was read as {names}: --column {missing[0].name}=COLUMN names one"
