# SPDX-License-Identifier: MIT
"""Write the rules for Debian's x86 kernel that `pagestep check` can find by itself.

    python tools/debian_rules.py

fetches the kernel, and writes into examples/rules what its closure must have resident
(debian-x86-pinned.toml), and beside that the pages that the recordings in data/ saw in use in
interrupt or fault context (debian-x86-seen.toml), where they were made on that kernel.
"""

from __future__ import annotations

from pathlib import Path

from fetch_kernel import fetch
from pagestep import BadTrace, Image, RuleSet, decide
from pagestep.store.discipline import InterruptPages, check, suggest_rules
from pagestep.store.trace import Trace

ROOT = Path(__file__).resolve().parent.parent
RULES = ROOT / "examples" / "rules"
RECORDINGS = ("x86-cloud-interrupts.trace", "x86-cloud-faults.trace")
SEEN = """\
# What may leave RAM of Debian's x86 cloud kernel {version}, as debian-x86.toml has it; and pages
# that recordings saw in use in interrupt or fault context, on which nothing lies that the check
# finds in the code. They are of this build alone. Written by tools/debian_rules.py.
#
#     pagestep check vmlinuz --rules debian-x86-seen.toml \\
#         --interrupt-trace data/x86-cloud-interrupts.trace \\
#         --interrupt-trace data/x86-cloud-faults.trace

include = ["debian-x86.toml"]
"""


def recorded(image: Image) -> list[InterruptPages]:
    """Return what the recordings saw.

    Raises:
        BadTrace: They are of another kernel.
    """
    found: list[InterruptPages] = []
    for name in RECORDINGS:
        with Trace.open(ROOT / "data" / name) as trace:
            trace.require_image(bytes.fromhex(image.identity), image.page_count, image.page_size)
            found.append(InterruptPages.of(trace, name))
    return found


def main() -> None:
    """Check, and write."""
    path = fetch("x86-cloud")
    with Image.open(path) as image:
        image.name = path.name
        sections = RuleSet.load(RULES / "debian-x86-sections.toml")
        found = check(image, decide(image, sections).level)
        (RULES / "debian-x86-pinned.toml").write_text(suggest_rules(image, found))
        try:
            traces = recorded(image)
        except BadTrace as error:
            print(f"debian-x86-seen.toml stays as it is: {error}")
            return
        level = decide(image, RuleSet.load(RULES / "debian-x86.toml")).level
        found = check(image, level, traces=traces)
        text = SEEN.format(version=path.name.removeprefix("vmlinuz-"))
        for violation in found.trace_violations:
            start = image.address_of(violation.page_no)
            text += f'\n[[rule]]\nlevel = "PINNED"\naddress = [{start:#x}, '
            text += f"{start + image.page_size:#x}]\n"
        (RULES / "debian-x86-seen.toml").write_text(text)


if __name__ == "__main__":
    main()
