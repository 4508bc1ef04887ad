"""Strong defaults: one function per task and scale; each cites its reason.

Empty, so that `recipes.recipe` loads without torch; `recipes.choice.recipe_for` is where to begin.
"""
