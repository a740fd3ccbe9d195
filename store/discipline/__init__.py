# SPDX-License-Identifier: MIT
"""The discipline: what keeps a page-in from needing a page that is not there."""

from ._lock import LockTable, StoreLock

__all__ = ["LockTable", "StoreLock"]
