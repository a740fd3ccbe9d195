# SPDX-License-Identifier: MIT
"""Maps and what a process is: signals, forks, privileges, a kernel without userfaultfd.

Each case is a program of its own, for what it shows is how that ends. Where it is to be
without userfaultfd it puts a seccomp filter over itself, which answers that system call with
an error: so a container's default profile does, and a kernel built without.
"""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from pagestep import map_support

HERE = Path(__file__).parent
TIMEOUT_S = 60  # far beyond what any of it takes: none may hang

if map_support().reason is not None:
    pytest.skip(f"no memory faults in here: {map_support().reason}", allow_module_level=True)

START = """
import ctypes, faulthandler, gc, os, signal, struct, sys, threading
import numpy as np
import pagestep
from pagestep import *

PAGE, COUNT = 4096, 600
FLAT = (np.arange(COUNT * PAGE) * 7919 >> 9).astype(np.uint8)
path = sys.argv[1]
service = sys.argv[2]

def opened(**how):
    return PageStore.open(FLAT, ram="900KiB", **how)

def damaged():
    with open(path, "wb") as file:
        file.write(FLAT.tobytes())
    store = PageStore.open(path, ram="900KiB", base=0)
    store.read(5)  # from now on it knows what page 5 is
    store.page_out(5)
    store.discard(5)
    with open(path, "r+b") as file:
        file.seek(5 * PAGE)
        file.write(b"x" * PAGE)
    return store
"""


def run(tmp_path: Path, body: str, service: str = "sigbus") -> subprocess.CompletedProcess[str]:
    script = tmp_path / "case.py"
    script.write_text(START + body)
    return subprocess.run(
        [sys.executable, str(script), str(tmp_path / "image.bin"), service],
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )


def good(tmp_path: Path, body: str, service: str = "sigbus") -> str:
    """Return what a case printed that must end well."""
    ended = run(tmp_path, body, service)
    assert ended.stderr == ""
    assert ended.returncode == 0
    return ended.stdout


both = pytest.mark.parametrize("service", ["sigbus", "thread"])

# -- signals ------------------------------------------------------------------------------

LINE = "pagestep: SIGBUS: page 5 of object 0 cannot be brought in: "


@both
def test_without_a_guard_it_is_one_line_and_a_sigbus(tmp_path: Path, service: str) -> None:
    ended = run(tmp_path, "print(damaged().map(service=service)[5 * PAGE])", service)
    assert ended.returncode == -signal.SIGBUS
    assert ended.stdout == ""
    [line] = ended.stderr.splitlines()
    assert line.startswith(LINE)


@both
def test_faulthandler_tells_where(tmp_path: Path, service: str) -> None:
    body = """
faulthandler.enable()
array = damaged().map(service=service)
def touch_it():
    return array[5 * PAGE]
touch_it()
"""
    ended = run(tmp_path, body, service)
    assert ended.returncode == -signal.SIGBUS
    assert ended.stderr.startswith(LINE)
    assert "Fatal Python error: Bus error" in ended.stderr
    assert "in touch_it" in ended.stderr


def test_a_handler_that_was_there_gets_what_is_not_of_a_map(tmp_path: Path) -> None:
    # Python's handlers run later, so one that really mends something has to be in C: ctypes
    # makes one, which leaves the program in its own way.
    body = """
HANDLER = ctypes.CFUNCTYPE(None, ctypes.c_int)
handler = HANDLER(lambda number: os._exit(42))
libc = ctypes.CDLL(None)
libc.signal.argtypes = [ctypes.c_int, HANDLER]
libc.signal.restype = ctypes.c_void_p
libc.signal(signal.SIGBUS, handler)
store = damaged()
array = store.map()
assert array[9 * PAGE] == FLAT[9 * PAGE]
if service == "touch":
    array[5 * PAGE]
import mmap
with open(path, "r+b") as file:
    beyond = mmap.mmap(file.fileno(), 0)
    os.truncate(path, 0)
    beyond[0]
"""
    for how in ("sigbus", "touch"):
        ended = run(tmp_path, body, how)
        assert ended.returncode == 42
        assert ended.stderr.startswith(LINE if how == "touch" else "")


@both
def test_a_handler_that_mends_nothing_is_no_endless_loop(tmp_path: Path, service: str) -> None:
    body = """
signal.signal(signal.SIGBUS, lambda *_: None)  # runs when the touch is over, which it never is
store = damaged()
array = store.map(service=service)
assert array[9 * PAGE] == FLAT[9 * PAGE]
array[5 * PAGE]
"""
    ended = run(tmp_path, body, service)
    assert ended.returncode == -signal.SIGBUS
    assert 1 <= len(ended.stderr.splitlines()) <= 2
    assert ended.stderr.startswith(LINE)


