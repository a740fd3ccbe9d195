# SPDX-License-Identifier: MIT
"""What is told of why something has its level."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

__all__ = ["Asked", "Decision", "Explanation", "Forcing", "OwnerOnPage", "PageExplained", "Wish"]


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
class Asked:
    """What some owners of a run of bytes ask for.

    Attributes:
        wish: The level, and who says so.
        owners: How many they are; what a section holds beside its symbols counts as one.
        bytes: Their bytes in the run.
        pages: Pages of the run on which they lie.
    """

    wish: Wish
    owners: int
    bytes: int
    pages: int


@dataclass(frozen=True, slots=True)
class Forcing:
    """An owner that makes pages more careful than most of a run's bytes ask.

    Attributes:
        owner: A symbol's name, or a section's.
        wish: The level, and who says so.
        pages: How many pages it makes so.
    """

    owner: str
    wish: Wish
    pages: int


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
        owner: Whose decisions are told: the symbol's or section's, of which these are what most
            of its bytes get; of a page, the owner's that made it what it is. None where nobody
            owns a byte of it.
        decisions: For each key what was decided for the owner, and what it beat.
        first_page: The first page that it lies on.
        page_count: How many pages it lies on.
        levels: How many of them have each level.
        pages: Of these pages the first 16.
        asked: Who asks for which level in it, the most bytes first.
        forced_pages: Of its pages, those that are more careful than most of its bytes ask.
        forcing: The first 16 owners that make them so, the most pages first.
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
    asked: tuple[Asked, ...]
    forced_pages: int
    forcing: tuple[Forcing, ...]
    notes: tuple[str, ...]

    def facts(self) -> dict[str, Any]:
        """Return it as plain values, for JSON."""
        return {
            **asdict(self),
            "decisions": [
                {"key": each.key, **asdict(each.wish), "beat": [asdict(b) for b in each.beat]}
                for each in self.decisions
            ],
            "asked": [
                {
                    **asdict(each.wish),
                    "owners": each.owners,
                    "bytes": each.bytes,
                    "pages": each.pages,
                }
                for each in self.asked
            ],
            "forcing": [
                {"owner": each.owner, **asdict(each.wish), "pages": each.pages}
                for each in self.forcing
            ],
        }
