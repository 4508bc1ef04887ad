"""Every recipe can be built, trains, and is of a length and size that suit the data."""

from math import ceil

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from thalweg.data import Augment, Batches, DataFacts, load_dataset
from thalweg.models import MODELS
from thalweg.optim import OPTIMIZERS, SCHEDULES
from thalweg.planning.checks import check_model, check_recipe
from thalweg.planning.make_plan import recipe_for
from thalweg.recipes.amount import batch_size, epochs
from thalweg.recipes.recipe import Recipe, edits_from_toml
from thalweg.tasks import TASKS, classification
from thalweg.training import evaluate, train


def facts(shape, samples, *, task="classification", classes=10):
    return DataFacts(
        modality="image" if len(shape) == 3 else "vector",
        task=task,
        input_shape=shape,
        num_classes=classes if task == "classification" else 1,
        counts={"train": samples, "val": samples // 4, "test": 0},
        original_size=(0, 0),
        target_mean=0.0,
        target_std=1.0,
    )


CASES = {
    "digits": facts((1, 8, 8), 1_438),
    "mnist": facts((1, 28, 28), 60_000),
    "cifar-10": facts((3, 32, 32), 50_000),
    "flowers": facts((3, 128, 128), 1_500, classes=5),
    "ants and bees": facts((3, 128, 128), 244, classes=2),
    "many photographs": facts((3, 224, 224), 100_000, classes=1000),
    "a dozen icons": facts((3, 16, 16), 12, classes=2),
    "scores of images": facts((3, 64, 64), 3_000, task="regression"),
    "iris": facts((4,), 120, classes=3),
    "many rows": facts((100,), 1_000_000),
    "diabetes": facts((10,), 353, task="regression"),
    "housing": facts((8,), 16_512, task="regression"),
    "one row": facts((3,), 1, task="regression"),
}
small_shapes = st.one_of(
    st.tuples(st.integers(1, 3), st.integers(8, 256), st.integers(8, 256)),
    st.tuples(st.integers(1, 999)),
)


@pytest.mark.parametrize("given_facts", CASES.values(), ids=CASES)
def test_what_a_recipe_names_exists_and_fits_the_data(given_facts, tmp_path):
    recipe = recipe_for(given_facts)
    assert recipe.task.name == given_facts.task
    assert recipe.task.name in TASKS
    assert recipe.schedule.name in SCHEDULES
    model = MODELS[recipe.model.name](
        given_facts.num_classes, input_shape=given_facts.input_shape, **recipe.model.changes
    )
    OPTIMIZERS[recipe.optimizer.name](
        model.named_parameters(),
        lr=recipe.optimizer.lr,
        weight_decay=recipe.optimizer.weight_decay,
        momentum=recipe.optimizer.momentum,
    )
    assert model.eval()(torch.zeros(2, *given_facts.input_shape)).isfinite().all()
    (tmp_path / "recipe.toml").write_text(recipe.to_toml(), encoding="utf-8")
    assert Recipe().edited(edits_from_toml(tmp_path / "recipe.toml")) == recipe


@settings(deadline=None)
@given(
    shape=small_shapes,
    samples=st.integers(1, 10**7),
    task=st.sampled_from(["classification", "regression"]),
)
def test_every_amount_of_data_gets_a_sensible_length(shape, samples, task):
    recipe = recipe_for(facts(shape, samples, task=task))
    updates = recipe.budget.epochs * ceil(samples / recipe.batch.size)
    assert 16 <= recipe.batch.size <= 256
    assert 10 <= recipe.budget.epochs <= 100
    assert updates <= 4_400 or recipe.budget.epochs == 10
    assert 0 < recipe.optimizer.lr <= 0.1
    assert recipe.augment.flip == (len(shape) == 3 and shape[0] == 3)


@given(samples=st.integers(1, 10**7), largest=st.sampled_from([16, 64, 128]))
def test_an_epoch_has_updates_enough_or_the_smallest_batches(samples, largest):
    size = batch_size(samples, largest=largest)
    assert size <= largest
    assert samples >= 24 * size or size == 16
    assert size == largest or samples < 24 * 2 * size  # no smaller than need be


@pytest.mark.parametrize(
    ("samples", "expected"), [(64 * 100, 30), (64 * 1000, 10), (64 * 10, 50), (64 * 150, 20)]
)
def test_epochs_make_the_wanted_updates_within_bounds(samples, expected):
    assert epochs(samples, batch=64, updates=3_000, least=10, most=50) == expected


@pytest.mark.slow
def test_the_digits_recipe_reaches_98_percent_in_a_third_of_its_passes(tmp_path, monkeypatch):
    monkeypatch.setenv("THALWEG_CACHE", str(tmp_path))
    dataset = load_dataset("digits")
    recipe = recipe_for(dataset.facts).edited({"budget.epochs": 6})
    torch.manual_seed(0)
    task = classification(10, label_smoothing=recipe.task.label_smoothing)
    model = MODELS[recipe.model.name](10, input_shape=(1, 8, 8))
    model = model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # in no stub
    optimizer = OPTIMIZERS[recipe.optimizer.name](
        model.named_parameters(),
        lr=recipe.optimizer.lr,
        weight_decay=recipe.optimizer.weight_decay,
        momentum=recipe.optimizer.momentum,
    )
    changes = {key: getattr(recipe.augment, key) for key in Augment.__slots__}
    batches = Batches(
        dataset, "train", batch_size=recipe.batch.size, shuffle=True, augment=Augment(**changes)
    )
    losses = [
        step.loss.item()
        for step in train(
            model,
            batches.stream(),
            task.loss_fn,
            optimizer=optimizer,
            schedule=SCHEDULES[recipe.schedule.name](recipe.schedule.warmup),
            steps=6 * len(batches),
        )
    ]
    evaluation = evaluate(model, Batches(dataset, "val", batch_size=256), task)
    assert losses[0] == pytest.approx(task.chance_loss, rel=0.1)
    assert max(losses) < 1.5 * task.chance_loss
    assert evaluation.metrics["accuracy"] >= 0.98


@pytest.mark.parametrize(
    ("shape", "samples", "task", "network"),
    [
        ((3, 32, 32), 50_000, "classification", "airbench"),
        ((3, 48, 48), 10_000, "classification", "airbench"),
        ((3, 32, 32), 2_000, "classification", "convnet"),
        ((1, 28, 28), 60_000, "classification", "convnet"),
        ((3, 64, 64), 50_000, "classification", "convnet"),
        ((3, 32, 32), 50_000, "regression", "convnet"),
    ],
)
def test_many_small_colour_images_get_the_network_of_the_speed_records(
    shape, samples, task, network
):
    recipe = recipe_for(facts(shape, samples, task=task))
    assert recipe.model.name == network
    assert (recipe.evaluation.test_time_augmentation == "shift") == (network == "airbench")
    assert recipe.augment.alternating_flip == (network == "airbench")


@pytest.mark.parametrize("chosen", [{"model.name": "resnet18"}, {"optimizer.name": "sgd"}])
def test_another_network_or_optimizer_gets_the_usual_recipe(chosen):
    small = facts((3, 32, 32), 50_000)
    assert recipe_for(small, chosen).optimizer.name == "sgd"
    assert recipe_for(small, {"model.name": "airbench"}) == recipe_for(small)


PHOTOGRAPHS = facts((3, 128, 128), 2_000, classes=6)


def test_photographs_begin_small_under_muon_and_end_at_their_own_size():
    recipe = recipe_for(PHOTOGRAPHS)
    assert (recipe.model.name, recipe.optimizer.name) == ("resnet18", "muon")
    assert recipe.augment.progressive_resizing == {"64": 0.5, "96": 0.25}
    assert recipe_for(PHOTOGRAPHS, {"model.name": "resnet18", "optimizer.name": "muon"}) == recipe


@pytest.mark.parametrize(
    ("given_facts", "chosen"),
    [
        (PHOTOGRAPHS, {"model.name": "vgg16"}),
        (PHOTOGRAPHS, {"optimizer.name": "sgd"}),
        (PHOTOGRAPHS, {"transfer.method": "probe"}),
        (facts((3, 128, 128), 100_000), {}),
        (facts((3, 64, 64), 2_000), {}),
        (facts((3, 128, 128), 2_000, task="regression"), {}),
    ],
)
def test_what_it_was_not_measured_for_gets_the_usual_recipe(given_facts, chosen):
    recipe = recipe_for(given_facts, chosen)
    assert recipe.optimizer.name == "sgd"
    assert not recipe.optimizer.changes
    assert not recipe.augment.progressive_resizing


@pytest.mark.parametrize("side", [65, 80, 128, 224])
@pytest.mark.parametrize("samples", [100, 2_000])
def test_a_photograph_of_any_side_can_be_made_as_small_as_it_begins(side, samples):
    given_facts = facts((3, side, side), samples)
    recipe = recipe_for(given_facts)
    check_recipe(recipe, given_facts)
    model = MODELS[recipe.model.name](10, input_shape=(3, side, side), **recipe.model.changes)
    check_model(recipe, model, given_facts)
