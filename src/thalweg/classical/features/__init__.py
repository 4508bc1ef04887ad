"""Features by rule or learned without targets: images or vectors in, one row per sample out."""

from thalweg.classical.features.colour_histogram import colour_histogram
from thalweg.classical.features.concatenation import concatenation
from thalweg.classical.features.hog import hog
from thalweg.classical.features.standardisation import Standardisation, standardisation
from thalweg.classical.features.visual_words import VisualWords, visual_words
from thalweg.classical.features.whitening import Whitening, whitening

__all__ = [
    "Standardisation",
    "VisualWords",
    "Whitening",
    "colour_histogram",
    "concatenation",
    "hog",
    "standardisation",
    "visual_words",
    "whitening",
]
