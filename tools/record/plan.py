# SPDX-License-Identifier: MIT
"""What the recorder is to watch, found among a kernel's symbols."""

from __future__ import annotations

from guest import CannotRecord

MARKS = ("start_kernel", "free_initmem", "run_init_process")
MARK_PHASE = "__x64_sys_sethostname"
# The first of each that the kernel has; names changed between versions.
SOFTIRQ = ("handle_softirqs", "__do_softirq")
TO_USER = ("exit_to_user_mode_prepare", "exit_to_user_mode_loop")
SYSTEM_CALLS = {"asm_int80_emulation"}
INTERRUPTS = ("asm_sysvec_", "asm_common_interrupt", "asm_spurious_interrupt", "asm_exc_nmi")
SWITCH_SIZE = 256

Symbols = list[tuple[int, str]]
Addresses = dict[str, int]


def read_symbols(kallsyms: bytes) -> Symbols:
    """Return the address and name of every symbol of the kernel itself, by address."""
    lines = [line.split() for line in kallsyms.decode().splitlines()]
    # A module's symbols have its name as a fourth field, per-CPU ones an offset as address.
    found = ((int(fields[0], 16), fields[2]) for fields in lines if len(fields) == 3)
    return sorted(symbol for symbol in found if symbol[0] >> 63)


def make_plan(symbols: Symbols, image_size: int) -> str:
    """Return the plugin's plan, in the form that ``plugin.c`` describes.

    Args:
        symbols: The kernel's symbols.
        image_size: Bytes of the image, from ``_text`` on.

    Raises:
        CannotRecord: The kernel lacks a symbol that is needed.
    """
    addresses = {name: address for address, name in symbols}
    text, switch = _first(addresses, "_text"), _first(addresses, "__switch_to_asm")
    low = _first(addresses, "__irqentry_text_start")
    high = _first(addresses, "__irqentry_text_end")
    lines = [
        ("image", text, text + image_size),
        ("iret", _first(addresses, "__entry_text_start"), _first(addresses, "__entry_text_end")),
        ("switch", switch, switch + SWITCH_SIZE),
        ("softirq", _first(addresses, *SOFTIRQ), 0),
        ("to_user", _first(addresses, *TO_USER), 0),
        ("preempt", _first(addresses, "preempt_schedule_irq"), 0),
        ("new_task", _first(addresses, "ret_from_fork_asm", "ret_from_fork"), 0),
        *(("mark", _first(addresses, name), number) for number, name in enumerate(MARKS)),
        ("phase", _first(addresses, MARK_PHASE), len(MARKS)),
    ]
    entries = {
        address: "interrupt" if name.startswith(INTERRUPTS) else "fault"
        for address, name in symbols
        if name.startswith("asm_")
        and (low <= address < high or name.startswith("asm_exc_nmi"))
        and name not in SYSTEM_CALLS
    }
    lines += [(kind, address, 0) for address, kind in entries.items()]
    return "".join(f"{word} {first:x} {second:x}\n" for word, first, second in lines)


def _first(addresses: Addresses, *names: str) -> int:
    for name in names:
        if name in addresses:
            return addresses[name]
    raise CannotRecord(f"the kernel has no symbol {' or '.join(names)}: see Limits in README.md")
