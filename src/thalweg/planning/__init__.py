"""Wishes and data become a Plan: the recipe, the numerics of a step, the cost, before training."""
