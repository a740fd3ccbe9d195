# SPDX-License-Identifier: MIT
"""What tests of backing stores share."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from .servers import Cluster, Server, free_ports

HERE = Path(__file__).parent


@pytest.fixture
def factories(monkeypatch: pytest.MonkeyPatch) -> None:
    """A pager's process finds ``faults`` as a user's module would be found."""
    monkeypatch.setattr(sys, "path", [str(HERE), *sys.path])


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Three nodes, as long as a file's tests run."""
    found = Cluster(tmp_path_factory.mktemp("cluster"))
    yield found
    found.end()


@pytest.fixture
def empty_cluster(cluster: Cluster) -> Cluster:
    """The three nodes, without keys."""
    cluster.flush()
    return cluster


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    """One node of its own for each test."""
    found = Server(free_ports(1)[0], tmp_path)
    yield found
    found.end()
