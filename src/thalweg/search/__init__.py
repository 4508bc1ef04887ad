"""Hyper-parameter search: the bridge from a recipe to Optuna's search space."""
