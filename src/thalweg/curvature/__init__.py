"""Curvature of a loss: its Hessian's products, eigenvalues, trace and density, with error bounds.

`Surface` borrows a model and gives its loss as a function of one weight vector; `hessian` and
`gauss_newton` multiply with that function's second derivative; `lanczos` reads eigenvalues off
such products; the rest reads meaning off the eigenvalues.
"""

from thalweg.curvature.density import Density, density
from thalweg.curvature.faults import (
    CurvatureError,
    LossNotDeterministicError,
    LossNotFiniteError,
    NotTwiceDifferentiableError,
)
from thalweg.curvature.lanczos import Krylov, lanczos
from thalweg.curvature.operators import Operator, dense, from_matrix
from thalweg.curvature.products import gauss_newton, hessian
from thalweg.curvature.spectrum import Spectrum, spectrum
from thalweg.curvature.surface import Surface
from thalweg.curvature.trace import Trace, trace

__all__ = [
    "CurvatureError",
    "Density",
    "Krylov",
    "LossNotDeterministicError",
    "LossNotFiniteError",
    "NotTwiceDifferentiableError",
    "Operator",
    "Spectrum",
    "Surface",
    "Trace",
    "dense",
    "density",
    "from_matrix",
    "gauss_newton",
    "hessian",
    "lanczos",
    "spectrum",
    "trace",
]
