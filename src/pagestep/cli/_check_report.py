# SPDX-License-Identifier: MIT
"""What ``pagestep check`` says: as facts for JSON, and to people."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pagestep import Image, Level, show_size
from pagestep.store.discipline import (
    Check,
    DataViolation,
    Functions,
    Hop,
    How,
    Named,
    Violation,
)

from ._output import console, table

__all__ = ["check_facts", "show_check"]

_GROUPS_SHOWN, _FUNCTIONS_SHOWN, _NAMES_SHOWN = 8, 4, 20
_SHARES = {
    "text": "all functions",
    "closure": "reached by calls",
    "trace": "seen in traces",
    "joined": "both together",
    "pinned": "PINNED",
}
_DATA_PAGES = {
    "named": "named by the closure",
    "traced": "seen in traces",
    "joined": "both together",
}
_OF_TRACES = ("trace", "traced", "joined")
_NAMES = "NAMES"  # how a path of a report goes on in data


# Facts


def check_facts(
    image: Image, level: NDArray[np.uint8], found: Check, *, with_may_fault: bool
) -> dict[str, Any]:
    """Return what JSON says of a check."""
    functions = found.graph.functions
    may_fault = np.flatnonzero(found.may_fault).tolist()
    return {
        "image": image.name,
        "ok": found.ok,
        "arch": image.arch,
        "identity": image.identity,
        "cached": found.cached,
        "functions": len(functions),
        "unsized_functions": functions.unsized,
        "edges": len(found.graph.edges),
        "outside_calls": found.graph.outside,
        "not_decoded_bytes": found.graph.not_decoded_bytes,
        "indirect_calls": len(found.graph.indirect_sites),
        "roots": {
            what: [functions.names[number] for number in numbers]
            for what, numbers in found.roots.items()
        },
        "cuts_met": [functions.names[number] for number in found.cuts_met],
        "shares": {
            name: {"functions": share.functions, "bytes": share.bytes, "pages": share.pages}
            for name, share in found.shares.items()
        },
        "data_pages": asdict(found.data_pages),
        "undeclared_calls": len(found.undeclared),
        "undeclared": _undeclared(found),
        "violations": [_violation(functions, each, level) for each in found.violations],
        "data_violations": [
            _data_violation(functions, each, level) for each in found.data_violations
        ],
        "marked_violations": [_violation(functions, each, level) for each in found.marked],
        "trace_violations": [
            {
                "page": each.page_no,
                "address": image.address_of(each.page_no),
                "level": Level(int(level[each.page_no])).name,
                "use": each.use,
                "trace": each.trace,
                "functions": [functions.names[number] for number in each.functions],
            }
            for each in found.trace_violations
        ],
        "no_fault_violations": [
            {
                **_violation(functions, each, level),
                "data": [_data(named, level) for named in each.names],
                "ends_marked": each.ends_marked,
            }
            for each in found.no_fault_violations
        ],
        "may_fault_functions": len(may_fault),
        "may_fault": [_named(functions, number) for number in may_fault if with_may_fault],
        "unmatched": list(found.unmatched),
        "notes": list(found.notes),
    }


def _named(functions: Functions, number: int) -> dict[str, Any]:
    return {"function": functions.names[number], "address": int(functions.starts[number])}


def _undeclared(found: Check) -> list[dict[str, Any]]:
    sites: dict[int, list[int]] = {}
    for index in found.undeclared.tolist():
        source = int(found.graph.indirect_sources[index])
        sites.setdefault(source, []).append(int(found.graph.indirect_sites[index]))
    functions = found.graph.functions
    return [{**_named(functions, number), "sites": sites[number]} for number in sorted(sites)]


def _violation(
    functions: Functions, violation: Violation, level: NDArray[np.uint8]
) -> dict[str, Any]:
    pages = list(violation.pages)
    return {
        **_named(functions, violation.function),
        "bytes": int(functions.ends[violation.function] - functions.starts[violation.function]),
        "pages": pages,
        "levels": [Level(int(level[page])).name for page in pages],
        "path": [_hop(functions, hop) for hop in violation.path],
    }


def _data_violation(
    functions: Functions, violation: DataViolation, level: NDArray[np.uint8]
) -> dict[str, Any]:
    return {
        **_data(violation.named, level),
        "path": [_hop(functions, hop) for hop in violation.path],
    }


def _data(named: Named, level: NDArray[np.uint8]) -> dict[str, Any]:
    return {
        "symbol": named.symbol,
        "address": named.address,
        "offset": named.offset,
        "bytes": named.size or None,
        "site": named.site,
        "pages": list(named.pages),
        "levels": [Level(int(level[page])).name for page in named.pages],
    }


def _hop(functions: Functions, hop: Hop) -> dict[str, Any]:
    return {
        **_named(functions, hop.function),
        "how": None if hop.how is None else hop.how.name,
        "site": hop.site or None,
    }


# For people


def show_check(facts: dict[str, Any], *, everything: bool) -> None:
    """Print a report."""
    kept = ", from the cache" if facts["cached"] else ""
    console.print(
        f"{_count(facts['functions'], 'function')} of {facts['arch']}, "
        f"{_count(facts['edges'], 'way')} from one to another{kept}"
    )
    starts = ", ".join(f"{what} {len(names)}" for what, names in facts["roots"].items())
    console.print(f"start: {starts}; not entered: {len(facts['cuts_met'])} that are called")
    _show_doubts(facts)
    has_traces = bool(facts["traces"])
    _show_shares(facts["shares"], has_traces)
    _show_data_pages(facts["data_pages"], has_traces)
    _show_violations(
        "function",
        "not PINNED, and reached from where no fault may happen",
        facts["violations"],
        everything,
    )
    _show_violations(
        "place in data",
        "not PINNED, and named by functions reached from there",
        [_leading_to(each, each) for each in facts["data_violations"]],
        everything,
    )
    _show_violations(
        "function",
        "marked __may_fault, and reached from where no fault may happen",
        facts["marked_violations"],
        everything,
    )
    _show_violations(
        "function",
        "marked __no_fault, and able to touch a page that may fault",
        [
            _leading_to(each, each["data"][0]) if each["data"] else each
            for each in facts["no_fault_violations"]
        ],
        everything,
    )
    _show_trace_violations(facts["trace_violations"], everything)
    if facts["may_fault"]:
        console.print(
            f"\n{_count(facts['may_fault_functions'], 'function')} may touch pageable memory:"
        )
        _show_names([each["function"] for each in facts["may_fault"]], everything)
    if facts["ok"]:
        console.print("\nall that it found is PINNED")


def _show_doubts(facts: dict[str, Any]) -> None:
    """Print what the report cannot know."""
    if facts["undeclared_calls"]:
        console.print(
            f"calls by pointer that are not declared: {facts['undeclared_calls']:,}, in "
            f"{_count(len(facts['undeclared']), 'function')} reached: what they call is not "
            "followed"
        )
    if facts["unsized_functions"]:
        console.print(
            f"functions without a size, each taken to reach up to the next symbol: "
            f"{facts['unsized_functions']:,}"
        )
    if facts["outside_calls"]:
        console.print(f"calls that go to what is no function: {facts['outside_calls']:,}")
    for glob in facts["unmatched"]:
        console.print(f"declared, and not in the image: {glob}")
    for note in facts["notes"]:
        console.print(note)


def _show_shares(shares: dict[str, dict[str, int]], has_traces: bool) -> None:
    whole = shares["text"]

    def part(name: str, what: str) -> str:
        return f"{shares[name][what] / whole[what]:.1%}" if whole[what] else ""

    console.print()
    table(
        "Text",
        ["what", "functions", "bytes", "of bytes", "pages", "of pages"],
        [
            [
                _SHARES[name],
                f"{share['functions']:,}",
                show_size(share["bytes"]),
                part(name, "bytes"),
                f"{share['pages']:,}",
                part(name, "pages"),
            ]
            for name, share in shares.items()
            if has_traces or name not in _OF_TRACES
        ],
    )


def _show_data_pages(pages: dict[str, int | None], has_traces: bool) -> None:
    if pages["named"] is None:
        console.print("data that functions name is left out")
    rows = [
        [_DATA_PAGES[name], f"{count:,}"]
        for name, count in pages.items()
        if count is not None and (has_traces or name not in _OF_TRACES)
    ]
    if pages["joined"]:
        console.print()
        table("Data", ["what", "pages"], rows)


def _count(count: int, what: str) -> str:
    """Return a number and what is counted: a thing, or ``thing in something``."""
    noun, _, rest = what.partition(" ")
    return f"{count:,} {noun}{'' if count == 1 else 's'}{f' {rest}' if rest else ''}"


def _show_violations(
    what: str, fault: str, violations: list[dict[str, Any]], everything: bool
) -> None:
    """Print paths; what one function goes on in shares all of its path but the end."""
    if not violations:
        return
    console.print(f"\n{_count(len(violations), what)} {_are(len(violations))} {fault}:")
    groups: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
    for violation in violations:
        key = tuple((hop["address"], hop["site"]) for hop in violation["path"][:-1])
        groups.setdefault(key, []).append(violation)
    for group in _first(list(groups.values()), _GROUPS_SHOWN, everything):
        console.print()
        for hop in group[0]["path"][:-1]:
            console.print("  " + _step(hop))
        for violation in _first(group, _FUNCTIONS_SHOWN, everything):
            pages = ", ".join(
                f"{page} {level}"
                for page, level in zip(violation["pages"], violation["levels"], strict=True)
            )
            where = f"    <- page {pages}" if pages else ""
            if violation.get("ends_marked"):
                where = "    <- marked __may_fault"
            console.print(f"  {_step(violation['path'][-1])}{where}")
        _say_more(len(group) - _FUNCTIONS_SHOWN, "from there", everything)
    _say_more(len(groups) - _GROUPS_SHOWN, "functions that go on in such", everything)


def _are(count: int) -> str:
    return "is" if count == 1 else "are"


def _leading_to(violation: dict[str, Any], data: dict[str, Any]) -> dict[str, Any]:
    """Return a violation whose path goes on to the data that its last function names."""
    offset = f"+{data['offset']:#x}" if data["offset"] else ""
    last = {
        "function": f"{data['symbol']}{offset}" if data["symbol"] else f"{data['address']:#x}",
        "address": data["address"],
        "how": _NAMES,
        "site": data["site"],
    }
    return {**data, "path": [*violation["path"], last]}


def _step(hop: dict[str, Any]) -> str:
    if not hop["how"]:
        return str(hop["function"])
    site = f"{hop['site']:#x} " if hop["site"] else ""
    words = "names" if hop["how"] == _NAMES else How[hop["how"]].words
    return f"  {site}{words} {hop['function']}"


def _show_trace_violations(violations: list[dict[str, Any]], everything: bool) -> None:
    if not violations:
        return
    console.print(
        f"\n{_count(len(violations), 'page')} in use where no fault may happen "
        f"{_are(len(violations))} not PINNED:"
    )
    for each in _first(violations, _NAMES_SHOWN, everything):
        names = each["functions"]
        holds = f", {', '.join(names[:3])}" if names else ""
        more = f" and {len(names) - 3} more" if len(names) > 3 else ""
        console.print(
            f"  page {each['page']} at {each['address']:#x}, {each['level']}, {each['use']}{holds}"
            f"{more}"
        )
    _say_more(len(violations) - _NAMES_SHOWN, "pages", everything)


def _show_names(names: Sequence[str], everything: bool) -> None:
    for name in _first(names, _NAMES_SHOWN, everything):
        console.print(f"  {name}")
    _say_more(len(names) - _NAMES_SHOWN, "functions", everything)


def _first(each: Sequence[Any], count: int, everything: bool) -> Iterable[Any]:
    return each if everything else each[:count]


def _say_more(count: int, what: str, everything: bool) -> None:
    if count > 0 and not everything:
        console.print(f"  and {count:,} {what} more: --all shows them")
