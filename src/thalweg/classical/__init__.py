"""Models without gradient training: nearest neighbours, least squares, linear classifiers."""

from thalweg.classical.cross_validation import Score, cross_validate, folds, repeated_splits
from thalweg.classical.k_means import Clusters, k_means
from thalweg.classical.least_squares import (
    LeastSquaresFit,
    RidgePath,
    choose_by_folds,
    choose_by_gcv,
    least_squares,
    one_hot,
    penalties,
    ridge,
)
from thalweg.classical.linear import LinearFit, linear_classifier
from thalweg.classical.linear_map import LinearMap
from thalweg.classical.moments import Moments, moments, streamed_moments
from thalweg.classical.nearest_neighbors import (
    ChosenK,
    NearestNeighborClassifier,
    Neighbors,
    choose_k,
    majority_vote,
    nearest_neighbors,
    vote_counts,
)

__all__ = [
    "ChosenK",
    "Clusters",
    "LeastSquaresFit",
    "LinearFit",
    "LinearMap",
    "Moments",
    "NearestNeighborClassifier",
    "Neighbors",
    "RidgePath",
    "Score",
    "choose_by_folds",
    "choose_by_gcv",
    "choose_k",
    "cross_validate",
    "folds",
    "k_means",
    "least_squares",
    "linear_classifier",
    "majority_vote",
    "moments",
    "nearest_neighbors",
    "one_hot",
    "penalties",
    "repeated_splits",
    "ridge",
    "streamed_moments",
    "vote_counts",
]
