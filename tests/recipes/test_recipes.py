"""A recipe for every shape and amount of data, that can be built and trained as it stands."""

from inspect import signature
from math import nan

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from thalweg import api
from thalweg.data import DataFacts
from thalweg.errors import RunError, UnknownNameError, UsageError
from thalweg.models import MODELS
from thalweg.optim import OPTIMIZERS, SCHEDULES
from thalweg.planning.make_plan import recipe_for
from thalweg.recipes.old_names import OLD_NAMES
from thalweg.recipes.recipe import KEYS, EvaluationRecipe, Recipe, edits_from_toml, recorded_recipe


def facts_of(modality, task, shape, samples, classes):
    return DataFacts(
        modality=modality,
        task=task,
        input_shape=shape,
        num_classes=classes if task == "classification" else 1,
        counts={"train": samples, "val": max(1, samples // 4)},
        original_size=shape[1:] if modality == "image" else (0, 0),
        target_mean=0.0,
        target_std=1.0,
    )


tasks = st.sampled_from(["classification", "regression"])
images = st.tuples(st.sampled_from([1, 3]), st.integers(8, 256)).map(lambda t: (t[0], t[1], t[1]))
samples, classes = st.integers(2, 10**6), st.integers(2, 1000)
data = st.one_of(
    st.tuples(st.just("image"), tasks, images, samples, classes),
    st.tuples(st.just("vector"), tasks, st.tuples(st.integers(1, 5000)), samples, classes),
)


@given(data)
def test_every_recipe_can_be_meant(given_data):
    facts = facts_of(*given_data)
    recipe = recipe_for(facts)
    assert recipe.model.name in MODELS
    assert recipe.optimizer.name in OPTIMIZERS
    assert recipe.schedule.name in SCHEDULES
    assert recipe.task.name == facts.task
    assert recipe.optimizer.lr > 0
    assert 1 <= recipe.budget.epochs <= 100
    assert 1 <= recipe.batch.size <= 512
    assert Recipe().edited(recipe.flat()) == recipe


@pytest.mark.parametrize(
    "facts",
    [
        pytest.param(facts_of("image", "classification", (1, 8, 8), 1438, 10), id="digits"),
        pytest.param(facts_of("image", "classification", (3, 128, 128), 1500, 5), id="flowers"),
        pytest.param(facts_of("image", "regression", (3, 32, 32), 50_000, 1), id="image to value"),
        pytest.param(facts_of("vector", "regression", (8,), 16_512, 1), id="houses"),
        pytest.param(facts_of("vector", "classification", (13,), 142, 3), id="wine"),
    ],
)
def test_a_recipes_model_takes_the_data(facts):
    recipe = recipe_for(facts)
    build = MODELS[recipe.model.name]
    model = build(facts.num_classes, input_shape=facts.input_shape, **recipe.model.changes)
    assert model(torch.zeros(2, *facts.input_shape)).shape == (2, facts.num_classes)


@given(data)
def test_toml_reads_back_as_it_was(tmp_path_factory, given_data):
    recipe = recipe_for(facts_of(*given_data)).edited({"data.path": 'a "quoted"\npath\\é'})
    path = tmp_path_factory.mktemp("recipe") / "recipe.toml"
    path.write_text(recipe.to_toml(), encoding="utf-8")
    assert Recipe().edited(edits_from_toml(path)) == recipe


@pytest.mark.parametrize(
    ("edits", "error", "text"),
    [
        ({"optimiser.lr": 1}, UnknownNameError, "did you mean optimizer.lr"),
        ({"optimizer": 1}, UnknownNameError, "no recipe key"),
        ({"optimizer.lr": "fast"}, UsageError, "optimizer.lr must be a number"),
        ({"budget.epochs": 2.5}, UsageError, "budget.epochs must be a whole number"),
        ({"augment.flip": "perhaps"}, UsageError, "augment.flip must be true or false"),
        ({"precision.dtype": "float61"}, UnknownNameError, "float61"),
        ({"model.changes": 3}, UsageError, "model.changes must be a table"),
        ({"seed": True}, UsageError, "seed must be a whole number"),
    ],
)
def test_what_cannot_be_meant_is_refused(edits, error, text):
    with pytest.raises(error, match=text):
        Recipe().edited(edits)


@pytest.mark.parametrize(
    "text",
    [
        "seed = ",
        "seed = 1\nseed = 2",
        "[optimizer]\nlrr = 1",
        "\x00",
        f"seed = {'9' * 5000}",
        f"a = {'[' * 5000}",
    ],
)
def test_a_bad_file_is_named(tmp_path, text):
    path = tmp_path / "recipe.toml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(UsageError, match=r"recipe\.toml"):
        edits_from_toml(path)


def test_a_file_without_end_is_not_read(tmp_path):
    path = tmp_path / "recipe.toml"
    with path.open("wb") as file:
        file.truncate(1 << 33)  # sparse: no disk is used
    with pytest.raises(RunError, match=r"recipe\.toml cannot be read"):
        recorded_recipe(tmp_path)


def test_a_runs_recipe_is_read_from_its_folder(tmp_path):
    with pytest.raises(RunError, match=r"recipe\.toml does not exist"):
        recorded_recipe(tmp_path)
    (tmp_path / "recipe.toml").write_text(
        'seed = 3\n[model]\nname = "mlp"\nchanges = { width = 8 }\n[optimizer]\nlr = 0.1\n'
    )
    recipe = recorded_recipe(tmp_path)
    assert (recipe.seed, recipe.model.changes, recipe.optimizer.lr) == (3, {"width": 8}, 0.1)
    (tmp_path / "recipe.toml").write_text("[optimizer]\nlrr = 1")
    with pytest.raises(RunError, match=r"did you mean optimizer\.lr"):
        recorded_recipe(tmp_path)


def test_a_recipe_of_an_older_version_still_opens(tmp_path):
    (tmp_path / "recipe.toml").write_text(
        '[augment]\nsmall = { "64" = 0.5 }\n[transfer]\nviews = 2\n'
        '[evaluation]\nevery = 3\nviews = "one"\nsure = 0.7\n'
    )
    recipe = recorded_recipe(tmp_path)
    assert recipe.augment.progressive_resizing == {"64": 0.5}
    assert recipe.transfer.copies_per_image == 2
    assert recipe.evaluation == EvaluationRecipe(interval=3, confidence_threshold=0.7)
    (tmp_path / "recipe.toml").write_text('[evaluation]\nviews = "shift"')
    assert recorded_recipe(tmp_path).evaluation.test_time_augmentation == "shift"


@pytest.mark.parametrize(("old", "new"), OLD_NAMES.items())
def test_an_edit_with_an_old_name_is_refused_with_the_new_one(old, new):
    assert new in KEYS
    with pytest.raises(UnknownNameError, match=f"{old} has a new name") as caught:
        Recipe().edited({old: 1})
    assert caught.value.fix == new


def test_tables_of_settings_are_known_by_their_type():
    changes = {f"{part}.changes" for part in ("model", "task", "optimizer", "schedule")}
    assert {key.name for key in KEYS.values() if key.is_table} == changes | {
        "augment.progressive_resizing"
    }


@pytest.mark.parametrize("key", KEYS.values(), ids=lambda key: key.name)
def test_every_key_accepts_its_own_default(key):
    key.check(key.default)
    assert key.parse(key.default) == key.default == Recipe().flat()[key.name]


@pytest.mark.parametrize(
    ("name", "inside", "outside"),
    [
        ("data.val_fraction", 0.1, [0.0, 1.0, nan]),
        ("optimizer.momentum", 0.0, [-0.1, 1.0, nan]),
        ("augment.cutout", 1.0, [-0.1, 1.1, nan]),
        ("batch.size", 1, [0]),
    ],
)
def test_a_number_out_of_range_is_refused(name, inside, outside):
    KEYS[name].check(inside)
    for value in outside:
        with pytest.raises(UsageError, match=f"{name} is out of range") as caught:
            KEYS[name].check(value)
        assert caught.value.fix == KEYS[name].range


OWN = {  # what a function chooses itself
    api.train: set(),
    api.plan: set(),
    api.cross_validate: set(),
    api.find_lr: {"epochs", "lr", "devices", "transfer"},
    api.ladder: {"model", "transfer", "source", "split"},
    api.ladder_steps: {"model", "transfer", "source", "split"},
}


@pytest.mark.parametrize("function", OWN, ids=lambda function: function.__name__)
def test_the_python_call_takes_the_keys_with_a_short_name(function):
    short = {key.short: key.type for key in KEYS.values() if key.short}
    parameters = signature(function).parameters
    assert short.keys() - parameters.keys() == OWN[function]
    for name in short.keys() & parameters.keys():
        assert parameters[name].annotation in (short[name], short[name] | None)


@pytest.mark.parametrize(("key", "value"), [("seed", 2**53 + 1), ("optimizer.lr", float("inf"))])
@pytest.mark.parametrize("as_text", [False, True])
def test_a_number_beyond_what_can_be_computed_with_is_refused(key, value, as_text):
    with pytest.raises(UsageError, match=f"{key} is too large"):
        Recipe().edited({key: str(value) if as_text else value})
    with pytest.raises(UsageError, match=f"{key} is too large"):
        Recipe().edited({key: "9" * 5000 if as_text else 10**400})


def test_an_older_run_has_no_groups_and_a_new_one_those_that_it_recorded(tmp_path):
    """A run of before groups must find its own split again."""
    toml = Recipe().to_toml()
    (tmp_path / "recipe.toml").write_text(toml)
    assert recorded_recipe(tmp_path).data.group == ""
    lines = [line for line in toml.splitlines() if not line.startswith("group =")]
    (tmp_path / "recipe.toml").write_text("\n".join(lines))
    assert recorded_recipe(tmp_path).data.group == "none"
