# SPDX-License-Identifier: MIT
"""Machine code: what a function's instructions call, jump to and take the address of."""

from ._found import CALL, JUMP, Found, Reader
from ._reader import CODE_ARCHES, open_reader

__all__ = ["CALL", "CODE_ARCHES", "JUMP", "Found", "Reader", "open_reader"]
