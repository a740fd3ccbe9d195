# SPDX-License-Identifier: MIT
"""The example that sorts more than its RAM holds runs, and says what it took."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import sort_in_place
from pagestep import PageStore, map_support

EXAMPLE = Path(sort_in_place.__file__)

if map_support().reason is not None:
    pytest.skip(f"no memory faults in here: {map_support().reason}", allow_module_level=True)


def run(*options: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(EXAMPLE), *options], capture_output=True, text=True, check=False
    )


def in_bytes(text: str) -> float:
    number, unit = text.split()
    return float(number) * {"KiB": 1 << 10, "MiB": 1 << 20}[unit]


def test_it_sorts_eight_times_its_ram() -> None:
    found = run("--ram", "2MiB")
    assert (found.returncode, found.stderr) == (0, "")
    assert found.stdout.startswith(
        "2,097,152 numbers, 16 MiB, in 2 MiB of RAM\nsorted in place in "
    )
    assert "the same numbers as before: yes" in found.stdout
    of_map = re.search(r"the map +([\d.]+ \wiB) of RAM at most", found.stdout)
    of_all = re.search(r"all of it ([\d.]+ \wiB) at most", found.stdout)
    assert of_map
    assert of_all
    assert in_bytes(of_map[1]) <= 2 << 20
    assert in_bytes(of_all[1]) <= 2 << 20
    faults = re.search(r"faults +([\d,]+), which brought ([\d,]+) pages", found.stdout)
    assert faults
    assert int(faults[2].replace(",", "")) > 4096, "each page came more than once"


def test_any_numbers_with_a_place_for_pages(tmp_path: Path) -> None:
    found = run("--ram", "2MiB", "--any", "--swap", f"file://{tmp_path}/")
    assert (found.returncode, found.stderr) == (0, "")
    assert "the same numbers as before: yes" in found.stdout


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--ram", "2MiB", "--any"], "cannot be brought in"),
        (["--ram", "1"], "raise `ram`"),
        (["--ram", "much"], "ram"),
        (["--times", "0"], "times"),
    ],
)
def test_what_cannot_be_is_one_line(options: list[str], said: str) -> None:
    found = run(*options)
    assert found.returncode == 2
    assert found.stdout == ""
    assert said in found.stderr.splitlines()[-1]
    assert "Traceback" not in found.stderr


def test_its_checks_can_fail() -> None:
    with PageStore.open(ram="4MiB") as store, store.anonymous(512) as memory:
        array = memory.map(writable=True, dtype=np.uint64)
        sort_in_place.fill(array)
        before = sort_in_place.fingerprint(array)
        assert not sort_in_place.is_sorted(array)
        array.sort()
        assert sort_in_place.is_sorted(array)
        assert sort_in_place.fingerprint(array) == before
        array[131072] = array[131071] - 1  # between two chunks
        assert not sort_in_place.is_sorted(array)
        assert sort_in_place.fingerprint(array) != before
