"""Optimizers, weight groups, schedules."""
