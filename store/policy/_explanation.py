# SPDX-License-Identifier: MIT
"""What is told of why something has its level."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

__all__ = ["Decision", "Explanation", "OwnerOnPage", "PageExplained", "Wish"]


@dataclass(frozen=True, slots=True)
class Wish:
    """What a rule, a tag, or the default would have.

    Attributes:
        value: As a rule would write it.
        by: "rule", "tag", "level" (what follows from the level) or "default".
        file: The rule's, or None.
        line: The rule's, or None.
        tag: The tag as it is in the source, or None.
    """

    value: str
    by: str
    file: str | None = None
    line: int | None = None
    tag: str | None = None

    def __str__(self) -> str:
        """Say who wants what."""
        who = self.by
        if self.file is not None:
            who = f"rule {self.file}:{self.line}"
        elif self.tag is not None:
            who = f"tag {self.tag}"
        return f"{self.value} by {who}"


@dataclass(frozen=True, slots=True)
class Decision:
    """What was decided for one key of one owner.

    Attributes:
        key: "level", "lifecycle", "codec" or "lowest_tier".
        wish: What holds.
        beat: What else was asked for, the next best first.
    """

    key: str
    wish: Wish
    beat: tuple[Wish, ...]


@dataclass(frozen=True, slots=True)
class OwnerOnPage:
    """An owner of bytes of a page.

    Attributes:
        name: A symbol's, or a section's.
        address: Of its first byte on the page.
        size: Its bytes on the page.
        level: What it asks for.
        wish: Who says so.
    """

    name: str
    address: int
    size: int
    level: str
    wish: str


@dataclass(frozen=True, slots=True)
class PageExplained:
    """A page, and who made it what it is.

    Attributes:
        page: Its number.
        level: What it got.
        lifecycle: "once" or "always".
        codec: What codes it in a ROM image.
        lowest_tier: The deepest tier that it may sink to.
        forced_by: The owner that made it more careful than others asked for, or None.
        owners: All its owners, by address.
    """

    page: int
    level: str
    lifecycle: str
    codec: str
    lowest_tier: str
    forced_by: str | None
    owners: tuple[OwnerOnPage, ...]


@dataclass(frozen=True, slots=True)
class Explanation:
    """Why something has its level.

    Attributes:
        where: What was asked for.
        kind: "page", "address", "symbol" or "section".
        address: Virtual address of its first byte.
        size: In bytes.
        owner: Whose decisions are told: the symbol's or section's; of a page, the owner's that
            made it what it is. None where nobody owns a byte of it.
        decisions: For each key what was decided for the owner, and what it beat.
        first_page: The first page that it lies on.
        page_count: How many pages it lies on.
        levels: How many of them have each level.
        pages: Of these pages the first 16.
        notes: What else there is to know.
    """

    where: str
    kind: str
    address: int
    size: int
    owner: str | None
    decisions: tuple[Decision, ...]
    first_page: int
    page_count: int
    levels: dict[str, int]
    pages: tuple[PageExplained, ...]
    notes: tuple[str, ...]

    def facts(self) -> dict[str, Any]:
        """Return it as plain values, for JSON."""
        return {
            **asdict(self),
            "decisions": [
                {"key": each.key, **asdict(each.wish), "beat": [asdict(b) for b in each.beat]}
                for each in self.decisions
            ],
        }
