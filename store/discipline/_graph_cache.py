# SPDX-License-Identifier: MIT
"""Call graphs kept by the content of what they were made from.

Only what reading the code gave is kept. What was declared is joined anew each time: that
takes no time, and rules are edited more often than kernels.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from pagestep.store._files import WrittenBeside
from pagestep.store.image import Image

from ._call_graph import CallGraph
from ._edges import Edges, How
from ._functions import Functions
from ._references import References

ANALYSIS_VERSION = 2  # goes up with whatever changes what a graph holds
GRAPHS_MAX = 16  # the oldest go
_DIGEST_BYTES = 32

_ARRAYS: dict[str, type[np.generic]] = {
    "sources": np.int64,
    "targets": np.int64,
    "sites": np.uint64,
    "hows": np.uint8,
    "indirect_sites": np.uint64,
    "indirect_sources": np.int64,
    "reference_sources": np.int64,
    "reference_addresses": np.uint64,
    "reference_sites": np.uint64,
    "taken": np.bool_,
    "about": np.uint8,
}


class GraphCache:
    """A folder of call graphs: SHA-256, and numpy's .npz. What is damaged is made anew."""

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        """Take the folder, which need not exist."""
        self._folder = Path(folder)

    def path(self, image: Image, functions: Functions) -> Path:
        """Return the file for an image and its functions."""
        digest = hashlib.sha256()
        digest.update(f"{ANALYSIS_VERSION} {image.identity} {image.arch} {image.base}\n".encode())
        for segment in image.segments:
            place = f"{segment.address} {segment.size} {segment.flags} {segment.kind}"
            digest.update(f"{segment.name} {place}\n".encode())
        for names in functions.aliases:
            digest.update("\0".join(names).encode() + b"\n")
        digest.update(functions.starts.tobytes() + functions.ends.tobytes())
        return self._folder / f"call-graph-{digest.hexdigest()[:32]}.graph"

    def load(self, image: Image, functions: Functions) -> CallGraph | None:
        """Return a graph that was kept, or None."""
        try:
            data = self.path(image, functions).read_bytes()
        except OSError:
            return None
        digest, body = data[:_DIGEST_BYTES], data[_DIGEST_BYTES:]
        if hashlib.sha256(body).digest() != digest:
            return None
        try:
            with np.load(io.BytesIO(body), allow_pickle=False) as kept:
                arrays = {name: kept[name] for name in _ARRAYS}
            return _graph(arrays, json.loads(arrays["about"].tobytes()), functions)
        except (ValueError, KeyError, TypeError, BadZipFile):  # whole, and yet no graph
            return None

    def keep(self, image: Image, graph: CallGraph) -> None:
        """Keep a graph.

        Raises:
            OSError: The folder cannot be made or written to.
        """
        self._folder.mkdir(parents=True, exist_ok=True)
        about = {
            "outside": graph.outside,
            "not_decoded_bytes": graph.not_decoded_bytes,
            "notes": list(graph.notes),
        }
        arrays: dict[str, NDArray[Any]] = {
            "sources": graph.edges.sources,
            "targets": graph.edges.targets,
            "sites": graph.edges.sites,
            "hows": graph.edges.hows,
            "indirect_sites": graph.indirect_sites,
            "indirect_sources": graph.indirect_sources,
            "reference_sources": graph.references.sources,
            "reference_addresses": graph.references.addresses,
            "reference_sites": graph.references.sites,
            "taken": graph.taken,
            "about": np.frombuffer(json.dumps(about).encode(), np.uint8),
        }
        body = io.BytesIO()
        np.savez(body, allow_pickle=False, **arrays)
        with WrittenBeside(self.path(image, graph.functions)) as file:
            file.write(hashlib.sha256(body.getbuffer()).digest())
            file.write(body.getbuffer())
        graphs = sorted(
            self._folder.glob("call-graph-*.graph"), key=lambda path: path.stat().st_mtime
        )
        for path in graphs[:-GRAPHS_MAX]:
            path.unlink(missing_ok=True)


def _graph(
    arrays: dict[str, NDArray[Any]], about: dict[str, Any], functions: Functions
) -> CallGraph:
    """Put a graph together.

    Raises:
        ValueError: It does not fit together.
        KeyError: Something is missing.
    """
    for name, dtype in _ARRAYS.items():
        if arrays[name].dtype != dtype or arrays[name].ndim != 1:
            raise ValueError(name)
    edges = [arrays[name] for name in ("sources", "targets", "sites", "hows")]
    references = [arrays[f"reference_{name}"] for name in ("sources", "addresses", "sites")]
    fits = all(len({len(each) for each in group}) == 1 for group in (edges, references))
    fits &= len(arrays["indirect_sites"]) == len(arrays["indirect_sources"])
    fits &= len(arrays["taken"]) == len(functions)
    for name in ("sources", "targets", "indirect_sources", "reference_sources"):
        each = arrays[name]
        fits &= not len(each) or (int(each.min()) >= 0 and int(each.max()) < len(functions))
    fits &= not len(edges[3]) or int(edges[3].max()) <= max(How)
    if not fits:
        raise ValueError("its parts do not fit together")
    return CallGraph(
        functions=functions,
        edges=Edges(*edges),
        indirect_sites=arrays["indirect_sites"],
        indirect_sources=arrays["indirect_sources"],
        references=References(*references),
        taken=arrays["taken"],
        outside=int(about["outside"]),
        not_decoded_bytes=int(about["not_decoded_bytes"]),
        notes=tuple(str(note) for note in about["notes"]),
    )
