"""The recipe that the data alone choose."""

from collections.abc import Mapping

from thalweg.data.modalities import MODALITIES
from thalweg.recipes.facts import DataFacts
from thalweg.recipes.recipe import Recipe


def recipe_for(facts: DataFacts, chosen: Mapping[str, object] | None = None) -> Recipe:
    """The modality's recipe for the data, and for the keys that were chosen already, if any."""
    recipe = MODALITIES[facts.modality].recipe(facts, chosen or {})
    return recipe.edited({"task.name": facts.task})
