"""Curves that others logged, as a history: CSV, JSON, TensorBoard's event files. No torch."""

from thalweg.record.curves.recording import Recording, read_curves

__all__ = ["Recording", "read_curves"]
