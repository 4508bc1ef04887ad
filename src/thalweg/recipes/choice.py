"""Choose the recipe that suits the data."""

from collections.abc import Mapping

from thalweg.data.dataset import DataFacts
from thalweg.recipes.image_classification import image_classification
from thalweg.recipes.many_small_images import is_of_speed_records, many_small_images
from thalweg.recipes.photographs import is_of_photographs, photographs
from thalweg.recipes.recipe import Recipe
from thalweg.recipes.regression import regression
from thalweg.recipes.vector_classification import vector_classification


def recipe_for(facts: DataFacts, chosen: Mapping[str, object] | None = None) -> Recipe:
    """The recipe for these data; `chosen` keys rule out recipes made for other values of them."""
    if is_of_speed_records(facts, chosen or {}):
        return many_small_images(facts)
    if is_of_photographs(facts, chosen or {}):
        return photographs(facts)
    if facts.task == "regression":
        return regression(facts)
    return image_classification(facts) if facts.kind == "image" else vector_classification(facts)
