# SPDX-License-Identifier: MIT
"""The pager's process: what it keeps, and what becomes of it and its askers when things fail."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pagestep import (
    BackingFull,
    BackingLost,
    BackingTimeout,
    Closed,
    InvalidArgument,
    StoreIOError,
    Unsupported,
)
from pagestep.store.pager import BackingStore, Pager, open_url

from .servers import until

DEADLINE_S = 1.0


class Faulty:
    """A pager over the store with faults, and the way to set them."""

    def __init__(self, folder: Path) -> None:
        self._control = folder / "fault"
        self.url = f"python:faults:faulty?control={self._control}"
        self.pager = Pager(self.url, deadline_s=DEADLINE_S, max_blob=4128)

    def fault(self, name: str) -> None:
        beside = self._control.with_suffix(".new")
        beside.write_text(name)
        beside.replace(self._control)


@pytest.fixture
def faulty(factories: None, tmp_path: Path) -> Iterator[Faulty]:
    found = Faulty(tmp_path)
    with found.pager:
        yield found


# -- what it does -------------------------------------------------------------------------


def test_pages_are_kept_and_given_back() -> None:
    with Pager("ram:?size=1MiB") as pager:
        assert isinstance(pager, BackingStore)
        assert pager.put([(7, b"seven"), (2**64 - 2, b"last")]) == [None, None]
        assert pager.get([2**64 - 2, 8, 7]) == [b"last", None, b"seven"]
        assert pager.present(6, 3) == [False, True, False]
        assert pager.capacity() == (1 << 20, 9)
        pager.discard(0, 100)
        pager.flush()
        assert pager.get([7]) == [None]


def test_a_full_store_says_so_for_the_pages_that_do_not_go_in() -> None:
    with Pager("ram:?size=6000") as pager:
        first, second = pager.put([(1, bytes(4000)), (2, bytes(4000))])
        assert first is None
        assert isinstance(second, BackingFull)
        assert "raise" in str(second) or "larger size=" in str(second)
        assert pager.get([1, 2]) == [bytes(4000), None]


@given(
    steps=st.lists(
        st.tuples(
            st.sampled_from(["put", "discard"]),
            st.integers(0, 40),
            st.integers(1, 12),
            st.binary(min_size=1, max_size=64),
        ),
        max_size=20,
    )
)
@settings(max_examples=25, deadline=None)
def test_it_is_a_dictionary(steps: list[tuple[str, int, int, bytes]]) -> None:
    model: dict[int, bytes] = {}
    pager = shared_ram()
    pager.discard(0, 100)
    for verb, first, count, blob in steps:
        run = range(first, first + count)
        if verb == "put":
            assert pager.put([(n, blob) for n in run]) == [None] * count
            model |= dict.fromkeys(run, blob)
        else:
            pager.discard(first, count)
            model = {n: kept for n, kept in model.items() if n not in run}
    assert pager.get(range(60)) == [model.get(n) for n in range(60)]
    assert pager.present(0, 60) == [n in model for n in range(60)]


_SHARED: list[Pager] = []


def shared_ram() -> Pager:
    if not _SHARED:
        _SHARED.append(Pager("ram:"))
    return _SHARED[0]


@pytest.fixture(scope="module", autouse=True)
def _close_shared() -> Iterator[None]:
    yield
    while _SHARED:
        _SHARED.pop().close()


def test_it_inherits_nothing_but_its_socket(tmp_path: Path) -> None:
    ours = os.open(tmp_path, os.O_RDONLY)
    os.set_inheritable(ours, True)
    with Pager("ram:") as pager:
        folder = Path(f"/proc/{pager.pid}/fd")
        names = [os.readlink(path) for path in folder.iterdir()]
        os.close(ours)
        assert sum(name.startswith("socket:") for name in names) == 1
        assert not [name for name in names if str(tmp_path) in name]


# -- faults, by name ----------------------------------------------------------------------


def test_full(faulty: Faulty) -> None:
    faulty.fault("full")
    found = faulty.pager.put([(n, b"x") for n in range(4)])
    assert [type(each) for each in found] == [type(None)] * 2 + [BackingFull] * 2
    assert faulty.pager.get(range(4)) == [b"x", b"x", None, None]


def test_slow_within_the_deadline(faulty: Faulty) -> None:
    faulty.fault("slow 100")
    assert faulty.pager.put([(1, b"x")]) == [None]
    assert faulty.pager.get([1]) == [b"x"]


def test_slow_beyond_the_deadline_and_quick_again(faulty: Faulty) -> None:
    faulty.pager.put([(1, b"old"), (2, b"two")])
    faulty.fault("slow 1600")
    [error] = faulty.pager.put([(1, b"late")])
    assert isinstance(error, BackingTimeout)
    faulty.fault("")
    # The late put is under way: what follows it of the same page must not overtake it.
    assert faulty.pager.get([2]) == [b"two"]
    assert faulty.pager.put([(1, b"new")]) == [None]
    assert faulty.pager.get([1]) == [b"new"]
    time.sleep(1.0)
    assert faulty.pager.get([1]) == [b"new"]


def test_hangs(faulty: Faulty) -> None:
    faulty.fault("hangs")
    start = time.monotonic()
    [error] = faulty.pager.get([1])
    assert isinstance(error, BackingTimeout)
    assert time.monotonic() - start < 10 * DEADLINE_S
    faulty.fault("")
    assert faulty.pager.get([2]) == [None]


def test_dies_and_comes_back(faulty: Faulty) -> None:
    pager = faulty.pager
    assert pager.put([(1, b"kept")]) == [None]
    first = pager.pid
    faulty.fault("dies")
    [error] = pager.get([1])
    assert isinstance(error, BackingLost)
    assert error.__class__.__mro__.index(ConnectionError)
    faulty.fault("")
    until(lambda: pager.is_connected and pager.restarts > 0)
    assert pager.pid != first
    assert pager.get([1]) == [b"kept"]


def test_torn(faulty: Faulty) -> None:
    faulty.fault("torn")
    [error] = faulty.pager.put([(1, b"12345678")])
    assert isinstance(error, BackingLost)
    faulty.fault("")
    until(lambda: faulty.pager.is_connected)
    assert faulty.pager.get([1]) == [b"1234"]  # it was never acknowledged
    assert faulty.pager.put([(1, b"12345678")]) == [None]
    assert faulty.pager.get([1]) == [b"12345678"]


def test_what_only_a_checksum_can_tell_comes_through(faulty: Faulty) -> None:
    faulty.pager.put([(1, b"one"), (2, b"two")])
    faulty.fault("wrong_bytes")
    assert faulty.pager.get([1]) == [b"nne"]
    faulty.fault("wrong_page")
    assert faulty.pager.get([1]) == [b"two"]
    faulty.fault("loses")
    assert faulty.pager.put([(1, b"new")]) == [None]
    assert faulty.pager.get([1]) == [b"one"]


def test_an_exception_of_the_store_arrives_with_its_name(faulty: Faulty) -> None:
    faulty.fault("raises")
    [error] = faulty.pager.get([1])
    assert isinstance(error, StoreIOError)
    assert "page 1" in str(error)
    assert "ZeroDivisionError: a fault of the store's own" in str(error)
    faulty.fault("")
    assert faulty.pager.get([1]) == [None]


def test_a_store_that_answers_for_too_few_pages(factories: None, tmp_path: Path) -> None:
    with Pager(f"python:faults:too_few?folder={tmp_path}", max_blob=4128) as pager:
        for error in pager.get([1, 2]):
            assert isinstance(error, StoreIOError)
            assert "answered for 1 pages" in str(error)


# -- processes ----------------------------------------------------------------------------


def test_a_killed_pager_whose_pages_were_in_its_ram_stays_lost() -> None:
    with Pager("ram:") as pager:
        pager.put([(1, b"x")])
        os.kill(pager.pid, signal.SIGKILL)
        until(lambda: not pager.is_connected or isinstance(pager.get([1])[0], BackingLost))
        [error] = pager.get([1])
        assert isinstance(error, BackingLost)
        assert pager.restarts == 0


def test_a_stopped_pager_is_waited_for_until_the_deadline(faulty: Faulty) -> None:
    pager = faulty.pager
    pager.put([(1, b"x")])
    os.kill(pager.pid, signal.SIGSTOP)
    [error] = pager.get([1])
    assert isinstance(error, BackingTimeout)
    os.kill(pager.pid, signal.SIGCONT)
    until(lambda: pager.get([1]) == [b"x"])


def test_threads_wait_side_by_side(faulty: Faulty) -> None:
    faulty.pager.put([(n, bytes([n])) for n in range(1, 9)])
    faulty.fault("slow 300")
    found: dict[int, object] = {}

    def get(page_no: int) -> None:
        found[page_no] = faulty.pager.get([page_no])

    threads = [threading.Thread(target=get, args=(n,)) for n in range(1, 9)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    # One after another they would have taken 2.4 s, and most would have been too late.
    assert found == {n: [bytes([n])] for n in range(1, 9)}


def test_a_forked_child_cannot_use_its_parents_socket() -> None:
    code = """
