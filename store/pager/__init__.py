# SPDX-License-Identifier: MIT
"""The external pager: a store or a file in a process of its own, and what it can open."""

from ._client import Pager
from ._protocol import BackingStore, RemoteFile
from ._url import open_url, shown_url

__all__ = ["BackingStore", "Pager", "RemoteFile", "open_url", "shown_url"]
