"""Settings: the precedence of their layers, and the origin of each value."""

import pytest

from thalweg.cli.settings import annotated_toml, environment_variable, gather_settings
from thalweg.errors import UnknownNameError, UsageError
from thalweg.recipes.recipe import KEYS, Recipe, edits_from_toml


@pytest.fixture
def config(tmp_path):
    path = tmp_path / "recipe.toml"
    path.write_text("seed = 3\n[optimizer]\nlr = 0.3\nmomentum = 0.3\nweight_decay = 0.3\n")
    return path


def test_command_line_beats_environment_beats_file_beats_default(config):
    environment = {"THALWEG_OPTIMIZER_LR": "0.2", "THALWEG_OPTIMIZER_MOMENTUM": "0.2", "HOME": "/"}
    settings = gather_settings({"optimizer.lr": 0.1}, environment, config)
    recipe = Recipe().edited(settings.edits)
    assert (recipe.optimizer.lr, recipe.optimizer.momentum) == (0.1, 0.2)
    assert (recipe.optimizer.weight_decay, recipe.seed) == (0.3, 3)
    assert settings.origins == {
        "optimizer.lr": "command line: --lr",
        "optimizer.momentum": "environment: THALWEG_OPTIMIZER_MOMENTUM",
        "optimizer.weight_decay": f"file: {config}",
        "seed": f"file: {config}",
    }


def test_what_is_printed_is_a_recipe_again(config, tmp_path):
    settings = gather_settings({"model.changes": {"stem": "small # no comment"}}, {}, config)
    recipe = Recipe().edited(settings.edits)
    text = annotated_toml(recipe, settings.origins)
    assert f"lr = 0.3  # file: {config}" in text
    assert "epochs = 10  # default" in text
    again = tmp_path / "again.toml"
    again.write_text(text)
    assert Recipe().edited(edits_from_toml(again)) == recipe


@pytest.mark.parametrize("key", KEYS)
def test_every_key_has_a_variable_of_its_own(key):
    assert [
        other for other in KEYS if environment_variable(other) == environment_variable(key)
    ] == [key]


def test_a_misspelt_variable_is_refused_with_the_nearest():
    with pytest.raises(UnknownNameError, match="did you mean THALWEG_OPTIMIZER_LR"):
        gather_settings({}, {"THALWEG_OPTIMISER_LR": "0.1"}, None)


def test_a_variable_with_an_old_name_is_refused_with_the_new_one():
    with pytest.raises(UsageError, match="has a new name") as caught:
        gather_settings({}, {"THALWEG_EVALUATION_SURE": "0.9"}, None)
    assert caught.value.fix == "THALWEG_EVALUATION_CONFIDENCE_THRESHOLD"


def test_a_variable_of_another_purpose_is_left_alone():
    assert gather_settings({}, {"THALWEG_CACHE": "/tmp/x"}, None).edits == {}


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("THALWEG_OPTIMIZER_LR", "fast"),
        ("THALWEG_TRANSFER_METHOD", "prob"),
        ("THALWEG_MODEL_CHANGES", "{ stem"),
        ("THALWEG_MODEL_CHANGES", "3"),
        ("THALWEG_AUGMENT_FLIP", "perhaps"),
    ],
)
def test_a_variable_that_cannot_be_meant_is_named(name, text):
    with pytest.raises(UsageError, match=name):
        gather_settings({}, {name: text}, None)


def test_a_table_in_the_environment():
    settings = gather_settings({}, {"THALWEG_MODEL_CHANGES": '{ stem = "small", width = 8 }'}, None)
    assert settings.edits == {"model.changes": {"stem": "small", "width": 8}}