import os
from pagestep import BackingLost
from pagestep.store.pager import Pager
pager = Pager("ram:")
pager.put([(1, b"x")])
child = os.fork()
if child == 0:
    os._exit(0 if isinstance(pager.get([1])[0], BackingLost) else 1)
assert os.waitpid(child, 0)[1] == 0
assert pager.get([1]) == [b"x"]
pager.close()
"""
    subprocess.run([sys.executable, "-P", "-W", "ignore", "-c", code], check=True, timeout=60)


PARENT = """
import signal, sys, time
from pagestep.store.pager import Pager
signal.signal(signal.SIGINT, signal.default_int_handler)  # a background job ignores it
pager = Pager("ram:")
print(pager.pid, flush=True)
pager.put([(1, b"x")])
try:
    time.sleep(60)
except KeyboardInterrupt:
    print(pager.get([1]), flush=True)
    pager.close()
    print(pager.get, flush=True)
"""


def parent() -> tuple[subprocess.Popen[str], int]:
    process = subprocess.Popen(
        [sys.executable, "-P", "-c", PARENT],
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert process.stdout is not None
    return process, int(process.stdout.readline())


def is_running(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


def test_ctrl_c_in_the_parent_leaves_the_pager_until_it_is_closed() -> None:
    process, pid = parent()
    with process:
        time.sleep(0.2)
        os.killpg(process.pid, signal.SIGINT)
        out, _ = process.communicate(timeout=30)
        assert out.startswith("[b'x']")
        assert process.returncode == 0
    until(lambda: not is_running(pid))


def test_it_ends_when_its_parent_is_killed() -> None:
    process, pid = parent()
    with process:
        process.kill()
        process.communicate(timeout=30)
    until(lambda: not is_running(pid))


def test_close_ends_the_process_and_every_later_call() -> None:
    pager = Pager("ram:")
    pid = pager.pid
    pager.close()
    pager.close()
    assert not is_running(pid)
    with pytest.raises(Closed):
        pager.get([1])
    assert repr(pager) == "<Pager: closed>"


# -- URLs ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "kind", "says"),
    [
        ("ram:?sise=1", InvalidArgument, "sise"),
        ("ram:?size=much", InvalidArgument, "much"),
        ("nothing:here", InvalidArgument, "redis"),
        ("plain", InvalidArgument, "no URL"),
        ("python:no.such.module:x", InvalidArgument, "no.such"),
        ("python:faults:not_a_store", InvalidArgument, "BackingStore"),
        ("redis://127.0.0.1:1/", InvalidArgument, "namespace"),
        ("redis://127.0.0.1:1/?namespace=a/b", InvalidArgument, "a/b"),
        ("redis+cluster://nohost?namespace=a", InvalidArgument, "host:port"),
        ("redis://u:secret@127.0.0.1:1/?namespace=a", BackingLost, "u@127.0.0.1:1"),
    ],
)
def test_a_bad_url_is_told_by_the_process(
    factories: None, url: str, kind: type[Exception], says: str
) -> None:
    with pytest.raises(kind, match=says) as told:
        Pager(url)
    assert "secret" not in str(told.value)
    assert "\n" not in str(told.value)


def test_a_store_in_this_process() -> None:
    store = open_url("ram:?size=1MiB", 1.0)
    assert isinstance(store, BackingStore)
    assert store.put([(1, b"x")]) == [None]


def test_a_store_of_pages_has_no_file() -> None:
    with Pager("ram:") as pager:
        [error] = pager.read([(0, 1)])
        assert isinstance(error, Unsupported)
