"""Files to samples to batches."""

from thalweg.data.batch import Batch

__all__ = ["Batch"]