def test_a_sigbus_that_was_sent_goes_to_pythons_handler(tmp_path: Path) -> None:
    body = """
seen = []
signal.signal(signal.SIGBUS, lambda number, frame: seen.append(number))
store = opened()
array = store.map()
os.kill(os.getpid(), signal.SIGBUS)
assert np.array_equal(array, FLAT)
assert seen == [signal.SIGBUS], seen
del array
os.kill(os.getpid(), signal.SIGBUS)
assert len(seen) == 2, "the handler is Python's again"
"""
    good(tmp_path, body)


def test_touches_by_pythons_handler_of_another_signal(tmp_path: Path) -> None:
    body = """
array = opened().map(service=service)
seen, ats = [], np.random.default_rng(1).integers(0, FLAT.size, 10**6)
def touch(*_):
    at = ats[len(seen)]
    seen.append(array[at] == FLAT[at])
signal.signal(signal.SIGALRM, touch)
signal.setitimer(signal.ITIMER_REAL, 0.001, 0.001)
while len(seen) < 100:
    assert np.array_equal(array, FLAT)
signal.setitimer(signal.ITIMER_REAL, 0)
assert all(seen)
"""
    good(tmp_path, body)


# -- forks --------------------------------------------------------------------------------


@both
def test_a_child_has_no_range_and_no_store(tmp_path: Path, service: str) -> None:
    body = """
store = opened()
array = store.map(service=service)
assert array[0] == FLAT[0]
def child(what):
    pid = os.fork()
    if not pid:
        try:
            what()
        except ForkedError as error:
            assert "forked" in str(error)
            os._exit(7)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
assert child(lambda: array[5]) == -signal.SIGSEGV
assert child(lambda: store.read(0)) == 7
assert child(lambda: array.mapping.prefetch(0, 1)) == 7
assert child(lambda: array.mapping.detach()) == 7
assert child(lambda: store.map()) == 7
assert child(lambda: array.mapping.held(0, 1).__enter__()) == 7
def opens_its_own():
    with opened() as own:
        assert np.array_equal(own.map(service=service), FLAT)
assert child(opens_its_own) == 0
assert np.array_equal(array, FLAT), "the parent goes on"
"""
    good(tmp_path, body, service)


@both
def test_a_child_ends_as_any_process(tmp_path: Path, service: str) -> None:
    body = """
store = opened()
array = store.map(service=service)
stop = False
def touch():
    while not stop:
        assert np.array_equal(array, FLAT)
thread = threading.Thread(target=touch)
thread.start()
for _ in range(10):
    pid = os.fork()
    if not pid:
        sys.exit(3)  # with all that ends an interpreter
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 3
stop = True
thread.join()
"""
    good(tmp_path, body, service)


def test_subprocesses_work(tmp_path: Path) -> None:
    body = """
import subprocess
array = opened().map(service=service)
assert array[0] == FLAT[0]
assert subprocess.run([sys.executable, "-c", "print(5)"], capture_output=True).stdout == b"5\\n"
assert np.array_equal(array, FLAT)
"""
    good(tmp_path, body)


# -- what the system allows ---------------------------------------------------------------

UNPRIVILEGED = """
# All that is needed was imported: the folders it lies in may not be for everybody.
assert os.getuid() == 0
os.setgroups([])
os.setresgid(65534, 65534, 65534)
os.setresuid(65534, 65534, 65534)
# One that was started so has its own /proc files; after a change of user this does that.
ctypes.CDLL(None).prctl(4, 1, 0, 0, 0)  # PR_SET_DUMPABLE
"""


@both
@pytest.mark.skipif("os.getuid() != 0", reason="only root can become somebody else")
def test_an_unprivileged_user_has_maps(tmp_path: Path, service: str) -> None:
    body = (
        UNPRIVILEGED
        + """
support = map_support()
assert support.reason is None, support
assert support.sigbus and support.thread and not support.system_calls, support
with opened() as store, store.anonymous(900) as memory:
    array = store.map(service=service)
    assert np.array_equal(array, FLAT)
    other = memory.map(writable=True, service=service)
    other[:] = 5
    assert (other == 5).all()
    assert not array.mapping.stats().in_system_calls
    reader, writer = os.pipe()
    array.mapping.detach()
    try:
        os.write(writer, array[7 * PAGE:][:10])
    except OSError as error:
        assert error.errno == 14, error
    else:
        raise AssertionError("a system call was served without a privilege")
    with array.mapping.held(7, 1):
        assert os.write(writer, array[7 * PAGE:][:10]) == 10
    print(store.stats().used_bytes_max <= store.stats().budget_bytes)
"""
    )
    assert good(tmp_path, body, service) == "True\n"


NO_USERFAULTFD = """
def without_userfaultfd(error):
    # struct sock_filter: load the number of the system call; if it is userfaultfd (323 on
    # x86-64, 282 elsewhere), the error, else allow.
    number = 323 if os.uname().machine == "x86_64" else 282
    refused, allowed = (6, 0, 0, 0x50000 | error), (6, 0, 0, 0x7FFF0000)
    code = [(0x20, 0, 0, 0), (0x15, 0, 1, number), refused, allowed]
    filter = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *each) for each in code))
    program = struct.pack("HxxxxxxP", len(code), ctypes.addressof(filter))
    libc = ctypes.CDLL(None, use_errno=True)
    assert libc.prctl(38, 1, 0, 0, 0) == 0  # PR_SET_NO_NEW_PRIVS
    assert libc.prctl(22, 2, program, 0, 0) == 0, ctypes.get_errno()  # PR_SET_SECCOMP, filter
"""


