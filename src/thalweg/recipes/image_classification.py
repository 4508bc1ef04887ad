"""Images, one class each."""

from thalweg.data.dataset import DataFacts
from thalweg.recipes.recipe import (
    AugmentRecipe,
    BatchRecipe,
    BudgetRecipe,
    DataRecipe,
    ModelRecipe,
    OptimizerRecipe,
    PrecisionRecipe,
    Recipe,
    ScheduleRecipe,
    TaskRecipe,
)


def image_classification(facts: DataFacts) -> Recipe:
    """A network, a length and an augmentation that suit the images' size and number."""
    side, samples = max(facts.input_shape[1:]), facts.counts["train"]
    small = side <= 64
    return Recipe(
        data=DataRecipe(image_size=side),
        model=ModelRecipe(name="convnet" if small else "resnet18"),
        task=TaskRecipe(label_smoothing=0.1),
        optimizer=OptimizerRecipe(name="sgd", lr=0.1, weight_decay=5e-4, momentum=0.9),
        schedule=ScheduleRecipe(name="warmup_linear", warmup=0.1),
        batch=BatchRecipe(size=64 if samples < 20_000 else 128),
        augment=AugmentRecipe(crop_padding=max(1, side // 8), flip=side > 32),
        precision=PrecisionRecipe(channels_last=True),
        budget=BudgetRecipe(epochs=20),
    )
