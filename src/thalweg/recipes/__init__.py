"""Strong defaults: one function per kind of data and scale; each cites its reason.

Nothing here loads torch. A modality names the function that chooses its recipe.
"""
