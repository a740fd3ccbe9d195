# SPDX-License-Identifier: MIT
"""From a URL to the store or file that it names."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from urllib.parse import SplitResult, parse_qsl, urlsplit

from pagestep.codecs.errors import InvalidArgument, Unsupported
from pagestep.store._size import parse_size

from ._protocol import BackingStore, RemoteFile
from ._ram import RamStore

__all__ = ["StoreUrl", "open_url", "parse_url", "shown_url"]

_RAM_SIZE = "1GiB"


def shown_url(url: str) -> str:
    """Return a URL as it was written, but without its password, for messages.

    >>> shown_url("redis://me:secret@host/0")
    'redis://me@host/0'
    """
    netloc = urlsplit(url).netloc
    user, at, host = netloc.rpartition("@")
    return url.replace(f"//{netloc}", f"//{user.partition(':')[0]}{at}{host}", 1)


@dataclass(frozen=True)
class StoreUrl:
    """A URL in parts.

    Attributes:
        text: The whole, as it was given.
        parts: What it consists of.
        options: What stands behind ``?``.
        deadline_s: Within how many seconds a call of the store must end.
    """

    text: str
    parts: SplitResult
    options: dict[str, str]
    deadline_s: float

    @property
    def shown(self) -> str:
        """The URL without a password, for messages."""
        return shown_url(self.text)

    def only(self, *known: str) -> dict[str, str]:
        """Return the options.

        Raises:
            InvalidArgument: There is one that is not known.
        """
        for name in self.options:
            if name not in known:
                raise InvalidArgument(
                    f"{self.shown}: the option {name} is not known here: "
                    f"{', '.join(known) or 'none'} would be"
                )
        return self.options


def parse_url(text: str, deadline_s: float) -> StoreUrl:
    """Take a URL apart.

    Raises:
        InvalidArgument: It is no URL.
    """
    try:
        parts = urlsplit(text)
    except ValueError as error:
        raise InvalidArgument(f"{text!r} is no URL: {error}") from None
    if not parts.scheme:
        raise InvalidArgument(f"{text!r} is no URL: it begins with none of {', '.join(_SCHEMES)}")
    # What follows the name of a file elsewhere is that file's.
    options = {} if parts.scheme.startswith("fsspec") else dict(parse_qsl(parts.query))
    return StoreUrl(text, parts, options, deadline_s)


def open_url(text: str, deadline_s: float) -> BackingStore | RemoteFile:
    """Open what a URL names, in this process.

    Args:
        text: ``ram:?size=…``; ``redis://…``, ``rediss://…``, ``redis+cluster://…``,
            ``rediss+cluster://…``, ``unix://…``; ``python:package.module:factory?option=…``,
            which calls it with the options as named texts; ``fsspec+…`` before a URL of a
            file that fsspec opens.
        deadline_s: Within how many seconds each of its calls must end.

    Raises:
        InvalidArgument: The URL names nothing that is known.
        Unsupported: A package that it needs is not installed.
        PageStepError: What it names cannot be opened.
    """
    url = parse_url(text, deadline_s)
    scheme = url.parts.scheme
    opener = _SCHEMES.get("fsspec+" if scheme.startswith("fsspec+") else scheme)
    if opener is None:
        raise InvalidArgument(
            f"{url.shown}: no store is known by {scheme!r}: use one of {', '.join(_SCHEMES)}"
        )
    return opener(url)


def _open_ram(url: StoreUrl) -> BackingStore:
    return RamStore(parse_size(url.only("size").get("size", _RAM_SIZE), "size"))


def _part(url: StoreUrl, module: str, package: str) -> Any:
    """Import a module of ours that needs a package of others."""
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        raise Unsupported(
            f"{url.shown}: {error}: install it with `pip install 'pagestep[{package}]'`"
        ) from None


def _open_redis(url: StoreUrl) -> BackingStore:
    store: BackingStore = _part(url, "pagestep.store.pager._redis", "redis").open_redis(url)
    return store


def _open_fsspec(url: StoreUrl) -> RemoteFile:
    file: RemoteFile = _part(url, "pagestep.store.pager._fsspec", "fsspec").open_fsspec(url)
    return file


def _open_python(url: StoreUrl) -> BackingStore | RemoteFile:
    module, _, name = url.parts.path.partition(":")
    try:
        factory: Any = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise InvalidArgument(f"{url.shown}: {error}: say python:package.module:factory") from None
    store: Any = factory(**url.options)
    if not isinstance(store, BackingStore | RemoteFile):
        raise InvalidArgument(
            f"{url.shown}: gives a {type(store).__name__}, which lacks what a BackingStore must "
            "have"
        )
    return store


_SCHEMES: dict[str, Callable[[StoreUrl], BackingStore | RemoteFile]] = {
    "ram": _open_ram,
    **dict.fromkeys(("redis", "rediss", "redis+cluster", "rediss+cluster", "unix"), _open_redis),
    "python": _open_python,
    "fsspec+": _open_fsspec,
}
