from thalweg.data.dataset import DataFacts
from thalweg.recipes.image_classification import image_classification
from thalweg.recipes.recipe import Recipe
from thalweg.recipes.regression import regression
from thalweg.recipes.vector_classification import vector_classification


def recipe_for(facts: DataFacts) -> Recipe:
    """The recipe that suits the data."""
    if facts.task == "regression":
        return regression(facts)
    return image_classification(facts) if facts.kind == "image" else vector_classification(facts)
