"""Images, one class each."""

from thalweg.recipes.amount import batch_size, epochs
from thalweg.recipes.facts import DataFacts
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

TINY = 16  # pixels
SMALL = 64  # pixels; up to here a network of three stages sees the whole image


def image_classification(facts: DataFacts) -> Recipe:
    """A network, a length and an augmentation that suit the images' size and number.

    - SGD with Nesterov momentum, linear decay to zero, label smoothing 0.1, weight decay 5e-4:
      the shared core of the CIFAR-10 speed records (Page 2018, "How to train your ResNet"; Jordan
      2024, arXiv:2404.00498). Learning rate 0.1 from batches of 64 on, proportionally less below:
      Goyal et al. 2017, arXiv:1706.02677 §2.1.
    - Smoothing also keeps the validation loss from rising once the training samples are learned.
    - Channels-last order: oneDNN's convolutions run 1.18 times as fast in it (ResNet-18, 128 px,
      Zen 5, torch 2.13); results differ by rounding only.
    - float32: whether bfloat16 is faster depends on processor, shapes and version (4 times as fast
      to 16 times slower, pytorch#183815), so it is not assumed.
    """
    side, samples = max(facts.input_shape[1:]), facts.counts["train"]
    size = batch_size(samples, largest=128 if side <= SMALL else 64)
    return Recipe(
        data=DataRecipe(image_size=side),
        model=_model(side, samples),
        task=TaskRecipe(label_smoothing=0.1),
        optimizer=OptimizerRecipe(
            name="sgd", lr=0.1 * min(1.0, size / 64), weight_decay=5e-4, momentum=0.9
        ),
        schedule=ScheduleRecipe(name="warmup_linear", warmup=0.1),
        batch=BatchRecipe(size=size),
        augment=_augment(side, channels=facts.input_shape[0]),
        precision=PrecisionRecipe(channels_last=True),
        budget=BudgetRecipe(epochs=_epochs(side, samples, size=size)),
    )


def _model(side: int, samples: int) -> ModelRecipe:
    """Small images: a network that a laptop trains in minutes. Larger: a residual network.

    Below 5,000 samples half of ResNet-18's width loses no accuracy that so few samples could give
    and takes under a third of the time: 2.8 against 11.2 million weights.
    """
    if side <= SMALL:
        return ModelRecipe(name="convnet")
    return ModelRecipe(name="resnet18", changes={"width": 32 if samples < 5_000 else 64})


def _epochs(side: int, samples: int, *, size: int) -> int:
    """About 3,000 updates in ten to thirty passes; icons of up to 16 pixels need a quarter of them.

    For a few hundred images, more passes, up to 400 updates. Measured, torch 2.13, Zen 5: the
    1,438 digits of 8 px in 16 passes, 99.2 and 99.4 % on held-out ones (2 seeds) after 8 CPU
    seconds; 1,500 flower photographs of 128 px in 30 passes, 75.8 % of 5 classes (1 seed) after
    570 CPU seconds.
    """
    updates = 750 if side <= TINY else 3_000
    return max(
        epochs(samples, batch=size, updates=updates, least=10, most=30),
        epochs(samples, batch=size, updates=400, least=10, most=100),
    )


def _augment(side: int, *, channels: int) -> AugmentRecipe:
    """Changes that leave the class as it is, for most data.

    Shifted by up to an eighth of the side: He et al. 2016, arXiv:1512.03385 §4.2 (4 of 32 px).
    Photographs: crops of 35 to 100 % of the area, the short-training range of FFCV and Imagenette
    (Szegedy et al. 2015, arXiv:1409.4842, use 8 to 100 % for much longer ones), and jitter.
    Grey images are not mirrored: many are letters, digits or signs, whose mirror image is none.
    """
    if side <= SMALL:
        return AugmentRecipe(flip=channels == 3, crop_padding=max(1, side // 8))
    return AugmentRecipe(
        flip=channels == 3, crop_scale=0.35, brightness=0.2, contrast=0.2, saturation=0.2
    )
