# SPDX-License-Identifier: MIT
"""The check: what must stay in RAM, and what of that a plan lets go."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from pagestep.codecs.errors import InvalidArgument
from pagestep.store.image import Image

from ._call_graph import CallGraph, build_call_graph
from ._closure import Hop, IndirectCalls, Network
from ._functions import Functions, functions_of
from ._graph_cache import GraphCache
from ._interrupts import InterruptPages
from ._memory import Memory
from ._named_data import Named, NamedData
from ._reach import Reached
from ._references import References
from ._residence import Residence, Share
from ._roots import FIRMWARE, default_cuts, linux_roots

Progress = Callable[[str, int, int], None]
_VECTORS_MAX = 256
_NOT_DECODED_MAX = 0.1  # of the functions' bytes; real kernels have far less


@dataclass(frozen=True, slots=True)
class Declared:
    """What an engineer says of an image, beside its levels.

    Attributes:
        roots: Globs of more functions to start from.
        cuts: Globs of more functions that are not entered.
        default_roots: Start from the default ones as well.
        default_cuts: Do not enter the default ones either.
        indirect: Calls that the code does not name.
        may_fault: Addresses of functions that are marked to touch what may fault.
        no_fault: Addresses of functions that are marked never to.
    """

    roots: tuple[str, ...] = ()
    cuts: tuple[str, ...] = ()
    default_roots: bool = True
    default_cuts: bool = True
    indirect: tuple[IndirectCalls, ...] = ()
    may_fault: tuple[int, ...] = ()
    no_fault: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Violation:
    """A function that may run where no fault may happen, and that may be paged.

    Attributes:
        function: Its number.
        pages: Its pages that are not PINNED; none where it is only marked to fault.
        path: The shortest way to it.
        names: Of one that is marked never to fault: data that is not PINNED and that the
            last function of the path names.
        ends_marked: Of one that is marked never to fault: the last function of the path is
            marked to fault, wherever it lies.
    """

    function: int
    pages: tuple[int, ...]
    path: tuple[Hop, ...]
    names: tuple[Named, ...] = ()
    ends_marked: bool = False


@dataclass(frozen=True, slots=True)
class DataViolation:
    """Data that a function names which may run where no fault may happen, and that may be paged.

    Attributes:
        named: The data, and which instruction names it.
        path: The shortest way to a function that does.
    """

    named: Named
    path: tuple[Hop, ...]


@dataclass(frozen=True, slots=True)
class TraceViolation:
    """A page that was used where no fault may happen, and that is not PINNED.

    Attributes:
        page_no: The page.
        use: ``"fetched"``, ``"read"`` or ``"written"``.
        trace: The recording that saw it.
        functions: Functions that have a byte on it.
    """

    page_no: int
    use: str
    trace: str
    functions: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class DataPages:
    """How many pages of data are in use where no fault may happen.

    Attributes:
        named: Pages of data that functions of the closure name; None: it was left out.
        traced: Pages that traces saw read or written, and not fetched.
        joined: Both together.
    """

    named: int | None
    traced: int
    joined: int


@dataclass(frozen=True, slots=True)
class Check:
    """What was found.

    Attributes:
        graph: The call graph.
        network: The graph, with what was declared.
        cached: The graph was not made anew.
        roots: Functions that the closure starts from, by what they are for.
        closure: Functions in the closure, shape (functions,), dtype bool.
        cuts_met: Functions that were not entered, though one of the closure calls them.
        undeclared: Calls by pointer in the closure that nobody declared: index into
            ``graph.indirect_sites``, shape (n,), dtype int64.
        violations: Functions of the closure that are not PINNED.
        data_violations: Data that functions of the closure name and that is not PINNED.
        marked: Functions of the closure that are marked to touch what may fault.
        trace_violations: Pages in use in interrupt or fault context that are not PINNED.
        may_fault: Functions that may touch a page that is not PINNED, shape (functions,),
            dtype bool.
        no_fault_violations: Functions of these that are marked never to.
        shares: How much of the text is what: ``text``, ``closure``, ``trace``, ``joined``,
            ``pinned``.
        data_pages: How many pages of data are in use.
        data: All data that code names; nothing where it was left out.
        resident: Functions to pin for the check to pass, shape (functions,), dtype bool.
        resident_data: Data to pin for it as well, shape as in ``data``, dtype bool.
        resident_pages: Pages to pin for it as well, by number.
        unmatched: Globs and prototypes that nothing in the image has.
        notes: What was skipped, and why.
    """

    graph: CallGraph
    network: Network
    cached: bool
    roots: dict[str, tuple[int, ...]]
    closure: NDArray[np.bool_]
    cuts_met: tuple[int, ...]
    undeclared: NDArray[np.int64]
    violations: tuple[Violation, ...]
    data_violations: tuple[DataViolation, ...]
    marked: tuple[Violation, ...]
    trace_violations: tuple[TraceViolation, ...]
    may_fault: NDArray[np.bool_]
    no_fault_violations: tuple[Violation, ...]
    shares: dict[str, Share]
    data_pages: DataPages
    data: NamedData
    resident: NDArray[np.bool_]
    resident_data: NDArray[np.bool_]
    resident_pages: tuple[int, ...]
    unmatched: tuple[str, ...]
    notes: tuple[str, ...]

    @property
    def ok(self) -> bool:
        """Whether nothing is wrong."""
        functions = self.violations or self.marked or self.no_fault_violations
        return not (functions or self.data_violations or self.trace_violations)


def _silent(_what: str, _done: int, _total: int) -> None:
    """Show nothing."""


def check(
    image: Image,
    level: NDArray[np.uint8],
    declared: Declared | None = None,
    *,
    traces: Sequence[InterruptPages] = (),
    data: bool = True,
    cache: str | os.PathLike[str] | None = None,
    progress: Progress = _silent,
) -> Check:
    """Find what must stay in RAM so that a fault never needs a page that can fault.

    Args:
        image: The image, with symbols.
        level: The level of each page, 0 for PINNED, shape (page_count,), dtype uint8.
        declared: What is known of the image beside its code.
        traces: Pages seen in interrupt or fault context.
        data: Whether data that the functions name must be PINNED as well.
        cache: A folder where call graphs are kept; None keeps none.
        progress: Called now and then with what is done, how much of it, of how much.

    Returns:
        What was found.

    Raises:
        Unsupported: The image has no symbols, its instruction set is not known, or
            Capstone is not installed.
        InvalidArgument: Nothing to start from is in the image, or ``level`` has another shape.
    """
    if level.shape != (image.page_count,):
        raise InvalidArgument(
            f"level: shape {level.shape}: {image.name} has {image.page_count} pages"
        )
    declared = declared or Declared()
    return _Checker(image, level, declared, traces, cache, progress).result(with_data=data)


class _Checker:
    """Goes through the steps of one check."""

    def __init__(
        self,
        image: Image,
        level: NDArray[np.uint8],
        declared: Declared,
        traces: Sequence[InterruptPages],
        cache: str | os.PathLike[str] | None,
        progress: Progress,
    ) -> None:
        self._image = image
        self._declared = declared
        self._traces = traces
        self._notes: list[str] = []
        progress("reading symbols", 0, 0)
        functions = functions_of(image)
        self._graph, self._cached = self._call_graph(functions, cache, progress)
        progress("following calls", 0, 0)
        self._network = Network(
            image,
            self._graph,
            declared.cuts,
            default_cuts() if declared.default_cuts else (),
            declared.indirect,
        )
        self._residence = Residence(image, functions)
        self._loose = level != 0
        self._loose_functions = self._residence.touching(self._loose)

    def _call_graph(
        self,
        functions: Functions,
        folder: str | os.PathLike[str] | None,
        progress: Progress,
    ) -> tuple[CallGraph, bool]:
        cache = None if folder is None else GraphCache(folder)
        kept = None if cache is None else cache.load(self._image, functions)
        if kept is not None:
            return kept, True
        graph = build_call_graph(self._image, functions, progress=progress)
        if cache is not None:
            try:
                cache.keep(self._image, graph)
            except OSError as error:
                self._notes.append(f"the call graph was not kept: {error}")
        return graph, False

    def result(self, *, with_data: bool) -> Check:
        network, count = self._network, len(self._graph.functions)
        data = NamedData(self._image, self._graph.references if with_data else References.none())
        loose_data = data.touching(self._loose)
        names_loose = data.naming(loose_data, count)
        roots = self._roots()
        started = np.array(sorted({each for group in roots.values() for each in group}), np.int64)
        reached = network.forward(started)
        closure = reached.mask[:count]
        marked_loose = self._marks(self._declared.may_fault)
        may_fault = network.backward(
            np.flatnonzero(
                (self._loose_functions | marked_loose | names_loose) & ~network.blocked[:count]
            )
        )
        unfaulting = self._marks(self._declared.no_fault)
        trace_violations = tuple(self._trace_violations())
        fetched, used = self._traced_pages()
        resident = closure | network.forward(np.flatnonzero(unfaulting)).mask[:count]
        resident_data = data.of(resident)
        pinned_so = self._residence.pages(resident) | data.pages(resident_data)
        undeclared = closure & ~network.declared
        return Check(
            graph=self._graph,
            network=network,
            cached=self._cached,
            roots=roots,
            closure=closure,
            cuts_met=self._cuts_met(reached),
            undeclared=np.flatnonzero(undeclared[self._graph.indirect_sources]),
            violations=self._violations(reached, closure & self._loose_functions),
            data_violations=self._data_violations(reached, data, loose_data),
            marked=self._violations(reached, closure & marked_loose, pages=False),
            trace_violations=trace_violations,
            may_fault=may_fault.mask[:count],
            no_fault_violations=self._no_fault_violations(
                may_fault, may_fault.mask[:count] & unfaulting, data, loose_data, marked_loose
            ),
            shares=self._shares(closure, fetched),
            data_pages=_data_pages(data.pages(data.of(closure)), used & ~fetched, with_data),
            data=data,
            resident=resident,
            resident_data=resident_data,
            resident_pages=tuple(np.flatnonzero((fetched | used) & ~pinned_so).tolist()),
            unmatched=tuple(dict.fromkeys(network.unmatched)),
            notes=(*self._doubts(), *self._graph.notes, *network.notes, *self._notes),
        )

    def _doubts(self) -> Iterable[str]:
        """Yield why the code may be that of another instruction set."""
        graph, arch = self._graph, self._image.arch
        remedy = f"is this really {arch} code? give --arch"
        size = int(graph.functions.sizes().sum())
        if graph.not_decoded_bytes > _NOT_DECODED_MAX * size:
            share = graph.not_decoded_bytes / size
            yield f"{share:.0%} of the functions' bytes are no instructions: {remedy}"
        if len(graph.functions) > 1 and not len(graph.edges):
            yield f"no function of {len(graph.functions):,} leads to another: {remedy}"

    # Where it starts

    def _roots(self) -> dict[str, tuple[int, ...]]:
        names = self._network.names
        wanted = linux_roots(self._image.arch) if self._declared.default_roots else {}
        found = {what: _numbers(names.matching(globs)) for what, globs in wanted.items()}
        if self._declared.default_roots and not any(found.values()):
            found = {what: _numbers(names.matching(globs)) for what, globs in FIRMWARE.items()}
            found["vectors"] = tuple(sorted({*found["vectors"], *self._vector_table()}))
        given = self._network.mask(self._declared.roots)
        cut = given & self._network.blocked[: len(given)]
        if cut.any():
            first = self._graph.functions.names[int(np.flatnonzero(cut)[0])]
            self._notes.append(
                f"{first} is to start from and not to be entered: it is not; take the cut away "
                "(--no-default-cuts takes all of the default ones)"
            )
        found["given"] = _numbers(given & ~cut)
        found = {what: numbers for what, numbers in found.items() if numbers}
        if not found:
            raise InvalidArgument(
                f"{self._image.name}: no function that a check of {self._image.arch} starts from "
                f"is among its symbols{self._given()}: name those that must not fault with --root"
            )
        return found

    def _given(self) -> str:
        globs = ", ".join(map(repr, self._declared.roots))
        return f", and nothing that {globs} means" if globs else ""

    def _vector_table(self) -> list[int]:
        """Return the functions that a Cortex-M image's first words point at."""
        if self._image.arch != "thumb":
            return []
        memory = Memory(self._image)
        places = [self._image.base + 4 * (1 + i) for i in range(_VECTORS_MAX)]
        words = np.array([memory.pointer(place) for place in places], np.uint64)
        # The table ends at the first word that is neither empty nor the address of code.
        numbers = self._graph.functions.starting_at(words & ~np.uint64(1))
        bad = np.flatnonzero((words != 0) & (numbers < 0))
        numbers = numbers[: int(bad[0])] if len(bad) else numbers
        return [int(number) for number in np.unique(numbers) if number >= 0]

    def _marks(self, addresses: Iterable[int]) -> NDArray[np.bool_]:
        mask = np.zeros(len(self._graph.functions), bool)
        numbers = self._graph.functions.at(np.array(list(addresses), np.uint64))
        mask[numbers[numbers >= 0]] = True
        return mask

    # What is wrong

    def _violations(
        self,
        reached: Reached,
        functions: NDArray[np.bool_],
        *,
        pages: bool = True,
        backwards: bool = False,
    ) -> tuple[Violation, ...]:
        found: list[Violation] = []
        for number in np.flatnonzero(functions).tolist():
            span = range(self._residence.first[number], self._residence.last[number] + 1)
            loose = tuple(page for page in span if pages and self._loose[page])
            path = self._network.path(reached, number, backwards=backwards)
            found.append(Violation(number, loose, path))
        # The shortest path first: it is the easiest to understand.
        return tuple(sorted(found, key=lambda each: (len(each.path), each.function)))

    def _data_violations(
        self, reached: Reached, data: NamedData, loose: NDArray[np.bool_]
    ) -> tuple[DataViolation, ...]:
        """Return each datum that is not PINNED once, with the shortest way that names it."""
        depth = self._network.depths(reached)[data.references.sources]
        wrong = np.flatnonzero((depth >= 0) & loose[data.data])
        order = np.lexsort((wrong, depth[wrong], data.data[wrong]))
        wrong = wrong[order]
        first = np.ones(len(wrong), bool)
        first[1:] = data.data[wrong][1:] != data.data[wrong][:-1]
        chosen = wrong[first]
        chosen = chosen[np.argsort(depth[chosen], kind="stable")]
        sources = data.references.sources
        return tuple(
            DataViolation(
                data.named(reference, self._loose),
                self._network.path(reached, int(sources[reference])),
            )
            for reference in chosen.tolist()
        )

    def _no_fault_violations(
        self,
        reached: Reached,
        functions: NDArray[np.bool_],
        data: NamedData,
        loose: NDArray[np.bool_],
        marked: NDArray[np.bool_],
    ) -> tuple[Violation, ...]:
        """Return functions that reach what may fault, with what their path ends in."""
        found: list[Violation] = []
        wrong = loose[data.data]
        for each in self._violations(reached, functions, pages=False, backwards=True):
            end = each.path[-1].function
            last = data.references.sources == end
            names = [data.named(n, self._loose) for n in np.flatnonzero(last & wrong).tolist()]
            found.append(replace(each, names=tuple(names), ends_marked=bool(marked[end])))
        return tuple(found)

    def _trace_violations(self) -> Iterable[TraceViolation]:
        for trace in self._traces:
            for use in ("fetched", "read", "written"):
                pages: NDArray[np.int64] = getattr(trace, use)
                for page in pages[self._loose[pages]].tolist():
                    functions = tuple(self._residence.on(page).tolist())
                    yield TraceViolation(page, use, trace.name, functions)

    def _traced_pages(self) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        fetched, data = np.zeros((2, self._image.page_count), bool)
        for trace in self._traces:
            fetched[trace.fetched] = True
            data[trace.read] = data[trace.written] = True
        return fetched, data

    def _cuts_met(self, reached: Reached) -> tuple[int, ...]:
        edges, blocked = self._network.edges, self._network.blocked
        met = edges.targets[reached.mask[edges.sources] & blocked[edges.targets]]
        return tuple(np.unique(met).tolist())

    def _shares(self, closure: NDArray[np.bool_], fetched: NDArray[np.bool_]) -> dict[str, Share]:
        share = self._residence.share
        return {
            "text": share(np.ones(len(closure), bool)),
            "closure": share(closure),
            "trace": share(None, fetched),
            "joined": share(closure, fetched),
            "pinned": share(None, ~self._loose),
        }


def _numbers(mask: NDArray[np.bool_]) -> tuple[int, ...]:
    return tuple(np.flatnonzero(mask).tolist())


def _data_pages(named: NDArray[np.bool_], traced: NDArray[np.bool_], with_data: bool) -> DataPages:
    return DataPages(
        named=int(np.count_nonzero(named)) if with_data else None,
        traced=int(np.count_nonzero(traced)),
        joined=int(np.count_nonzero(named | traced)),
    )
