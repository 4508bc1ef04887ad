"""What a run is, once it has been measured. Knows nothing of torch."""

from thalweg.record.history import History, Series
from thalweg.record.quantities import QUANTITIES, Quantity, quantity_called

__all__ = ["QUANTITIES", "History", "Quantity", "Series", "quantity_called"]
