# SPDX-License-Identifier: MIT
"""What can be reached along the edges of a graph, and by which shortest path."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ._edges import Edges


@dataclass(frozen=True, slots=True)
class Reached:
    """What was reached.

    Attributes:
        mask: Whether each node was, shape (nodes,), dtype bool.
        via: The edge by which it was reached first, -1 for a root and for what was not
            reached, shape (nodes,), dtype int64.
    """

    mask: NDArray[np.bool_]
    via: NDArray[np.int64]


def reach(
    edges: Edges,
    node_count: int,
    roots: NDArray[np.int64],
    *,
    blocked: NDArray[np.bool_] | None = None,
    virtual_from: int | None = None,
    backwards: bool = False,
) -> Reached:
    """Search breadth first.

    Args:
        edges: The edges.
        node_count: How many nodes there are.
        roots: Where to start.
        blocked: Nodes that are never entered, nor started from, shape (nodes,), dtype bool.
        virtual_from: Nodes from this number on only join others: to pass one costs nothing.
        backwards: Go along edges from their targets to their sources.

    Returns:
        What was reached. Following ``via`` from a node leads to a root by a shortest path.
    """
    origins = edges.targets if backwards else edges.sources
    ends = edges.sources if backwards else edges.targets
    order = np.argsort(origins, kind="stable")
    first = np.searchsorted(origins[order], np.arange(node_count + 1))
    virtual = node_count if virtual_from is None else virtual_from
    open_nodes = np.ones(node_count, bool) if blocked is None else ~blocked
    mask = np.zeros(node_count, bool)
    via = np.full(node_count, -1, np.int64)
    front = np.unique(roots[open_nodes[roots]])
    mask[front] = True

    def enter(nodes: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the nodes that one edge leads to and that are new."""
        counts = first[nodes + 1] - first[nodes]
        starts = np.repeat(first[nodes] - np.cumsum(counts) + counts, counts)
        numbers = order[starts + np.arange(len(starts))]
        new = open_nodes[ends[numbers]] & ~mask[ends[numbers]]
        reached, places = np.unique(ends[numbers[new]], return_index=True)
        mask[reached] = True
        via[reached] = numbers[new][places]
        return reached

    while len(front):
        front = enter(front)
        passed = front[front >= virtual]
        while len(passed):
            more = enter(passed)
            front = np.concatenate([front[front < virtual], more[more < virtual]])
            passed = more[more >= virtual]
    return Reached(mask, via)


def path_to(edges: Edges, reached: Reached, node: int, *, backwards: bool = False) -> list[int]:
    """Return the edges from a root to a node; backwards, from a node to a root."""
    found: list[int] = []
    while (edge := int(reached.via[node])) >= 0:
        found.append(edge)
        node = int(edges.targets[edge] if backwards else edges.sources[edge])
    return found if backwards else found[::-1]


def depths(edges: Edges, reached: Reached, virtual_from: int) -> NDArray[np.int64]:
    """Return how many nodes stand before each on its path, -1 where it was not reached.

    Nodes from ``virtual_from`` on only join others, and do not count.
    """
    nodes = len(reached.via)
    moved = reached.via >= 0
    parent = np.arange(nodes)
    parent[moved] = edges.sources[reached.via[moved]]
    found = np.where(reached.mask, 0, -1)
    cost = (np.arange(nodes) < virtual_from).astype(np.int64)
    waiting = np.flatnonzero(moved)
    known = reached.mask & ~moved
    while len(waiting):
        ready = known[parent[waiting]]
        now = waiting[ready]
        found[now] = found[parent[now]] + cost[now]
        known[now] = True
        waiting = waiting[~ready]
    return found
