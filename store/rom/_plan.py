# SPDX-License-Identifier: MIT
"""How a ROM image is to be built."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Literal

from pagestep.codecs.errors import InvalidArgument
from pagestep.store._size import parse_size
from pagestep.store.policy import Level, PagePolicy, RuleSet

from ._format import DICT_SIZE_MAX

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    from pagestep.store.trace import Block

DICT_SIZE_MIN: Final = 1 << 10
CODEC_NAMES: Final = ("raw", "lz4", "zstd")

DictionaryUse = Literal["compressed", "in-place", "none"]


@dataclass(frozen=True, slots=True, kw_only=True)
class RomPlan:
    """How a ROM image is to be built.

    Attributes:
        codecs: What the target can decode, of "raw", "lz4" and "zstd".
        levels: Of segments by name; the others are NORMAL. A page that several segments
            share has the most careful of their levels. Or rules, or what they make of the image,
            which may name a codec beside.
        in_place: Segments whose pages are stored raw and aligned, to be used where they lie.
        leave_out: Segments whose pages are not stored, if no other segment needs them.
        trace: Blocks of a trace of the image, gone through once for each build: what it
            touches first is laid out first, and weighs by use where size is limited.
        size_max: Bytes that the ROM image may have, an int or text such as "2MiB"; None: the
            levels alone decide.
        dictionary: "compressed", so that it needs RAM when it is opened; "in-place", so that
            it needs none; "none".
        dictionary_size: Bytes at most; None: what the image's size makes best.
        align: The ROM image's size is a multiple of this, such as an erase block.
        erased_value: What padding is filled with.
        key: An Ed25519 private key to sign the header with.
    """

    codecs: Sequence[str] = CODEC_NAMES
    levels: Mapping[str, Level] | RuleSet | PagePolicy = field(default_factory=dict[str, Level])
    in_place: Sequence[str] = ()
    leave_out: Sequence[str] = ()
    trace: Iterable[Block] | None = None
    size_max: int | str | None = None
    dictionary: DictionaryUse = "compressed"
    dictionary_size: int | str | None = None
    align: int | str = 1
    erased_value: int = 0xFF
    key: Ed25519PrivateKey | None = None

    def __post_init__(self) -> None:
        """Refuse what cannot be.

        Raises:
            InvalidArgument: Something is out of range, or goes with nothing else.
        """
        self._check_names()
        self._check_sizes()

    def _check_names(self) -> None:
        for name in ("codecs", "in_place", "leave_out"):
            if isinstance(getattr(self, name), str):
                raise InvalidArgument(f"{name} {getattr(self, name)!r}: must be a list of names")
        for name, level in self.segment_levels.items():
            if level not in tuple(Level):
                raise InvalidArgument(f"level {level!r} of {name}: not a pagestep.Level")
        both = sorted(set(self.in_place) & set(self.leave_out))
        if both:
            raise InvalidArgument(f"{both[0]} cannot be used in place and left out")
        unknown = [name for name in self.codecs if name not in CODEC_NAMES]
        if unknown or not self.codecs:
            what = f"codec {unknown[0]!r}: not one" if unknown else "no codec: give one or more"
            raise InvalidArgument(f"{what} of {', '.join(CODEC_NAMES)}")
        if self.dictionary not in ("compressed", "in-place", "none"):
            raise InvalidArgument(
                f"dictionary {self.dictionary!r}: not one of compressed, in-place, none"
            )

    def _check_sizes(self) -> None:
        if self.size_max is not None:
            parse_size(self.size_max, "size_max")
        if self.dictionary_size is not None:
            if self.dictionary == "none":
                raise InvalidArgument("a size for a dictionary, and dictionary 'none': give one")
            size = parse_size(self.dictionary_size, "dictionary size")
            if not DICT_SIZE_MIN <= size <= DICT_SIZE_MAX:
                raise InvalidArgument(f"dictionary size {size}: must be from 1 KiB to 1 MiB")
        align = parse_size(self.align, "align")
        if align < 1 or align & (align - 1):
            raise InvalidArgument(f"align {align}: must be a power of two")
        if not 0 <= self.erased_value <= 0xFF:
            raise InvalidArgument(f"erased value {self.erased_value}: must be a byte, 0 to 255")

    def padded(self, size: int) -> int:
        """Return a size in bytes, rounded up to a multiple of ``align``."""
        align = parse_size(self.align, "align")
        return -(-size // align) * align

    @property
    def segment_levels(self) -> Mapping[str, Level]:
        """Levels of segments by name; none where rules say them."""
        return {} if isinstance(self.levels, RuleSet | PagePolicy) else self.levels
