# SPDX-License-Identifier: MIT
"""What tests of backing stores share."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

HERE = Path(__file__).parent


@pytest.fixture
def factories(monkeypatch: pytest.MonkeyPatch) -> None:
    """A pager's process finds ``faults`` as a user's module would be found."""
    monkeypatch.setattr(sys, "path", [str(HERE), *sys.path])


def until(condition: Callable[[], bool], seconds: float = 30.0) -> None:
    """Wait for something that comes about by itself."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not come about"
        time.sleep(0.02)
