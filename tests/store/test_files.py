# SPDX-License-Identifier: MIT
from __future__ import annotations

import errno
import os
import signal
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from pagestep.store._files import WrittenBeside


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A file that is there before, alone in its folder."""
    path = tmp_path / "out.rom"
    path.write_bytes(b"old")
    return path


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def names_beside(path: Path) -> list[str]:
    return sorted(each.name for each in path.parent.iterdir())


def write_and_raise(path: Path, error: BaseException) -> None:
    with WrittenBeside(path) as file:
        file.write(b"new")
        raise error


def test_the_old_file_stands_until_the_end(path: Path) -> None:
    with WrittenBeside(path) as file:
        file.write(b"new" * 100_000)
        file.flush()
        assert path.read_bytes() == b"old"
        assert len(names_beside(path)) == 2
    assert path.read_bytes() == b"new" * 100_000
    assert names_beside(path) == ["out.rom"]


def test_a_new_file_appears_at_the_end(path: Path) -> None:
    path.unlink()
    with WrittenBeside(str(path)) as file:
        file.write(b"new")
        assert not path.exists()
    assert path.read_bytes() == b"new"


@pytest.mark.parametrize("error", [ValueError("no"), KeyboardInterrupt()])
def test_an_exception_leaves_the_old_file_alone(path: Path, error: BaseException) -> None:
    with pytest.raises(type(error)):
        write_and_raise(path, error)
    assert path.read_bytes() == b"old"
    assert names_beside(path) == ["out.rom"]


def test_an_exception_leaves_no_new_file(path: Path) -> None:
    path.unlink()
    with pytest.raises(ValueError, match="no"):
        write_and_raise(path, ValueError("no"))
    assert names_beside(path) == []


KILLED = """
import os, signal, sys
from pagestep.store._files import WrittenBeside
with WrittenBeside(sys.argv[1]) as file:
    for _ in range(100):
        file.write(bytes(1 << 16))
    file.flush()
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_kill_in_mid_write_leaves_the_old_file(path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", KILLED, path], check=False, timeout=60)
    assert done.returncode == -signal.SIGKILL
    assert path.read_bytes() == b"old"
    left, old = names_beside(path)
    assert (left[: len(".pagestep-")], old) == (".pagestep-", "out.rom")
    assert (path.parent / left).stat().st_size == 100 << 16, "it was killed in mid-write"
    with WrittenBeside(path) as file:
        file.write(b"new")
    assert path.read_bytes() == b"new", "what a kill left is in nobody's way"


@pytest.mark.parametrize("last", [b"x", b"x" * 100_000])
def test_a_full_disk_leaves_the_old_file(path: Path, last: bytes) -> None:
    full = WrittenBeside(path)
    # From now on its bytes go where there is never room: when they are written, or at the end.
    device = os.open("/dev/full", os.O_WRONLY)
    os.dup2(device, full.file.fileno())
    os.close(device)
    with pytest.raises(OSError, match=os.strerror(errno.ENOSPC)), full as file:
        file.write(last)
    assert path.read_bytes() == b"old"
    assert names_beside(path) == ["out.rom"]


def test_what_cannot_be_renamed_leaves_nothing(path: Path) -> None:
    path.unlink()
    beside = WrittenBeside(path)
    path.mkdir()
    with pytest.raises(IsADirectoryError):
        beside.keep()
    assert names_beside(path) == ["out.rom"]


@pytest.mark.parametrize("mask", [0o000, 0o022, 0o077])
def test_a_new_file_has_the_permissions_of_any(path: Path, mask: int) -> None:
    path.unlink()
    before = os.umask(mask)
    try:
        with WrittenBeside(path):
            pass
    finally:
        os.umask(before)
    assert mode_of(path) == 0o666 & ~mask


@pytest.mark.parametrize("mode", [0o600, 0o640, 0o777, 0o444])
def test_the_permissions_of_the_old_file_stay(path: Path, mode: int) -> None:
    path.chmod(mode)
    with WrittenBeside(path) as file:
        file.write(b"new")
    assert (mode_of(path), path.read_bytes()) == (mode, b"new")


def test_a_symbolic_link_stays_and_its_target_is_replaced(path: Path) -> None:
    folder = path.parent / "elsewhere"
    folder.mkdir()
    target = path.rename(folder / "target")
    path.symlink_to(target)
    with WrittenBeside(path) as file:
        file.write(b"new")
        assert len(names_beside(target)) == 2, "on the target's file system, not the link's"
    assert path.is_symlink()
    assert target.read_bytes() == b"new"


def test_a_pipe_is_written_to_and_not_replaced(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)
    found: list[bytes] = []
    reader = threading.Thread(target=lambda: found.append(path.read_bytes()), daemon=True)
    reader.start()
    with WrittenBeside(path) as file:
        file.write(b"new")
    reader.join(timeout=60)
    assert found == [b"new"]
    assert stat.S_ISFIFO(path.stat().st_mode)


def test_a_folder_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    with pytest.raises(IsADirectoryError):
        WrittenBeside(tmp_path)
    with pytest.raises(FileNotFoundError):
        WrittenBeside(tmp_path / "none" / "out.rom")
    assert names_beside(tmp_path / "x") == []


def test_the_longest_name_is_no_trouble(tmp_path: Path) -> None:
    path = tmp_path / ("n" * 255)
    with WrittenBeside(path) as file:
        file.write(b"new")
    assert path.read_bytes() == b"new"


def test_to_keep_or_discard_again_is_no_error(path: Path) -> None:
    kept = WrittenBeside(path)
    kept.file.write(b"new")
    kept.keep()
    kept.keep()
    kept.discard()
    assert path.read_bytes() == b"new"
    dropped = WrittenBeside(path)
    dropped.file.write(b"newer")
    dropped.discard()
    dropped.discard()
    dropped.keep()
    assert path.read_bytes() == b"new"
    assert names_beside(path) == ["out.rom"]
