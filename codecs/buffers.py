# SPDX-License-Identifier: MIT
"""The type of what is accepted wherever bytes are wanted."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from typing_extensions import Buffer

__all__ = ["AnyBuffer"]

# NumPy's stubs do not say before Python 3.12 that arrays are buffers.
AnyBuffer: TypeAlias = "Buffer | NDArray[Any]"
