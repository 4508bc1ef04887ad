"""Files to samples to batches."""

from thalweg.data.augment import Augment
from thalweg.data.batch import Batch
from thalweg.data.batches import Batches
from thalweg.data.cache import CacheEntry, cache_entries, clear_cache, default_cache_dir
from thalweg.data.dataset import DataFacts, Dataset
from thalweg.data.load import load_dataset
from thalweg.data.preprocessing import Preprocessing
from thalweg.data.samples import Quarantined

__all__ = [
    "Augment",
    "Batch",
    "Batches",
    "CacheEntry",
    "DataFacts",
    "Dataset",
    "Preprocessing",
    "Quarantined",
    "cache_entries",
    "clear_cache",
    "default_cache_dir",
    "load_dataset",
]
