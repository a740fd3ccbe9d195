# SPDX-License-Identifier: MIT
"""Arrays whose memory is a map."""

from __future__ import annotations

from typing import Any, Self

import numpy as np
import numpy.typing as npt
from typing_extensions import override

from pagestep.codecs.errors import InvalidArgument

from ._mapping import Mapping

__all__ = ["MappedArray"]


class MappedArray(np.ndarray[Any, np.dtype[Any]]):
    """An array whose memory is a map. Views of it are so too; copies have memory of their own."""

    _mapping: Mapping | None = None

    @classmethod
    def over(cls, memory: memoryview, item: np.dtype[Any], mapping: Mapping) -> Self:
        """Return an array of a map's memory."""
        array = np.frombuffer(memory, item).view(cls)
        array._mapping = mapping
        return array

    @override
    def __array_finalize__(self, obj: npt.NDArray[Any] | None) -> None:
        """Take the mapping over where this is a view of a mapped array."""
        found = getattr(obj, "_mapping", None)
        if found is not None and obj is not None and np.may_share_memory(self, obj):
            self._mapping = found

    @override
    def __array_wrap__(
        self,
        array: npt.NDArray[Any],
        context: Any = None,
        return_scalar: bool = False,
    ) -> Any:
        """Return what was computed as a plain array, but for what was written into a map."""
        if array is self:
            return array
        if return_scalar or array.shape == ():
            return array[()]
        return array.view(np.ndarray)

    @override
    def __getitem__(self, index: Any) -> Any:
        """Return a view of the map, or a plain copy, as numpy has it."""
        found = super().__getitem__(index)
        if isinstance(found, MappedArray) and found._mapping is None:
            return found.view(np.ndarray)
        return found

    @property
    def mapping(self) -> Mapping:
        """The map whose memory this is.

        Raises:
            InvalidArgument: It is a copy, in memory of its own.
        """
        if self._mapping is None:
            raise InvalidArgument("this array is a copy, in memory of its own: it has no mapping")
        return self._mapping
