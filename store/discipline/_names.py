# SPDX-License-Identifier: MIT
"""Functions by name."""

from __future__ import annotations

import re
from collections.abc import Iterable
from fnmatch import translate

import numpy as np
from numpy.typing import NDArray

from ._functions import Functions

_WILD = re.compile(r"[*?\[]")


def is_wild(glob: str) -> bool:
    """Return whether a glob may mean several names."""
    return _WILD.search(glob) is not None


class Names:
    """Finds functions by globs of their names.

    A compiler makes several functions of one, and names them ``NAME.cold``,
    ``NAME.part.0``, ``NAME.constprop.0``: NAME means these as well.
    """

    def __init__(self, functions: Functions) -> None:
        """Take the functions."""
        self._count = len(functions)
        self._by_name: dict[str, list[int]] = {}
        for number, names in enumerate(functions.aliases):
            for name in names:
                self._by_name.setdefault(name, []).append(number)
                base = name.partition(".")[0]
                if base and base != name:
                    self._by_name.setdefault(base, []).append(number)

    def matching(self, globs: Iterable[str]) -> NDArray[np.bool_]:
        """Return which functions any of the globs means, shape (functions,), dtype bool."""
        mask = np.zeros(self._count, bool)
        patterns: list[str] = []
        for glob in globs:
            if is_wild(glob):
                patterns.append(translate(glob))
            else:
                mask[self._by_name.get(glob, [])] = True
        if patterns:
            match = re.compile("|".join(patterns)).match
            for name, numbers in self._by_name.items():
                if match(name):
                    mask[numbers] = True
        return mask
