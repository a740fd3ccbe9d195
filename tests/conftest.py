# SPDX-License-Identifier: MIT
"""What tests share."""

from __future__ import annotations

from pathlib import Path

import pytest

from fetch_kernel import CannotFetch, fetch


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
