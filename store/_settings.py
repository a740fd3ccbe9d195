# SPDX-License-Identifier: MIT
"""How a store is to run."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

from pagestep.codecs import Codec
from pagestep.codecs.errors import InvalidArgument

from ._binding import lib

__all__ = ["POLICIES", "Settings"]

POLICIES = {
    "s3fifo": lib.PGS_POLICY_S3FIFO,
    "lru": lib.PGS_POLICY_LRU,
    "random": lib.PGS_POLICY_RANDOM,
    "worst": lib.PGS_POLICY_WORST,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """How a store is to run; ``PageStore.open`` says what each of them means."""

    ram: int | str | None = None
    codec: str | Codec = "lz4"
    codec_level: int | None = None
    cold_codec: str | Codec | None = None
    dictionary: bytes = b""
    policy: str = "s3fifo"
    pool_percent: int = 25
    timed: bool = False
    verify: bool = False
    audit: bool = False
    scratch: bool | str | os.PathLike[str] = False
    swap: str | None = None

    def __post_init__(self) -> None:
        """Refuse what is out of range.

        Raises:
            InvalidArgument: Something is.
        """
        if self.policy not in tuple(POLICIES):
            raise InvalidArgument(f"policy is {self.policy!r}: it is one of {', '.join(POLICIES)}")
        if self.scratch is not False and self.swap is not None:
            raise InvalidArgument(
                "changed pages go to one place: give either scratch= or swap=, not both"
            )
        percent: Any = self.pool_percent
        if not isinstance(percent, int) or not 0 <= percent <= 100:
            raise InvalidArgument(f"pool_percent is {percent!r}: it is from 0 to 100")

    def fill(self, params: Any, page_size: int, budget_bytes: int) -> None:
        """Fill in a ``struct pgs_store_params *``."""
        params.page_size = page_size
        params.budget_bytes = budget_bytes
        params.policy = POLICIES[self.policy]
        params.pool_percent = self.pool_percent
        params.flags = (
            (lib.PGS_STORE_TIMED if self.timed else 0)
            | (lib.PGS_STORE_VERIFY if self.verify else 0)
            | (lib.PGS_STORE_AUDIT if self.audit else 0)
        )
