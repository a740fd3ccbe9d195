# SPDX-License-Identifier: MIT
"""A call graph with what was declared of it: roots, cuts, and calls that code does not name."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from pagestep.codecs.errors import BadImage
from pagestep.store.image import Btf, Image

from ._call_graph import CallGraph
from ._edges import Edges, How
from ._names import Names, is_wild
from ._reach import Reached, depths, path_to, reach

_NO_TYPES = "{wanted}: a prototype was declared, and the image has no BTF: declare targets instead"


class IndirectCalls(Protocol):
    """Calls that are declared; ``pagestep.store.policy.Indirect`` is such.

    Attributes:
        callers: Globs of the functions that call; none: all that call by a pointer.
        targets: Names of the functions that may be called, and globs of those of which the
            address is taken; none: all of which it is.
        prototype: ``"struct.member"`` or the name of a type that targets must have, or None.
    """

    @property
    def callers(self) -> tuple[str, ...]: ...
    @property
    def targets(self) -> tuple[str, ...]: ...
    @property
    def prototype(self) -> str | None: ...


@dataclass(frozen=True, slots=True)
class Hop:
    """One function of a path, and how the path came to it.

    Attributes:
        function: Its number.
        how: How the one before goes on in it; None for the first.
        site: Address of the instruction that does, 0 where no single one is known.
    """

    function: int
    how: How | None
    site: int


class Network:
    """Functions, what the code says of them, and what was declared.

    A declared call joins all its callers with all its targets. Each has a node of its own
    between the two, behind the functions: joined one by one they would be millions.

    Attributes:
        graph: The call graph.
        names: Its functions by name.
        edges: Its edges, and those that were declared.
        node_count: Functions and declared calls.
        blocked: Nodes that are not entered, shape (node_count,), dtype bool.
        declared: Functions whose calls by pointer were declared, shape (functions,), dtype bool.
        unmatched: Globs and prototypes that nothing has.
        notes: What could not be used, and why.
    """

    def __init__(
        self,
        image: Image,
        graph: CallGraph,
        cuts: Sequence[str],
        default_cuts: Sequence[str],
        indirect: Sequence[IndirectCalls],
    ) -> None:
        """Join a graph with what was declared."""
        self.graph = graph
        self.names = Names(graph.functions)
        count = len(graph.functions)
        self.node_count = count + len(indirect)
        self.unmatched: list[str] = []
        self.notes: list[str] = []
        self.declared = np.zeros(count, bool)
        self._btf: Btf | None = None
        self._prototypes: dict[str, set[str]] | None = None
        self.blocked = np.zeros(self.node_count, bool)
        self.blocked[:count] = self.names.matching(default_cuts) | self.mask(cuts)
        self.edges = graph.edges
        for number, call in enumerate(indirect, start=count):
            self.edges = self.edges.joined(self._declared(image, number, call))

    def mask(self, globs: Iterable[str]) -> NDArray[np.bool_]:
        """Return which functions globs mean; one that means none is noted."""
        mask = np.zeros(len(self.graph.functions), bool)
        for glob in globs:
            matching = self.names.matching([glob])
            mask |= matching
            if not matching.any():
                self.unmatched.append(glob)
        return mask

    def _declared(self, image: Image, number: int, call: IndirectCalls) -> Edges:
        graph = self.graph
        calls = np.zeros(len(graph.functions), bool)
        calls[graph.indirect_sources] = True
        callers = self.mask(call.callers) if call.callers else calls
        # A pointer leads only to a function whose address is taken. Where names are spelled
        # out somebody knows better.
        exact = [name for name in call.targets if not is_wild(name)]
        wild = [glob for glob in call.targets if is_wild(glob)]
        targets = self.mask(wild) if call.targets else np.ones(len(graph.functions), bool)
        targets = targets & graph.taken | self.mask(exact)
        if call.prototype is not None:
            targets &= self._of_prototype(image, call.prototype)
        self.declared |= callers
        sources, goals = np.flatnonzero(callers), np.flatnonzero(targets)
        how = How.DECLARED if call.prototype is None else How.PROTOTYPE
        # A caller's first site stands for all.
        places = np.searchsorted(self._site_sources(), sources)
        places = np.minimum(places, max(0, len(self._site_sources()) - 1))
        sites = np.zeros(len(sources), np.uint64)
        if len(self._site_sources()):
            order = np.argsort(graph.indirect_sources, kind="stable")
            known = graph.indirect_sources[order][places] == sources
            sites[known] = graph.indirect_sites[order][places[known]]
        nodes = np.full(len(sources) + len(goals), number, np.int64)
        return Edges.of(
            np.concatenate([sources, nodes[: len(goals)]]),
            np.concatenate([nodes[: len(sources)], goals]),
            np.concatenate([sites, np.zeros(len(goals), np.uint64)]),
            np.full(len(nodes), how, np.uint8),
        )

    def _site_sources(self) -> NDArray[np.int64]:
        return np.sort(self.graph.indirect_sources, kind="stable")

    def _of_prototype(self, image: Image, wanted: str) -> NDArray[np.bool_]:
        """Return the functions of a prototype."""
        mask = np.zeros(len(self.graph.functions), bool)
        if self._prototypes is None:
            try:
                self._btf = image.btf()
            except BadImage as error:
                self.notes.append(str(error))
            self._prototypes = {} if self._btf is None else self._btf.functions()
        if self._btf is None:
            self.notes.append(_NO_TYPES.format(wanted=wanted))
            return mask
        prototypes = self._btf.prototype(wanted)
        if not prototypes:
            self.unmatched.append(wanted)
        for number, names in enumerate(self.graph.functions.aliases):
            for name in names:
                if prototypes & self._prototypes.get(name.partition(".")[0], set()):
                    mask[number] = True
        return mask

    # What is reached

    def forward(self, roots: NDArray[np.int64]) -> Reached:
        """Return what functions reach."""
        count = len(self.graph.functions)
        return reach(self.edges, self.node_count, roots, blocked=self.blocked, virtual_from=count)

    def backward(self, targets: NDArray[np.int64]) -> Reached:
        """Return what reaches functions."""
        count = len(self.graph.functions)
        return reach(
            self.edges,
            self.node_count,
            targets,
            blocked=self.blocked,
            virtual_from=count,
            backwards=True,
        )

    def depths(self, reached: Reached) -> NDArray[np.int64]:
        """Return how many functions stand before each on its path, -1 where there is none."""
        count = len(self.graph.functions)
        return depths(self.edges, reached, count)[:count]

    def path(self, reached: Reached, function: int, *, backwards: bool = False) -> tuple[Hop, ...]:
        """Return the shortest path, from its first function to its last."""
        count = len(self.graph.functions)
        edges = path_to(self.edges, reached, function, backwards=backwards)
        start = int(self.edges.sources[edges[0]]) if edges else function
        hops = [Hop(start, None, 0)]
        site = 0
        for edge in edges:
            target = int(self.edges.targets[edge])
            site = int(self.edges.sites[edge]) or site
            if target < count:  # else a node of a declared call, which has no code
                hops.append(Hop(target, How(int(self.edges.hows[edge])), site))
                site = 0
        return tuple(hops)
