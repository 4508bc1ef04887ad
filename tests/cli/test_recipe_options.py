"""Recipe keys as options of a command."""

from cyclopts import App

from thalweg.cli.recipe_options import recipe_edits, takes_recipe_keys


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
