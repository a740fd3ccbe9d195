# SPDX-License-Identifier: MIT
"""Stores outside RAM: what one must be able to do, and the process that it runs in."""

from ._pager import Pager
from ._protocol import BackingStore, RemoteFile
from ._url import open_url

__all__ = ["BackingStore", "Pager", "RemoteFile", "open_url"]
