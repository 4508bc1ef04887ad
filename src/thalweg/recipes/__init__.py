"""Strong defaults: one function per task and scale; each cites its reason.

Begin at `recipes.choice.recipe_for`. This file imports nothing, so that `recipes.recipe` loads
without torch.
"""
