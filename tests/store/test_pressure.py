# SPDX-License-Identifier: MIT
"""Pressure on memory: what stands in the kernel's files, the law, and a store that gives way."""

from __future__ import annotations

import gc
import os
import random
import re
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pagestep import InvalidArgument, PageStore, PressureWatcher, Unsupported, _core
from pagestep.store._pressure import PressureLaw
from pagestep.store._psi import Gauge, cgroup_folder, default_files, stalled_us

from .pages import make_pages

PAGES = make_pages(512)
RAM = 3 << 20
SYSTEM = Path("/proc/pressure/memory")
DEADLINE_S = 60


def until(what: Callable[[], object]) -> None:
    """Wait for something; a deadline far beyond what it takes keeps the test from hanging."""
    end = time.monotonic() + DEADLINE_S
    while not what():
        assert time.monotonic() < end, "what was waited for did not happen"
        time.sleep(0.005)


class Script:
    """A file in the kernel's format that says what a test wants."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._total_us = 0
        self._text()

    def _text(self) -> None:
        line = f"avg10=0.00 avg60=0.00 avg300=0.00 total={self._total_us:020}\n"
        with self.path.open("r+b" if self.path.exists() else "wb") as file:
            file.write(f"some {line}full {line}".encode())

    def stall(self) -> None:
        """Say that some task stalled for an hour: more than any time between looks."""
        self._total_us += 3600 * 10**6
        self._text()


@pytest.fixture
def script(tmp_path: Path) -> Script:
    return Script(tmp_path / "memory.pressure")


@pytest.fixture
def store() -> Iterator[PageStore]:
    with PageStore.open(PAGES, ram=RAM) as store:
        store.page_in(range(512))
        yield store


def watcher(store: PageStore, script: Script, **options: object) -> PressureWatcher:
    given: dict[str, object] = {"interval_s": 0.002, "calm_s": 0.01, "least": "1MiB", **options}
    return PressureWatcher(store, watch=[script.path], **given)  # type: ignore[arg-type] # mistakes are tested too


def press(watching: PressureWatcher, script: Script) -> None:
    """Have the watcher see pressure once, and wait until it has done what it does then."""
    looks = watching.stats().pressed
    script.stall()
    until(lambda: watching.stats().pressed > looks)
    looks = watching.stats().looks
    until(lambda: watching.stats().looks > looks or not watching.stats().alive)


def kinds(watcher: PressureWatcher) -> list[str]:
    return [event.kind for event in watcher.events]


# -- what stands in the files -------------------------------------------------------------


@given(st.binary(max_size=200))
def test_any_text_is_a_total_or_none(text: bytes) -> None:
    total = stalled_us(text)
    assert total is None or 0 <= total < 1 << 64


@given(
    st.integers(0, (1 << 64) - 1),
    st.lists(st.tuples(st.integers(1, 10**4), st.floats(0, 100)), min_size=1, max_size=5),
)
def test_the_total_is_that_of_the_line_some(total: int, averages: list[tuple[int, float]]) -> None:
    means = " ".join(f"avg{seconds}={value:.2f}" for seconds, value in averages)
    assert stalled_us(f"some {means} total={total}\nfull {means} total=7\n".encode()) == total


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"some avg10=0.00 total=1",
        b"full avg10=0.00 avg60=0.00 avg300=0.00 total=1\n",
        b"some avg10=0.00 avg60=0.00 avg300=0.00 total=-1\n",
        b"some avg10=0.00 avg60=0.00 avg300=0.00 total=18446744073709551616\n",
        b"some avg10=0.00 avg60=0.00 avg300=0.00 total=\xd9\xa3\n",
    ],
)
def test_what_is_not_of_the_kernels_form_is_refused(text: bytes) -> None:
    assert stalled_us(text) is None


@pytest.mark.skipif(not SYSTEM.exists(), reason="this kernel has no /proc/pressure")
def test_this_kernels_own_file_is_read() -> None:
    assert stalled_us(SYSTEM.read_bytes()) is not None
    assert default_files()[0] == SYSTEM


MOUNTS = (
    "25 20 0:22 / /proc rw shared:5 - proc proc rw\n"
    "30 20 0:26 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n"
    "{} shared:9 - cgroup2 cgroup2 rw,nsdelegate\n"
)


@pytest.mark.parametrize(
    ("cgroup", "mount", "folder"),
    [
        ("0::/a/b\n", "31 20 0:27 / /sys/fs/cgroup rw", "/sys/fs/cgroup/a/b"),
        ("4:memory:/old\n0::/a\n", "31 20 0:27 / /mnt/one\\040two rw", "/mnt/one two/a"),
        ("0::/box/a\n", "31 20 0:27 /box /sys/fs/cgroup rw", "/sys/fs/cgroup/a"),
        ("0::/box\n", "31 20 0:27 /box /sys/fs/cgroup rw", "/sys/fs/cgroup"),
        ("0::/boxes\n", "31 20 0:27 /box /sys/fs/cgroup rw", None),
        ("0::/\n", "31 20 0:27 / /sys/fs/cgroup rw", None),
        ("4:memory:/old\n", "31 20 0:27 / /sys/fs/cgroup rw", None),
        ("0::/a\n", "31 20", None),
        ("", "", None),
    ],
)
def test_a_process_finds_its_cgroup(cgroup: str, mount: str, folder: str | None) -> None:
    found = cgroup_folder(cgroup, MOUNTS.format(mount))
    assert found == (None if folder is None else Path(folder))


@given(st.text(max_size=100), st.text(max_size=100))
def test_any_text_about_cgroups_is_withstood(cgroup: str, mount: str) -> None:
    cgroup_folder(cgroup, mount)
    cgroup_folder(f"0::/{cgroup}\n", f"{mount} - cgroup2 c rw\n")


# -- the law ------------------------------------------------------------------------------


def law_of(least: int, more: int, calm_looks: int) -> PressureLaw:
    return PressureLaw(least + more, least, calm_looks=calm_looks)


LAWS = st.builds(law_of, st.integers(1, 1 << 62), st.integers(0, 1 << 62), st.integers(0, 9))


@given(LAWS, st.data())
def test_a_budget_stays_between_least_and_most(law: PressureLaw, data: st.DataObject) -> None:
    budget, calm = law.most, 0
    for pressed in data.draw(st.lists(st.booleans(), max_size=60)):
        calm = 0 if pressed else calm + 1
        used = data.draw(st.integers(0, budget))
        before, budget = budget, law.next(budget, used, pressed, calm)
        assert law.least <= budget <= law.most
        assert budget <= before if pressed else budget >= before
        assert pressed or calm > law.calm_looks or budget == before
    for calm in range(1, law.calm_looks + 20):
        budget = law.next(budget, 0, False, calm)
    assert budget == law.most


def test_pressure_takes_a_quarter_of_what_is_used() -> None:
    law = PressureLaw(most=1600, least=100)
    assert law.next(1600, 1600, True, 0) == 1200
    assert law.next(1600, 800, True, 0) == 600
    assert law.next(110, 110, True, 0) == 100
    assert law.next(1600, 0, True, 0) == 100
    assert law.next(1200, 0, False, 5) == 1200
    assert law.next(1200, 0, False, 6) == 1300
    assert law.next(1550, 0, False, 9) == 1600


# -- a store that gives way ---------------------------------------------------------------


def test_a_store_gives_way_and_gets_back(store: PageStore, script: Script) -> None:
    used = store.stats().used_bytes
    with watcher(store, script) as watching:
        until(lambda: watching.stats().looks > 2)
        assert kinds(watching) == []
        script.stall()
        until(lambda: watching.stats().shrinks)
        until(lambda: watching.stats().budget_bytes == RAM)
        stats = watching.stats()
        assert stats.budget_bytes_min <= used * 3 // 4
        assert stats.pressed == stats.shrinks == 1
        # Back in steps of a sixteenth: the budget was a quarter below what was used.
        assert stats.grows >= (RAM - stats.budget_bytes_min) // (RAM // 16)
        assert kinds(watching) == ["shrank"] + ["grew"] * stats.grows
        assert watching.events[0].cause == str(script.path)
        assert watching.events[0].share == 1.0
        assert store.stats().budget_bytes == RAM
    assert b"".join(map(store.read, range(512))) == PAGES.tobytes()


def test_it_stops_at_least_and_closing_gives_back(store: PageStore, script: Script) -> None:
    with watcher(store, script, calm_s=3600) as watching:
        for _ in range(8):
            press(watching, script)
        assert watching.stats().budget_bytes == 1 << 20
        assert store.stats().used_bytes <= 1 << 20
        assert watching.stats().alive
    assert store.stats().budget_bytes == RAM
    assert watching.events[-1].cause == "the watcher was closed"
    assert not watching.stats().alive
    watching.close()


def test_readers_do_not_notice(store: PageStore, script: Script) -> None:
    wrong: list[int] = []
    done = threading.Event()

    def read(seed: int) -> None:
        chance = random.Random(seed)
        while not done.is_set():
            page_no = chance.randrange(512)
            if store.read(page_no) != PAGES[page_no].tobytes():
                wrong.append(page_no)

    threads = [threading.Thread(target=read, args=(seed,)) for seed in (1, 2, 3)]
    for thread in threads:
        thread.start()
    try:
        with watcher(store, script, calm_s=0) as watching:
            for _ in range(20):
                press(watching, script)
                until(lambda: watching.stats().budget_bytes == RAM)
    finally:
        done.set()
        for thread in threads:
            thread.join()
    assert wrong == []
    assert "failed" not in kinds(watching)


def test_it_goes_only_as_far_as_the_store_can(store: PageStore, script: Script) -> None:
    with store.pinned(range(500)), watcher(store, script, least=1, calm_s=3600) as watching:
        for _ in range(3):
            press(watching, script)
        assert 500 * 4096 <= watching.stats().budget_bytes < 520 * 4096 + (256 << 10)
        assert store.stats().budget_bytes == watching.stats().budget_bytes
        assert "failed" not in kinds(watching)
        assert "refused" in kinds(watching)


def test_what_was_refused_is_not_tried_again(store: PageStore, script: Script) -> None:
    with store.pinned(range(500)), watcher(store, script, least=1, calm_s=3600) as watching:
        for _ in range(30):
            press(watching, script)
        refused = [event for event in watching.events if event.kind == "refused"]
    assert refused
    assert len({event.cause for event in refused}) == len(refused)


def test_a_budget_set_by_somebody_else_is_the_one_to_go_back_to(
    store: PageStore, script: Script
) -> None:
    with watcher(store, script, calm_s=0) as watching:
        store.set_ram("2MiB")
        until(lambda: "followed" in kinds(watching))
        script.stall()
        until(lambda: watching.stats().shrinks)
        until(lambda: watching.stats().budget_bytes == 2 << 20)
    assert store.stats().budget_bytes == 2 << 20


def test_the_least_that_it_was_counts_whoever_made_it_so(store: PageStore, script: Script) -> None:
    with watcher(store, script) as watching:
        store.set_ram("2MiB")
        until(lambda: "followed" in kinds(watching))
        assert watching.stats().budget_bytes_min == watching.stats().budget_bytes == 2 << 20


# -- what it is given ---------------------------------------------------------------------


def test_one_file_needs_no_list(store: PageStore, script: Script) -> None:
    for path in (script.path, str(script.path), (script.path,)):
        with PressureWatcher(store, watch=path) as watching:
            assert watching.stats().watched == (str(script.path),)


@pytest.mark.parametrize("wrong", [None, PAGES])
def test_what_is_no_store_is_refused(wrong: object) -> None:
    with pytest.raises(InvalidArgument, match="a watcher is for an open PageStore"):
        PressureWatcher(wrong)  # type: ignore[arg-type] # the mistake is the test


# -- how it ends --------------------------------------------------------------------------


def test_it_ends_with_its_store(script: Script) -> None:
    store = PageStore.open(PAGES, ram=RAM)
    watching = watcher(store, script)
    store.close()
    until(lambda: not watching.stats().alive)
    watching.close()


def test_it_does_not_keep_its_store(script: Script) -> None:
    store = PageStore.open(PAGES, ram=RAM)
    watching = watcher(store, script)
    del store
    gc.collect()
    until(lambda: not watching.stats().alive)
    watching.close()


def test_a_watcher_without_a_name_leaves_nothing_open(script: Script) -> None:
    before = len(os.listdir("/proc/self/fd"))
    store = PageStore.open(PAGES, ram=RAM)
    threads = threading.active_count()
    watcher(store, script)
    store.close()
    until(lambda: threading.active_count() == threads)
    del store
    gc.collect()
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_file_that_goes_bad_is_lost_and_the_budget_goes_back(
    store: PageStore, script: Script
) -> None:
    with watcher(store, script, calm_s=3600) as watching:
        script.stall()
        until(lambda: watching.stats().shrinks)
        script.path.write_bytes(b"")
        until(lambda: not watching.stats().alive)
        assert kinds(watching) == ["shrank", "lost", "grew"]
        assert watching.stats().watched == ()
    assert store.stats().budget_bytes == RAM


def test_one_file_is_lost_and_the_others_go_on(
    store: PageStore, script: Script, tmp_path: Path
) -> None:
    other = Script(tmp_path / "other")
    with PressureWatcher(
        store, watch=[other.path, script.path], interval_s=0.002, calm_s=3600
    ) as watching:
        other.path.write_bytes(b"")
        until(lambda: "lost" in kinds(watching))
        script.stall()
        until(lambda: watching.stats().shrinks)
        assert watching.stats().watched == (str(script.path),)


# -- what it cannot do --------------------------------------------------------------------


def test_without_any_file_it_says_what_the_system_lacks(store: PageStore, tmp_path: Path) -> None:
    with pytest.raises(Unsupported, match=r"nothing: No such file.*CONFIG_PSI.*psi=1.*version 2"):
        PressureWatcher(store, watch=[tmp_path / "nothing"])
    with pytest.raises(Unsupported, match=r"no files"):
        PressureWatcher(store, watch=[])
    with pytest.raises(Unsupported, match=r"memory\.pressure: No such file"):
        PressureWatcher(store, watch=[tmp_path])


def test_another_file_is_refused_and_stays_as_it_was(store: PageStore, tmp_path: Path) -> None:
    path = tmp_path / "diary"
    path.write_text("dear diary")
    with pytest.raises(Unsupported, match=r"diary: begins with b'dear diary'"):
        PressureWatcher(store, watch=[path])
    assert path.read_text() == "dear diary"


def test_an_ordinary_file_is_never_written_to(store: PageStore, script: Script) -> None:
    before = script.path.read_bytes()
    with watcher(store, script) as watching:
        assert watching.stats().triggered == ()
    assert script.path.read_bytes() == before


@pytest.mark.parametrize(
    "options",
    [
        {"threshold": 0},
        {"threshold": 1.5},
        {"interval_s": 0},
        {"interval_s": 1e9},
        {"calm_s": -1},
        {"least": 0},
        {"least": "4MiB"},
        {"threshold": float("nan")},
    ],
)
def test_arguments_out_of_range(
    store: PageStore, script: Script, options: dict[str, object]
) -> None:
    with pytest.raises(InvalidArgument, match=next(iter(options))):
        watcher(store, script, **options)


# -- the kernel's own ---------------------------------------------------------------------


@pytest.mark.skipif(not os.access(SYSTEM, os.R_OK), reason="this kernel has no /proc/pressure")
def test_the_systems_file_is_watched(store: PageStore) -> None:
    with PressureWatcher(store) as watching:
        assert str(SYSTEM) in watching.stats().watched
        assert watching.stats().alive
    with Gauge([SYSTEM], 1.0) as gauge:
        reading = gauge.wait(0.01)
        assert reading is not None
        assert reading.path == SYSTEM
        gauge.stop()
        assert gauge.wait(60) is None
        assert gauge.pause(60)


@pytest.mark.skipif(not os.access(SYSTEM, os.R_OK), reason="this kernel has no /proc/pressure")
def test_the_documents_example_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    document = Path(__file__).resolve().parents[2] / "docs" / "PRESSURE.md"
    [block] = re.findall(r"^```python\n(.*?)^```$", document.read_text(), re.MULTILINE | re.DOTALL)
    (tmp_path / "vmlinuz").symlink_to(_core.__file__)
    monkeypatch.chdir(tmp_path)
    exec(compile(block, str(document), "exec"), {})
    assert "PressureStats(" in capsys.readouterr().out


CGROUPS = Path("/sys/fs/cgroup")

# A store in a cgroup, and a hog beside it that reads a file larger than the cgroup may hold.
CHILD = """
import mmap, sys, time
from pathlib import Path
from pagestep import PageStore, PressureWatcher

