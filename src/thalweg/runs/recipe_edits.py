"""Edits of a run's recipe between its beginning and its resumption."""

from collections.abc import Mapping
from typing import Any

from thalweg.recipes.key import toml_value
from thalweg.recipes.recipe import Recipe

EDITED = "recipe-edited"  # the kind of the event
_FREE = frozenset({"devices"})  # any number of ranks trains the same weights
MOST_SHOWN = 120  # characters of a value


def recipe_fact(recipe: Recipe) -> dict[str, str]:
    """Dotted key → value in TOML, to compare a later recipe with."""
    return {name: toml_value(v)[:MOST_SHOWN] for name, v in recipe.flat().items()}


def recipe_edits(facts: Mapping[str, Any], recipe: Recipe) -> list[str]:
    """The keys whose values differ from the recorded ones, with both: "optimizer.lr: 0.1 → 0.5".

    None for a run whose recipe was not recorded beside its measurements, as in older runs.
    """
    recorded: Mapping[str, str] = facts.get("recipe") or {}
    present = recipe_fact(recipe)
    return [
        f"{name}: {recorded[name]} → {value}"
        for name, value in present.items()
        if name in recorded and recorded[name] != value and name not in _FREE
    ]
