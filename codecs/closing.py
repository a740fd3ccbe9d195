# SPDX-License-Identifier: MIT
"""What everything that must be closed has in common: it may stand in a ``with``."""

from __future__ import annotations

from abc import ABC, abstractmethod
from types import TracebackType
from typing import Self

__all__ = ["Closing"]


class Closing(ABC):
    """Has a ``close``, which the end of a ``with`` block calls."""

    __slots__ = ()

    @abstractmethod
    def close(self) -> None:
        """Give back what is held. Again is no error."""

    def __enter__(self) -> Self:
        """Return the object itself."""
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close it."""
        self.close()