def until(what):
    end = time.monotonic() + 240
    while not what():
        if time.monotonic() > end:
            sys.exit(f"it did not happen: {watching.stats()} {watching.events[-5:]}")
        yield

folder, file = Path(sys.argv[1]), sys.argv[2]
image = bytes(range(256)) * 4096 * 8
(folder / "cgroup.procs").write_text("0")
with PageStore.open(image, ram="6MiB", codec_level=0) as store:
    store.page_in(range(store.page_count))
    limit = int((folder / "memory.current").read_text()) + (8 << 20)
    (folder / "memory.max").write_text(str(limit))
    with PressureWatcher(store, watch=[folder], threshold=0.01, calm_s=4) as watching:
        with open(file, "rb") as hog:
            for _ in until(lambda: watching.stats().shrinks):
                with mmap.mmap(hog.fileno(), 0, prot=mmap.PROT_READ) as memory:
                    sum(memory[i] for i in range(0, len(memory), 4096))
        print(watching.stats())
        (folder / "memory.max").write_text("max")
        for _ in until(lambda: watching.stats().budget_bytes == 6 << 20):
            time.sleep(0.1)
        assert b"".join(map(store.read, range(store.page_count))) == image
        print("triggered", len(watching.stats().triggered))
print("shrank and grew")
"""


@pytest.fixture
def limited() -> Iterator[Path]:
    """Give a cgroup of version 2 whose memory may be limited."""
    folder = CGROUPS / f"pagestep-test-{os.getpid()}"
    try:
        controllers = (CGROUPS / "cgroup.controllers").read_text().split()
        if "memory" not in controllers:
            pytest.skip("no cgroup of version 2 here has the memory controller")
        folder.mkdir()
    except OSError as error:
        pytest.skip(f"no cgroup of version 2 can be made here: {error.strerror}")
    try:
        if not (folder / "memory.max").exists():
            pytest.skip("the memory controller is not given to new cgroups here")
        yield folder
    finally:
        folder.rmdir()


def test_real_pressure_in_a_cgroup(limited: Path) -> None:
    # On a disk: what is read of it is charged to the reader, and can be reclaimed.
    with tempfile.NamedTemporaryFile(dir="/var/tmp") as hog:
        for _ in range(64):
            hog.write(os.urandom(1 << 20))
        hog.flush()
        os.fsync(hog.fileno())
        os.posix_fadvise(hog.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        done = subprocess.run(
            [sys.executable, "-c", CHILD, str(limited), hog.name],
            capture_output=True,
            text=True,
            check=False,
            timeout=600,
        )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "shrank and grew" in done.stdout
