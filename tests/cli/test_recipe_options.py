"""Recipe keys as options of a command."""

from cyclopts import App

from thalweg.cli.recipe_options import recipe_edits, takes_recipe_keys
from thalweg.recipes.recipe import KEYS


def test_settings_by_name_are_numbers_as_they_are_written():
    app = App(result_action="return_value")

    @app.default
    @takes_recipe_keys
    def command(**recipe: object):
        return recipe_edits(recipe)

    options = {
        "--optimizer.changes.beta2": "0.95",
        "--optimizer.changes.nesterov": "false",
        "--model.changes.width": "64",
        "--model.changes.norm": "group",
        "--augment.progressive_resizing.64": "0.6",
    }
    edits = app([word for pair in options.items() for word in pair])
    assert edits == {
        "optimizer.changes": {"beta2": 0.95, "nesterov": False},
        "model.changes": {"width": 64, "norm": "group"},
        "augment.progressive_resizing": {"64": 0.6},
    }
    assert isinstance(edits["model.changes"]["width"], int)


def test_long_names_that_begin_with_their_short_one_are_options_too():
    from thalweg.cli.app import SHORT_NAMES, _with_short_names

    alike = {k.name: k.short for k in KEYS.values() if k.name.startswith(f"{k.short}.")}
    assert {f"--{name}": f"--{short}" for name, short in alike.items()} == SHORT_NAMES
    words = ["train", "x", "--model.name", "mlp", "--task.name=regression", "--lr", "1"]
    assert _with_short_names(words) == [
        *("train", "x", "--model", "mlp", "--task=regression", "--lr", "1")
    ]
