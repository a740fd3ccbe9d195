# SPDX-License-Identifier: MIT
"""The example of a tree of forks runs, and says what it found."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "fork_tree.py"


def test_it_explores_and_goes_back() -> None:
    found = subprocess.run(
        [sys.executable, str(EXAMPLE), "6"], capture_output=True, text=True, check=True
    )
    assert found.stderr == ""
    assert found.stdout.startswith(
        "127 machines of 1 MiB\nas copies they would take 127 MiB\nthey take "
    )
    taken = re.search(r"they take ([0-9.]+) MiB of 6 MiB", found.stdout)
    assert taken
    assert float(taken[1]) < 6
    assert re.search(r"input [01]{6} leads to the same memory again: yes\n", found.stdout)


def test_it_says_how_it_is_called() -> None:
    found = subprocess.run(
        [sys.executable, str(EXAMPLE), "--help"], capture_output=True, text=True, check=True
    )
    assert found.stdout.startswith("Usage: fork_tree.py [OPTIONS] [STEPS]")


def test_steps_that_are_no_number_are_refused_in_one_line() -> None:
    for wrong in ("many", "-1", "17"):
        found = subprocess.run(
            [sys.executable, str(EXAMPLE), "--", wrong], capture_output=True, text=True, check=False
        )
        assert found.returncode == 2
        assert "Traceback" not in found.stderr
        assert wrong in found.stderr
