"""Features made by rule or learnt without targets: images or vectors in, one row a sample out."""

from thalweg.classical.features.colour_histogram import colour_histogram
from thalweg.classical.features.concatenate import Standardised, concatenated, standardised
from thalweg.classical.features.hog import hog
from thalweg.classical.features.visual_words import VisualWords, visual_words
from thalweg.classical.features.whitening import Whitening, whitening

__all__ = [
    "Standardised",
    "VisualWords",
    "Whitening",
    "colour_histogram",
    "concatenated",
    "hog",
    "standardised",
    "visual_words",
    "whitening",
]
