"""Curvature of a loss: its Hessian's products, eigenvalues, trace and density, with error bounds.

`Surface` borrows a model and gives its loss as a function of one weight vector; `hessian` and
`gauss_newton` multiply with that function's second derivative; `lanczos` computes eigenvalues from
such products; the rest interprets the eigenvalues.
"""

from thalweg.curvature.critical_point import CriticalPoint, critical_point
from thalweg.curvature.density import Density, density
from thalweg.curvature.errors import (
    CurvatureError,
    LossNotDeterministicError,
    LossNotFiniteError,
    NotTwiceDifferentiableError,
)
from thalweg.curvature.escape import Escape, escape
from thalweg.curvature.figures import (
    as_svg,
    draw,
    landscape_figure,
    spectrum_figure,
)
from thalweg.curvature.gradient_noise import GradientNoise, gradient_noise
from thalweg.curvature.lanczos import Krylov, lanczos
from thalweg.curvature.landscape import (
    Landscape,
    filter_normalised_direction,
    interpolation,
    landscape,
    principal_directions,
)
from thalweg.curvature.operators import Operator, dense_matrix, matrix_operator
from thalweg.curvature.products import gauss_newton, hessian
from thalweg.curvature.sharpness import (
    EdgeOfStability,
    Sharpness,
    WorstCase,
    adam_threshold,
    edge_of_stability,
    sgd_threshold,
    sharpness,
    worst_case,
)
from thalweg.curvature.spectrum import Spectrum, spectrum
from thalweg.curvature.stall import Stall, stall
from thalweg.curvature.surface import Surface
from thalweg.curvature.trace import Trace, trace

__all__ = [
    "CriticalPoint",
    "CurvatureError",
    "Density",
    "EdgeOfStability",
    "Escape",
    "GradientNoise",
    "Krylov",
    "Landscape",
    "LossNotDeterministicError",
    "LossNotFiniteError",
    "NotTwiceDifferentiableError",
    "Operator",
    "Sharpness",
    "Spectrum",
    "Stall",
    "Surface",
    "Trace",
    "WorstCase",
    "adam_threshold",
    "as_svg",
    "critical_point",
    "dense_matrix",
    "density",
    "draw",
    "edge_of_stability",
    "escape",
    "filter_normalised_direction",
    "gauss_newton",
    "gradient_noise",
    "hessian",
    "interpolation",
    "lanczos",
    "landscape",
    "landscape_figure",
    "matrix_operator",
    "principal_directions",
    "sgd_threshold",
    "sharpness",
    "spectrum",
    "spectrum_figure",
    "stall",
    "trace",
    "worst_case",
]
