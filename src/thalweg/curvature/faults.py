"""What can stop a measurement of curvature. None of these leaves a trace in the user's model."""

from thalweg.errors import ThalwegError


class CurvatureError(ThalwegError, RuntimeError):
    """The curvature of this loss cannot be measured; base class of the reasons below."""


class LossNotDeterministicError(CurvatureError):
    """The same weights and the same batch gave two different losses."""


class LossNotFiniteError(CurvatureError):
    """The loss, or a derivative of it, is NaN or infinite at the present weights."""


class NotTwiceDifferentiableError(CurvatureError):
    """Some operation on the way to the loss has no second derivative in torch."""
