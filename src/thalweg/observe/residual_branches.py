"""Follow what a layer gives to the sum that it is added into: a residual branch, an adapter."""

from typing import NamedTuple

from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef


class Product(NamedTuple):
    """One call of a linear map or convolution."""

    key: tuple[str, str, object]
    place: str
    variance: Tensor  # of what it gave


class ResidualBranches:
    """The products that may yet be added to something, by the memory of their results.

    A weak reference to a storage keeps its identity from being used again, not its numbers.
    """

    def __init__(self) -> None:
        self._products: dict[int, tuple[StorageWeakRef, Product]] = {}

    def note(self, result: Tensor, product: Product) -> None:
        """Note the result of a product, or of a copy or a scaling of its result."""
        storage = StorageWeakRef(result.untyped_storage())
        self._products[int(storage.cdata)] = storage, product

    def follow(self, source: Tensor, result: Tensor) -> None:
        """Note a copy, or a multiple, of a tensor that may be a product's result."""
        product = self._find(source)
        if product is not None:
            self.note(result, product)

    def pop(self, tensor: Tensor) -> Product | None:
        """The product that gave this tensor; it is forgotten, since the tensor is added now."""
        product = self._find(tensor)
        if product is not None:
            del self._products[int(tensor.untyped_storage()._cdata)]
        return product

    def _find(self, tensor: Tensor) -> Product | None:
        entry = self._products.get(int(tensor.untyped_storage()._cdata))
        return None if entry is None else entry[1]
