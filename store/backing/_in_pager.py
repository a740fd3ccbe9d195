# SPDX-License-Identifier: MIT
"""Stores written in Python, Redis among them: in a pager's process."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any
from urllib.parse import SplitResult, urlencode
from weakref import finalize

from pagestep.store._binding import ffi, lib
from pagestep.store.pager import Pager

from ._options import TIMEOUT_MS, Options
from ._swap import swap_shape

if TYPE_CHECKING:
    from ._url import Backed

__all__ = ["PAGER_SCHEMES", "KeptPager", "open_in_pager"]

_REDIS = ("redis", "rediss", "redis+cluster", "rediss+cluster", "unix")
PAGER_SCHEMES = (*_REDIS, "python")
_SHARE = 0.4  # of what any call waits: the pager is asked again before that is over


class KeptPager:
    """Ends a pager when its last user, a store, has gone.

    Attributes:
        pager: The pager.
    """

    def __init__(self, pager: Pager) -> None:
        """Take over a pager."""
        self.pager = pager
        finalize(self, pager.close)


def open_in_pager(url: SplitResult, options: Options, backed: Backed) -> Any:
    """Return a ``struct pgs_blobs *`` of a store in a process of its own.

    Pages of another image, or coded otherwise, are not found under the same Redis namespace:
    what they are is part of its name.

    Raises:
        PageStepError: The store cannot be opened there.
    """
    given = options.others()
    if url.scheme in _REDIS and given.get("namespace"):
        shape = hashlib.sha256(bytes(ffi.buffer(swap_shape(backed)))).hexdigest()
        given["namespace"] += f".{shape[:16]}"
    pager = Pager(
        url._replace(query=urlencode(given)).geturl(),
        deadline_s=options.milliseconds("timeout", TIMEOUT_MS) / 1000 * _SHARE,
        max_blob=backed.page_size + lib.PGS_BLOB_EXTRA_MAX,
    )
    backed.kept.append(KeptPager(pager))
    return pager.blobs()
