# SPDX-License-Identifier: MIT
"""What is found in functions' instructions, one function after another."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

CALL, JUMP = 0, 1


@dataclass(slots=True)
class Found:
    """Lists that readers of code append to; entries of several lists belong together.

    A function that is read has a number, which stands in ``function`` meanwhile.

    Attributes:
        function: The number of the function that is being read.
        sites: Address of each instruction that names its target.
        targets: The address that it names.
        kinds: ``CALL`` or ``JUMP``.
        sources: The function that it belongs to.
        slot_sites: Address of each instruction that takes its target from a place in memory
            that it names.
        slots: The address of that place.
        slot_kinds: ``CALL`` or ``JUMP``.
        slot_sources: The function that it belongs to.
        indirect_sites: Address of each instruction whose target is only known as it runs.
        indirect_kinds: ``CALL`` or ``JUMP``.
        indirect_sources: The function that it belongs to.
        references: Addresses, of code or data, that instructions name other than to go there.
        reference_sites: Address of each such instruction.
        reference_sources: The function that it belongs to.
        per_cpu: Whether the address counts from where a processor's own data begins.
        returns: Functions that may return to their caller by themselves.
        falls: Functions whose last instruction does not end them.
        falls_after_call: Functions that end in a call, and the address called: whether what
            follows is reached depends on whether that returns.
        not_decoded: Functions that hold bytes which are no instructions, and those bytes.
    """

    function: int = 0
    sites: list[int] = field(default_factory=list[int])
    targets: list[int] = field(default_factory=list[int])
    kinds: list[int] = field(default_factory=list[int])
    sources: list[int] = field(default_factory=list[int])
    slot_sites: list[int] = field(default_factory=list[int])
    slots: list[int] = field(default_factory=list[int])
    slot_kinds: list[int] = field(default_factory=list[int])
    slot_sources: list[int] = field(default_factory=list[int])
    indirect_sites: list[int] = field(default_factory=list[int])
    indirect_kinds: list[int] = field(default_factory=list[int])
    indirect_sources: list[int] = field(default_factory=list[int])
    references: list[int] = field(default_factory=list[int])
    reference_sites: list[int] = field(default_factory=list[int])
    reference_sources: list[int] = field(default_factory=list[int])
    per_cpu: list[bool] = field(default_factory=list[bool])
    returns: list[int] = field(default_factory=list[int])
    falls: list[int] = field(default_factory=list[int])
    falls_after_call: list[tuple[int, int]] = field(default_factory=list[tuple[int, int]])
    not_decoded: dict[int, int] = field(default_factory=dict[int, int])

    def transfer(self, site: int, target: int, kind: int) -> None:
        """Note a call or jump to an address."""
        self.sites.append(site)
        self.targets.append(target)
        self.kinds.append(kind)
        self.sources.append(self.function)

    def through_slot(self, site: int, slot: int, kind: int) -> None:
        """Note a call or jump to what an address in memory holds."""
        self.slot_sites.append(site)
        self.slots.append(slot)
        self.slot_kinds.append(kind)
        self.slot_sources.append(self.function)

    def indirect(self, site: int, kind: int) -> None:
        """Note a call or jump to wherever a register says."""
        self.indirect_sites.append(site)
        self.indirect_kinds.append(kind)
        self.indirect_sources.append(self.function)

    def names(self, site: int, address: int, *, per_cpu: bool = False) -> None:
        """Note an address that an instruction forms, reads or writes."""
        self.references.append(address)
        self.reference_sites.append(site)
        self.reference_sources.append(self.function)
        self.per_cpu.append(per_cpu)

    def bad_bytes(self, size: int) -> None:
        """Note bytes that are no instruction."""
        self.not_decoded[self.function] = self.not_decoded.get(self.function, 0) + size

    def end(self, returns: bool, ends: bool, last_call: int | None) -> None:
        """Note how the function ends.

        Args:
            returns: It has an instruction that returns.
            ends: Its last instruction leaves it for good.
            last_call: What its last instruction calls, or None where that is no call.
        """
        if returns:
            self.returns.append(self.function)
        if last_call is not None:
            self.falls_after_call.append((self.function, last_call))
        elif not ends:
            self.falls.append(self.function)


class Reader(Protocol):
    """Reads one function's instructions, of one instruction set."""

    def read(self, code: bytes, start: int, found: Found) -> None:
        """Note what a function does.

        Args:
            code: Its bytes.
            start: The address of the first.
            found: Where to note it.
        """
        ...
