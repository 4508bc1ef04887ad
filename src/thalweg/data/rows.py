"""Rows that are made when they are read: one that is asked for, or those of a slice as a list."""

from abc import abstractmethod
from collections.abc import Sequence
from typing import Generic, SupportsIndex, TypeVar, overload

T_co = TypeVar("T_co", covariant=True)


class Rows(Sequence[T_co], Generic[T_co]):
    """A sequence by its length and the row at a place, counted from 0."""

    __slots__ = ()

    @abstractmethod
    def row(self, place: int) -> T_co:
        """The row at a place that there is."""

    @overload
    def __getitem__(self, index: SupportsIndex) -> T_co: ...
    @overload
    def __getitem__(self, index: slice) -> list[T_co]: ...
    def __getitem__(self, index: SupportsIndex | slice) -> T_co | list[T_co]:
        places = range(len(self))[index if isinstance(index, slice) else index.__index__()]
        return self.row(places) if isinstance(places, int) else list(map(self.row, places))
