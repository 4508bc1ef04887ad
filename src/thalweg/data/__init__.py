"""Files to samples to batches."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from thalweg.data.batch import Batch
    from thalweg.data.batches import Batches
    from thalweg.data.caveat import Caveat
    from thalweg.data.dataset import Dataset
    from thalweg.data.images.augment import Augment
    from thalweg.data.images.cache import CacheEntry, cache_entries, clear_cache, default_cache_dir
    from thalweg.data.load import load_dataset
    from thalweg.data.modality import Modality, Preprocessing
    from thalweg.data.samples import Quarantined
    from thalweg.recipes.facts import DataFacts

_HOME = {
    "Augment": "images.augment",
    "Batch": "batch",
    "Batches": "batches",
    "CacheEntry": "images.cache",
    "Caveat": "caveat",
    "DataFacts": "dataset",
    "Dataset": "dataset",
    "Modality": "modality",
    "Preprocessing": "modality",
    "Quarantined": "samples",
    "cache_entries": "images.cache",
    "clear_cache": "images.cache",
    "default_cache_dir": "images.cache",
    "load_dataset": "load",
}
__all__ = [
    "Augment",
    "Batch",
    "Batches",
    "CacheEntry",
    "Caveat",
    "DataFacts",
    "Dataset",
    "Modality",
    "Preprocessing",
    "Quarantined",
    "cache_entries",
    "clear_cache",
    "default_cache_dir",
    "load_dataset",
]


def __getattr__(name: str) -> Any:
    """Load a public name when it is first used: looking at the cache needs no torch."""
    if name not in _HOME:
        raise AttributeError(f"module 'thalweg.data' has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(f"thalweg.data.{_HOME[name]}"), name)
    return value
