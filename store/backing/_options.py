# SPDX-License-Identifier: MIT
"""Options of a backing's URL: ``?size=64MiB&timeout=10``."""

from __future__ import annotations

from collections.abc import Iterable
from urllib.parse import SplitResult, parse_qsl

from pagestep.codecs.errors import InvalidArgument
from pagestep.store._size import parse_size
from pagestep.store.pager import shown_url

__all__ = ["COMMON", "TIMEOUT_MS", "Options"]

# What every scheme takes (docs/BACKINGS.md).
COMMON = ("buffer", "ahead", "timeout")
TIMEOUT_MS = 10_000
_TRUE = {"1": True, "yes": True, "true": True, "0": False, "no": False, "false": False}


class Options:
    """The options of one URL, each read once by who knows what it means.

    Attributes:
        url: The URL for messages, without a password.
    """

    def __init__(self, text: str, url: SplitResult, known: Iterable[str] | None) -> None:
        """Take a URL's options; those that are not known here are all right where it is None.

        Args:
            text: The URL as it was given.
            url: The same, in parts.
            known: What there is beside the options of every scheme.

        Raises:
            InvalidArgument: One is not known to this scheme, or is given twice.
        """
        self.url = shown_url(text)
        names = sorted({*(known or ()), *COMMON})
        self._given: dict[str, str] = {}
        for name, value in parse_qsl(url.query, keep_blank_values=True):
            if known is not None and name not in names:
                raise InvalidArgument(
                    f"{self.url}: there is no option {name!r}: {url.scheme}: takes "
                    f"{', '.join(names)}"
                )
            if name in self._given:
                raise InvalidArgument(f"{self.url}: {name} is given twice; leave one out")
            self._given[name] = value

    def others(self) -> dict[str, str]:
        """Return what is not every scheme's."""
        return {name: value for name, value in self._given.items() if name not in COMMON}

    def text(self, name: str) -> str | None:
        """Return an option as it stands, or None where it is not given."""
        return self._given.get(name)

    def size(self, name: str, default: int) -> int:
        """Return an option in bytes; ``"64MiB"`` and the like.

        Raises:
            InvalidArgument: It is no size.
        """
        value = self._given.get(name)
        return default if value is None else parse_size(value, f"{self.url}: {name}")

    def flag(self, name: str) -> bool:
        """Return an option that is 1 or 0, yes or no; no where it is not given.

        Raises:
            InvalidArgument: It is something else.
        """
        value = self._given.get(name, "0")
        if value.lower() not in _TRUE:
            raise InvalidArgument(f"{self.url}: {name} is {value!r}: it is 1 or 0")
        return _TRUE[value.lower()]

    def count(self, name: str, default: int, low: int, high: int) -> int:
        """Return an option that is a whole number.

        Raises:
            InvalidArgument: It is none, or not from ``low`` to ``high``.
        """
        value = self._given.get(name)
        if value is None:
            return default
        if not value.isascii() or not value.isdigit() or not low <= int(value) <= high:
            raise InvalidArgument(
                f"{self.url}: {name} is {value!r}: it is a whole number from {low} to {high}"
            )
        return int(value)

    def milliseconds(self, name: str, default: int) -> int:
        """Return an option in seconds, which may have a fraction, in milliseconds.

        Raises:
            InvalidArgument: It is no time from a millisecond to an hour.
        """
        value = self._given.get(name)
        try:
            found = default if value is None else round(float(value) * 1000)
        except (ValueError, OverflowError):
            found = 0
        if not 1 <= found <= 3_600_000:
            raise InvalidArgument(
                f"{self.url}: {name} is {value!r}: it is seconds, from 0.001 to 3600"
            )
        return found
