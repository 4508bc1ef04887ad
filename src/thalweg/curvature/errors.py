"""Errors that stop a measurement of curvature; the user's model stays as it was."""

from thalweg.errors import ThalwegError


class CurvatureError(ThalwegError, RuntimeError):
    """The curvature of this loss cannot be measured; base class of the errors below."""


class LossNotDeterministicError(CurvatureError):
    """The same weights and the same batch gave two different losses."""


class LossNotFiniteError(CurvatureError):
    """The loss, or a derivative of it, is NaN or infinite at the present weights."""


class NotTwiceDifferentiableError(CurvatureError):
    """Some operation before the loss has no second derivative in torch."""
