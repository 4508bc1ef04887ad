"""Other trainers' logs as a history: CSV, JSON, TensorBoard's event files. No torch."""

from thalweg.record.logs.training_log import TrainingLog, read_log

__all__ = ["TrainingLog", "read_log"]
