"""The record of a run: quantities, history, the run folder with its reader and writer. No torch."""

from thalweg.record.history import History, Series
from thalweg.record.quantities import QUANTITIES, quantity_called
from thalweg.record.quantity import Quantity
from thalweg.record.rows import Event, Picture, PredictionRow, RunSummary
from thalweg.record.run_folder import claim_run_folder
from thalweg.record.run_list import list_runs
from thalweg.record.run_reader import RunReader
from thalweg.record.run_writer import RunWriter

__all__ = [
    "QUANTITIES",
    "Event",
    "History",
    "Picture",
    "PredictionRow",
    "Quantity",
    "RunReader",
    "RunSummary",
    "RunWriter",
    "Series",
    "claim_run_folder",
    "list_runs",
    "quantity_called",
]
