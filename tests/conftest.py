# SPDX-License-Identifier: MIT
"""What tests share."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from fetch_kernel import CannotFetch, fetch
from pagestep import PageStore


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--verifier",
        choices=["s3fifo", "random", "worst"],
        help="every store runs under the verifier, and evicts in this order, unless a test says "
        "otherwise",
    )


def pytest_configure(config: pytest.Config) -> None:
    policy = config.getoption("--verifier")
    if policy:
        open_store: Any = PageStore.open
        open_store.__func__.__kwdefaults__.update(verify=True, policy=policy)


def _kernel(name: str) -> Path:
    try:
        return fetch(name)
    except CannotFetch as error:
        pytest.skip(str(error))


@pytest.fixture(scope="session")
def x86_kernel() -> Path:
    return _kernel("x86-cloud")


@pytest.fixture(scope="session")
def arm_kernel() -> Path:
    return _kernel("marvell")
