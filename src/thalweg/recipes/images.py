"""Images, with a class or a number each."""

from collections.abc import Mapping

from thalweg.recipes.facts import DataFacts
from thalweg.recipes.image_classification import image_classification
from thalweg.recipes.many_small_images import many_small_images, suits_speed_records
from thalweg.recipes.photographs import photographs, suits_photographs
from thalweg.recipes.recipe import Recipe


def images(facts: DataFacts, chosen: Mapping[str, object]) -> Recipe:
    """The recipe for images, by their task, size and number, and by what was chosen already."""
    if facts.num_classes == 1:
        return image_regression(facts)
    if suits_speed_records(facts, chosen):
        return many_small_images(facts)
    if suits_photographs(facts, chosen):
        return photographs(facts)
    return image_classification(facts)


def image_regression(facts: DataFacts) -> Recipe:
    """The network and augmentation for classes, at a third of the rate and with clipping.

    Squared errors have no bound on their gradients.
    """
    recipe = image_classification(facts)
    return recipe.edited(
        {
            "task.label_smoothing": 0.0,
            "optimizer.lr": round(recipe.optimizer.lr / 3, 4),
            "optimizer.max_grad_norm": 1.0,
        }
    )
