"""Thousands of small colour images, one class each: the recipe of the CIFAR-10 speed records."""

from collections.abc import Mapping

from thalweg.recipes.facts import DataFacts
from thalweg.recipes.recipe import (
    AugmentRecipe,
    BatchRecipe,
    BudgetRecipe,
    DataRecipe,
    EvaluationRecipe,
    ModelRecipe,
    OptimizerRecipe,
    PrecisionRecipe,
    Recipe,
    ScheduleRecipe,
    TaskRecipe,
)

SIDES = range(24, 49)  # pixels
LEAST_SAMPLES = (
    8_000  # the numbers below were measured on 50,000; fewer samples get as many updates
)
BATCH = 500  # samples
LR = 0.12  # share of a filter that a step changes
# The published rates are for the sum of a batch's losses, ours for their mean. The published
# outputs are divided by the head's 256 inputs, ours are not.
BIAS_RATE = 0.053 * BATCH / LR
HEAD_RATE = 0.67 * BATCH / 256**2 / LR
DECAY = 2e-6 * BATCH  # share of head and biases that a step removes
UPDATES, LEAST_EPOCHS = 1_000, 10
EARLY_SIDE, EARLY_SHARE = 0.75, 0.3  # of the full side; of the training
FIRST_BIAS_SHARE = 1 / 20
CONFIDENCE_THRESHOLD = 0.68  # a quarter of CIFAR-10's test images have less after such a training
VALIDATION_INTERVAL = (
    3  # epochs; a validation of 10,000 images costs a fifteenth of an epoch of 50,000
)


def suits_speed_records(facts: DataFacts, chosen: Mapping[str, object]) -> bool:
    """True for classes of small photographs, like those that the speed records were set with.

    False if another network or optimizer is chosen: the learning rates hold for these alone.
    """
    if not facts.has_one_class:
        return False
    own = {"model.name": "airbench", "optimizer.name": "muon"}
    if any(chosen.get(key, name) != name for key, name in own.items()):
        return False
    channels, height, width = facts.input_shape
    is_square_colour = channels == 3 and height == width
    return is_square_colour and height in SIDES and facts.counts["train"] >= LEAST_SAMPLES


def many_small_images(facts: DataFacts) -> Recipe:
    """A network with a whitened first layer, trained by Muon for a few passes.

    - Filters of constant norm under Muon, SGD for biases and head, linear decay to zero, label
      smoothing 0.2, alternating flips, test-time augmentation: airbench94_muon, Jordan 2024,
      arXiv:2404.00498.
    - Batches of 500 instead of 2,000: on a CPU they cost as much a sample, and learn more from it.
    - Three quarters of the side for three tenths of the updates: a step costs half as much.
    - Test-time augmentation only of images below a confidence: hiverge/cifar10-speedrun.
    """
    side, samples = facts.input_shape[1], facts.counts["train"]
    epochs = min(max(round(UPDATES * BATCH / samples), LEAST_EPOCHS), 30)
    return Recipe(
        data=DataRecipe(image_size=side),
        model=ModelRecipe(name="airbench"),
        task=TaskRecipe(label_smoothing=0.2),
        optimizer=OptimizerRecipe(
            name="muon",
            lr=LR,
            weight_decay=round(DECAY / LR, 6),
            momentum=0.6,
            changes={
                "newton_schulz_steps": 3,
                "unit_norm": True,
                "head_rate": round(HEAD_RATE, 4),
                "bias_rate": round(BIAS_RATE, 1),
                "frozen_bias_share": round(FIRST_BIAS_SHARE, 4),
            },
        ),
        schedule=ScheduleRecipe(name="warmup_linear", warmup=0.0),
        batch=BatchRecipe(size=BATCH),
        augment=AugmentRecipe(
            flip=True,
            alternating_flip=True,
            crop_padding=2,
            progressive_resizing={str(round(EARLY_SIDE * side)): round(EARLY_SHARE, 4)},
        ),
        precision=PrecisionRecipe(channels_last=True),
        budget=BudgetRecipe(epochs=epochs),
        evaluation=EvaluationRecipe(
            interval=VALIDATION_INTERVAL,
            test_time_augmentation="shift",
            confidence_threshold=CONFIDENCE_THRESHOLD,
        ),
    )
