# SPDX-License-Identifier: MIT
"""Pools: memory that is asked for and given back block by block, within a store's budget."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, NoReturn

from pagestep.codecs.closing import Closing
from pagestep.codecs.errors import (
    BudgetExceeded,
    Closed,
    InvalidArgument,
    NotABlock,
    PoolExhausted,
    error_for,
)
from pagestep.store.policy import Level

from ._binding import check, ffi, lib, readable, writable
from ._size import parse_size, show_size

if TYPE_CHECKING:
    from pagestep.codecs.buffers import AnyBuffer

__all__ = ["NonPagedPool", "PagedPool", "PoolBlock", "PoolStats"]

_RESERVE_MAX = 2**32 - 1
_NOWHERE = 2**64 - 1

_REMEDIES = {
    lib.PGS_E_HEAP_DOUBLE_FREE: "it was freed before; free it once",
    lib.PGS_E_HEAP_USE_AFTER_FREE: "it was freed before; keep it until its last use",
    lib.PGS_E_HEAP_NOT_A_BLOCK: "this pool never gave it out",
}


@dataclass(frozen=True)
class PoolStats:
    """What a pool holds now, and what it has done since it was opened.

    Attributes:
        size_bytes: Bytes of the pool.
        block_count: Blocks that are allocated.
        used_bytes: Bytes of blocks, as they were asked for.
        used_bytes_max: The most they ever were.
        free_bytes: Bytes in free runs. What is missing to ``size_bytes`` is rounding to 16
            bytes, guards, and what is just being freed.
        free_runs: How many free runs there are.
        largest_bytes: The largest block that could be had now.
        metadata_bytes: What it takes of the store's metadata: a non-paged pool's bytes, and
            32 bytes for each block and each free run, paid for 4 KiB at a time.
        allocations: Blocks that were ever allocated.
        frees: Blocks that were ever freed.
        refusals: Allocations that failed.
    """

    size_bytes: int
    block_count: int
    used_bytes: int
    used_bytes_max: int
    free_bytes: int
    free_runs: int
    largest_bytes: int
    metadata_bytes: int
    allocations: int
    frees: int
    refusals: int

    @property
    def fragmentation(self) -> float:
        """The part of the free bytes that the largest block cannot have, from 0 to 1."""
        return 1 - self.largest_bytes / self.free_bytes if self.free_bytes else 0.0

    def as_dict(self) -> dict[str, Any]:
        """Return everything as plain numbers, ready for JSON."""
        return asdict(self) | {"fragmentation": self.fragmentation}


class PoolBlock:
    """A block of a pool. Made by ``alloc``; it stays until it is freed, or its pool closed.

    Attributes:
        pool: The pool that it is of.
        handle: The number that it has in the C interface.
        size: Bytes, as they were asked for.
        offset: Where it lies, in bytes from the pool's first.
    """

    __slots__ = ("handle", "offset", "pool", "size")

    def __init__(self, pool: _Pool, handle: int, offset: int, size: int) -> None:
        """Stand for a block that the pool has allocated."""
        self.pool = pool
        self.handle = handle
        self.offset = offset
        self.size = size

    def __len__(self) -> int:
        """Return its size in bytes."""
        return self.size

    def __repr__(self) -> str:
        """Say how large it is and where it lies."""
        return f"<block of {self.size} bytes at {self.offset} of {self.pool.name}>"

    def read(self, offset: int = 0, size: int | None = None) -> bytes:
        """Return ``size`` bytes from ``offset`` on, all to its end unless said.

        Raises:
            PoolOverrun: They do not lie in the block.
            UseAfterFree: It was freed before.
            Closed: Its pool, or the store, is closed.
        """
        count = max(0, self.size - max(0, offset)) if size is None else size
        if count < 0:
            raise InvalidArgument(f"size is {size}: it cannot be negative")
        # More than the block has is refused before a byte is written.
        room = ffi.new("unsigned char[]", min(count, self.size))
        self._transfer(lib.pgs_heap_read, offset, room, count, "read")
        return bytes(ffi.buffer(room))

    def read_into(self, out: AnyBuffer, offset: int = 0) -> None:
        """Read as many bytes as ``out``, a writable and contiguous buffer, has; as ``read``."""
        target = writable(out, "out")
        self._transfer(lib.pgs_heap_read, offset, target, len(target), "read")

    def write(self, data: AnyBuffer, offset: int = 0) -> None:
        """Write bytes at ``offset``.

        Raises:
            BudgetExceeded: No frame can be had; what lies on pages before is written.
            PageStepError: What ``read`` raises.
        """
        source = readable(data, "data")
        self._transfer(lib.pgs_heap_write, offset, source, len(source), "written")

    def view(self) -> memoryview:
        """Return the block's bytes in RAM, writable, without a copy. Non-paged pools only.

        What is written through it after the block was freed is an error that ``check`` finds.
        The memory itself stays as long as the view does, even if the pool is closed.

        Raises:
            Unsupported: The pool is paged: its pages move.
            UseAfterFree: The block was freed before.
        """
        heap = self.pool.core
        address = ffi.new("void **")
        code = lib.pgs_heap_address(heap, self.handle, address)
        if code == lib.PGS_E_UNSUPPORTED:
            raise error_for(
                code, f"{self!r} has no view, as its pages move; read it, or use a non-paged pool"
            )
        _check_block(code, self, "has no view")
        start = ffi.gc(ffi.cast("unsigned char *", address[0]), _keeper(heap))
        return memoryview(ffi.buffer(start, self.size))

    def free(self) -> None:
        """Free it; see ``PagedPool.free``."""
        self.pool.free(self)

    def _transfer(self, move: Any, offset: int, data: Any, size: int, verb: str) -> None:
        at = offset if 0 <= offset < _NOWHERE else _NOWHERE
        code = move(self.pool.core, self.handle, at, data, min(size, _NOWHERE))
        if code == lib.PGS_E_HEAP_OVERRUN:
            raise error_for(
                code,
                f"{size} bytes at offset {offset} do not lie in {self!r}; nothing was {verb}",
            )
        _check_block(code, self, f"cannot be {verb}")


def _check_block(code: int, block: PoolBlock, what: str) -> None:
    if code in _REMEDIES:
        raise error_for(code, f"{block!r} {what}: {_REMEDIES[code]}")
    check(code, f"{block!r} {what}")


class _Pool(Closing):
    """What both kinds of pool do. Every method may be called from any thread."""

    kind = ""

    def __init__(
        self,
        store: Any,
        open_store: list[Any],
        params: Any,
        size: int | str,
        block_reserve: int,
    ) -> None:
        self.size: int = parse_size(size, "size")
        self.name = f"a {self.kind} pool of {show_size(self.size)}"
        if not 0 <= block_reserve <= _RESERVE_MAX:
            raise InvalidArgument(f"block_reserve is {block_reserve}: 0 to {_RESERVE_MAX} blocks")
        params.struct_size = ffi.sizeof("struct pgs_heap_params")
        params.size_bytes = self.size
        params.block_reserve = block_reserve
        handle = ffi.new("pgs_heap **")
        code = lib.pgs_heap_open(store, params, handle)
        if code == lib.PGS_E_INVALID:
            raise InvalidArgument(f"size is {self.size} bytes: a pool has 1 byte to 64 GiB")
        if code == lib.PGS_E_BUDGET:
            raise BudgetExceeded(
                f"{self.name} does not fit the store's RAM budget: raise `ram`, or ask for less"
            )
        check(code, f"{self.name} cannot be opened")
        # The heap must go before the core: its closer keeps that until then.
        self._handle: Any = ffi.gc(handle[0], _closer(store, open_store))
        self.size = self.stats().size_bytes

    def close(self) -> None:
        """Close the pool with all its blocks. Views stay valid. A second call does nothing.

        In an atomic section, which must not wait, its RAM is given back with the store only.
        """
        self._handle = None

    def __repr__(self) -> str:
        """Say what it is and how full."""
        if self._handle is None:
            return f"<{self.name}: closed>"
        stats = self.stats()
        return f"<{self.name}: {stats.block_count} blocks, {show_size(stats.free_bytes)} free>"

    @property
    def core(self) -> Any:
        """The ``pgs_heap *`` itself, for those who call the C interface beside this one."""
        handle = self._handle
        if handle is None:
            raise Closed(f"{self.name} is closed, or its store is; open another")
        return handle

    def alloc(self, size: int | str, *, align: int = 16) -> PoolBlock:
        """Allocate a block. Which bytes it holds is not specified.

        Args:
            size: Bytes, 1 to the pool's size.
            align: A power of two up to the page size: the block begins at a multiple of it.

        Raises:
            PoolExhausted: No free run can hold it: says what there is.
            BudgetExceeded: The store has no RAM for the block's 32 bytes of metadata.
            InvalidArgument: No pool of this size could hold it, or there is no such alignment.
        """
        count = parse_size(size, "size")
        heap = self.core
        block = ffi.new("uint64_t *")
        code = lib.pgs_heap_alloc(heap, count, align if 0 < align < 2**32 else 0, block)
        if code == lib.PGS_E_HEAP_EXHAUSTED:
            self._raise_exhausted(count, align)
        if code == lib.PGS_E_INVALID:
            raise InvalidArgument(
                f"{self.name} cannot allocate {count} bytes at multiples of {align}: from 1 byte "
                "to what it holds when empty, at a power of two up to the page size"
            )
        check(code, f"{self.name} cannot allocate {count} bytes")
        where = ffi.new("struct pgs_heap_block *")
        check(lib.pgs_heap_block(heap, block[0], where), "a new block cannot be found")
        return PoolBlock(self, int(block[0]), int(where.offset_bytes), count)

    def free(self, block: PoolBlock) -> None:
        """Free a block. Pages that are free from end to end afterwards take no RAM.

        Raises:
            DoubleFree: It was freed before.
            NotABlock: It is of another pool.
            PoolOverrun: Bytes behind it were written through a view. It is not freed.
        """
        if block.pool is not self:
            raise NotABlock(f"{block!r} is not of this pool; free it where it was allocated")
        code = lib.pgs_heap_free(self.core, block.handle)
        if code == lib.PGS_E_HEAP_OVERRUN:
            self._raise_overrun(block)
        _check_block(code, block, "cannot be freed")

    def check(self) -> None:
        """Look for bytes that were written through a view where they should not have been.

        Of a paged pool there are no views, and nothing to be found. Other calls wait meanwhile.

        Raises:
            PoolOverrun: The guard behind a block was written to.
            UseAfterFree: Free memory was.
        """
        block, at = ffi.new("uint64_t *"), ffi.new("uint64_t *")
        heap = self.core
        code = lib.pgs_heap_check(heap, block, at)
        if code == lib.PGS_E_HEAP_OVERRUN:
            where = ffi.new("struct pgs_heap_block *")
            lib.pgs_heap_block(heap, block[0], where)
            self._raise_overrun(
                PoolBlock(self, int(block[0]), int(where.offset_bytes), int(where.size_bytes))
            )
        if code:
            raise error_for(
                code,
                f"byte {int(at[0])} of {self.name} was written to while it was free: somebody "
                "kept a view of a block that was freed",
            )

    def stats(self) -> PoolStats:
        """Take a snapshot of what the pool holds and has done."""
        raw = ffi.new("struct pgs_heap_stats *")
        lib.pgs_heap_stats(self.core, raw)
        return PoolStats(**{name: int(getattr(raw, name)) for name in _STATS})

    def _raise_exhausted(self, size: int, align: int) -> NoReturn:
        stats = self.stats()
        at = f" at a multiple of {align}" if align > 16 else ""
        raise PoolExhausted(
            f"{self.name} has no room for {size} bytes{at}: the largest block that could be had "
            f"has {stats.largest_bytes} bytes, {stats.free_bytes} are free in {stats.free_runs} "
            "runs; free some blocks, or open a larger pool",
            size=size,
            largest=stats.largest_bytes,
            free=stats.free_bytes,
        )

    def _raise_overrun(self, block: PoolBlock) -> NoReturn:
        raise error_for(
            lib.PGS_E_HEAP_OVERRUN,
            f"bytes behind the end of {block!r} were written to: whoever has a view of it, or of "
            "the block before, wrote too far; it is not freed",
        )


_STATS = list(PoolStats.__dataclass_fields__)


class PagedPool(_Pool):
    """Memory whose pages leave RAM and fault like an image's. Made by ``PageStore.paged_pool``.

    Attributes:
        size: Bytes, in whole pages.
        name: What messages call it.
        object_no: The number that its pages have in the C interface.
    """

    kind = "paged"

    def __init__(
        self,
        store: Any,
        open_store: list[Any],
        codec: Any,
        size: int | str,
        *,
        level: Level,
        block_reserve: int,
    ) -> None:
        """Open one in a ``pgs_store *``; see ``PageStore.paged_pool``.

        ``open_store`` is empty when the store is closed, and not before.
        """
        pageable = [each for each in Level if each is not Level.PINNED]
        if level not in pageable:
            raise InvalidArgument(
                f"level {level!r} of a paged pool: one of {', '.join(map(_name_of, pageable))}; "
                "what is to stay in RAM belongs into a non-paged pool"
            )
        params = ffi.new("struct pgs_heap_params *")
        params.kind = lib.PGS_HEAP_PAGED
        params.level = level
        params.codec = codec
        super().__init__(store, open_store, params, size, block_reserve)
        self.object_no = int(lib.pgs_heap_object(self.core))


class NonPagedPool(_Pool):
    """Memory that stays in RAM, whose blocks have views. Made by ``PageStore.nonpaged_pool``.

    Attributes:
        size: Bytes, in whole pages.
        name: What messages call it.
    """

    kind = "non-paged"

    def __init__(
        self, store: Any, open_store: list[Any], size: int | str, *, block_reserve: int
    ) -> None:
        """Open one in a ``pgs_store *``; see ``PageStore.nonpaged_pool``.

        ``open_store`` is empty when the store is closed, and not before.
        """
        params = ffi.new("struct pgs_heap_params *")
        params.kind = lib.PGS_HEAP_NONPAGED
        super().__init__(store, open_store, params, size, block_reserve)


def _name_of(level: Level) -> str:
    return level.name


def _closer(store: Any, open_store: list[Any]) -> Callable[[Any], None]:
    """Return what closes a heap, and keeps its store alive until then.

    Where both are part of one cycle of garbage, the store may be closed first nevertheless: it
    has closed its heaps by then, and emptied ``open_store``.
    """
    kept = [store]

    def close(heap: Any) -> None:
        if open_store:
            lib.pgs_heap_close(heap)
        kept.clear()

    return close


def _keeper(heap: Any) -> Callable[[Any], None]:
    """Return what keeps a heap alive until an address in it is given up."""
    kept = [heap]
    return lambda _: kept.clear()