@pytest.mark.parametrize(
    ("number", "said"),
    [
        (38, "has no userfaultfd, or a seccomp filter hides it"),  # ENOSYS
        (1, "not permitted; in a container its seccomp profile must allow it"),  # EPERM
        (24, "userfaultfd(2) does not work (Too many open files)"),  # EMFILE: none of its own
    ],
)
def test_without_userfaultfd_it_says_why(tmp_path: Path, number: int, said: str) -> None:
    body = (
        NO_USERFAULTFD
        + f"""
without_userfaultfd({number})
if os.getuid() == 0:  # who would have it from /dev/userfaultfd
    os.setresuid(65534, 65534, 65534)
support = map_support()
assert not support.sigbus and not support.thread
store = opened()
for how in ({{}}, {{"service": "thread"}}, {{"writable": True}}):
    try:
        store.map(**how)
    except MapUnsupported as error:
        assert str(error) == "buffer cannot be mapped: " + support.reason
        assert isinstance(error, Unsupported)
    else:
        raise AssertionError("it was mapped")
assert store.read(5) == FLAT[5 * PAGE : 6 * PAGE].tobytes()
print(support.reason)
"""
    )
    assert said in good(tmp_path, body)


@pytest.mark.skipif(
    "not os.access('/dev/userfaultfd', os.R_OK | os.W_OK)",
    reason="there is no /dev/userfaultfd here",
)
@both
def test_where_only_the_call_is_refused_the_device_does(tmp_path: Path, service: str) -> None:
    body = (
        NO_USERFAULTFD
        + "without_userfaultfd(1)"
        + """
assert map_support().reason is None
assert np.array_equal(opened().map(service=service), FLAT)
"""
    )
    good(tmp_path, body, service)


def test_too_many_open_files_is_said(tmp_path: Path) -> None:
    body = """
import resource
store = opened()
low = max(int(n) for n in os.listdir("/proc/self/fd")) + 1
resource.setrlimit(resource.RLIMIT_NOFILE, (low, low))
free = [os.dup(0) for _ in range(low - len(os.listdir("/proc/self/fd")) + 1 - 1)]
try:
    store.map()
except (MapUnsupported, SystemMemoryError) as error:
    print(error)
"""
    assert "open files" in good(tmp_path, body)


# -- backings that are slow, stuck or dead ------------------------------------------------

PAGER = f"""
sys.path.insert(0, {str(HERE.parent / "pager")!r})
control = path + ".fault"
def fault(name):
    with open(control + ".new", "w") as file:
        file.write(name)
    os.replace(control + ".new", control)
def swapped(timeout):
    store = opened(swap=f"python:faults:faulty?control={{control}}&timeout={{timeout}}")
    array = store.map(writable=True, service=service)
    chance = np.random.default_rng(3)
    array[:] = chance.integers(0, 256, array.size, np.uint8)  # far more than the budget
    store.flush()
    return store, array, np.random.default_rng(3).integers(0, 256, array.size, np.uint8)
"""


@both
def test_a_stuck_pager_is_an_error_by_its_deadline(tmp_path: Path, service: str) -> None:
    body = (
        PAGER
        + """
import time
store, array, expected = swapped(1)
fault("hangs")
errors = []
def touch(which):
    try:
        with array.mapping.guarded():
            int(array[which * PAGE])
    except BackingTimeout as error:
        errors.append(error)
absent = [n for n in range(COUNT) if n % 97 == 0]
begun = time.monotonic()
threads = [threading.Thread(target=touch, args=(which,)) for which in absent]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
assert errors, "nobody had to wait"
assert time.monotonic() - begun < 30
assert "page " in str(errors[0]) and "in time" in str(errors[0]), errors[0]
print("ok")
os._exit(0)  # its pager is stuck for an hour
"""
    )
    assert good(tmp_path, body, service) == "ok\n"


def test_a_pager_that_dies_is_an_error_and_comes_back(tmp_path: Path) -> None:
    body = (
        PAGER
        + """
import time
store, array, expected = swapped(2)
fault("dies")
try:
    with array.mapping.guarded():
        np.array(array[: 100 * PAGE])
except StoreIOError as error:
    assert error.page_no is not None
    print(type(error).__name__)
else:
    raise AssertionError("nothing failed")
fault("")
end = time.monotonic() + 30
while True:
    try:
        with array.mapping.guarded():
            same = np.array_equal(array, expected)
        break
    except StoreIOError:
        assert time.monotonic() < end
        time.sleep(0.1)
assert same
"""
    )
    assert good(tmp_path, body) in ("BackingLost\n", "BackingTimeout\n")
