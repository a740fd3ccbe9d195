# SPDX-License-Identifier: MIT
"""Pages in Redis or Valkey, where they outgrow one machine.

A blob is stored once, under the digest of its bytes, whoever has it; beside it, in the same
slot, is the set of its owners. Which blob a page has is in its namespace's map. A blob goes with
its last owner.

An owner is a namespace, a page and the number of the put, which rises: so no command that is
late, or comes twice, can take from a page what a later put gave it. A put that is cut off
leaves at most an owner that no map knows, which ``sweep`` takes away. Only a crash does: a page
is acknowledged when blob, owner and map are there, in this order.
"""

from __future__ import annotations

import hashlib
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any, Final, cast

from pagestep.codecs.errors import CorruptPage, InvalidArgument, PageStepError

from ._redis_nodes import Command, Nodes, open_nodes
from ._url import StoreUrl

__all__ = ["RedisStore", "open_redis"]

CHUNK_PAGES: Final = 1024  # pages of one map
SWEEP_AGE_S: Final = 600.0
# What arrives later than this after it was sent is refused by the server: as long as clocks
# differ by less, nothing lands after the sweep has looked.
_LATE_S: Final = 60
_DIGEST_SIZE: Final = 32
_SEQ_HEX: Final = 16
_CHUNKS_MAX: Final = 64  # a run over more maps asks which there are

_REFUSE_LATE = """
if tonumber(redis.call('TIME')[1]) > tonumber(ARGV[1]) then
    return redis.error_reply('LATE this command was sent too long ago, or the clocks differ')
end
"""
# KEYS: blob, owners. ARGV: until when, bytes, owner. Bytes that were damaged are mended.
_KEEP = (
    _REFUSE_LATE
    + """
if redis.call('GET', KEYS[1]) ~= ARGV[2] then redis.call('SET', KEYS[1], ARGV[2]) end
redis.call('SADD', KEYS[2], ARGV[3])
return 1
"""
)
# KEYS: blob, owners. ARGV: owner.
_DROP = """
redis.call('SREM', KEYS[2], ARGV[1])
if redis.call('EXISTS', KEYS[2]) == 0 then redis.call('DEL', KEYS[1]) end
return 1
"""
# KEYS: map. ARGV: until when, then page and entry of each. Returns the entry that went: the
# former one, or this one itself where a later put was there before.
_POINT = (
    _REFUSE_LATE
    + """
local gone = {}
for i = 2, #ARGV, 2 do
    local old = redis.call('HGET', KEYS[1], ARGV[i]) or ''
    local new = ARGV[i + 1]
    if string.sub(old, 1, 16) < string.sub(new, 1, 16) then
        redis.call('HSET', KEYS[1], ARGV[i], new)
        gone[#gone + 1] = old
    elseif old == new then
        gone[#gone + 1] = ''
    else
        gone[#gone + 1] = new
    end
end
return gone
"""
)
# KEYS: map. ARGV: page and entry of each: only that entry is taken away. Returns for each how
# many went.
_UNPOINT = """
local gone = {}
for i = 1, #ARGV, 2 do
    gone[#gone + 1] = 0
    if redis.call('HGET', KEYS[1], ARGV[i]) == ARGV[i + 1] then
        gone[#gone] = redis.call('HDEL', KEYS[1], ARGV[i])
    end
end
return gone
"""


@dataclass(frozen=True)
class _Entry:
    """What a map says of a page: the number of its put, and its blob's digest."""

    seq: int
    digest: bytes

    def __bytes__(self) -> bytes:
        return f"{self.seq:0{_SEQ_HEX}x}".encode() + self.digest


def _entry(data: bytes | None) -> _Entry | None:
    if not data:
        return None
    if len(data) != _SEQ_HEX + _DIGEST_SIZE:
        raise CorruptPage(f"a map's entry has {len(data)} bytes, which is none of ours")
    return _Entry(int(data[:_SEQ_HEX], 16), data[_SEQ_HEX:])


def _script(text: str, keys: Sequence[bytes], arguments: Sequence[Any]) -> Command:
    return keys[0], ["EVAL", text, len(keys), *keys, *arguments]


def _until() -> int:
    return int(time.time()) + _LATE_S


class RedisStore:
    """One namespace's pages.

    Attributes:
        lasting: Yes, as far as the server is.
    """

    lasting = True

    def __init__(self, nodes: Nodes, prefix: str, namespace: str) -> None:
        """Take what is connected, and how its keys begin."""
        self._nodes = nodes
        self._prefix = prefix
        self._namespace = namespace

    # -- keys ---------------------------------------------------------------------------

    def _blob_keys(self, digest: bytes) -> tuple[bytes, bytes]:
        blob = f"{self._prefix}{{{digest.hex()}}}".encode()
        return blob, blob + b":owners"

    def _map_key(self, chunk: int | str, namespace: str | None = None) -> bytes:
        return f"{self._prefix}{{map/{namespace or self._namespace}/{chunk}}}".encode()

    def _owner(self, page_no: int, entry: _Entry) -> str:
        return f"{self._namespace}/{page_no}/{entry.seq:x}"

    # -- maps ---------------------------------------------------------------------------

    def _entries(self, page_nos: Sequence[int]) -> dict[int, _Entry | PageStepError | None]:
        chunks: defaultdict[int, list[int]] = defaultdict(list)
        for page_no in page_nos:
            chunks[page_no // CHUNK_PAGES].append(page_no)
        commands: list[Command] = [
            (key := self._map_key(chunk), ["HMGET", key, *pages]) for chunk, pages in chunks.items()
        ]
        found: dict[int, _Entry | PageStepError | None] = {}
        for pages, result in zip(chunks.values(), self._nodes.run(commands), strict=True):
            rows: list[Any] = [result] * len(pages)
            if not isinstance(result, PageStepError):
                rows = result
            for page_no, row in zip(pages, rows, strict=True):
                found[page_no] = row if isinstance(row, PageStepError) else _entry(row)
        return found

    def _change_maps(
        self, entries: dict[int, _Entry], script: str, before: Sequence[Any]
    ) -> dict[int, Any]:
        """Run a script on each map; return its result for each page."""
        chunks: defaultdict[int, list[int]] = defaultdict(list)
        for page_no in entries:
            chunks[page_no // CHUNK_PAGES].append(page_no)
        commands = [
            _script(
                script,
                [self._map_key(chunk)],
                [*before, *(w for page in pages for w in (page, bytes(entries[page])))],
            )
            for chunk, pages in chunks.items()
        ]
        found: dict[int, Any] = {}
        for pages, result in zip(chunks.values(), self._nodes.run(commands), strict=True):
            rows: list[Any] = [result] * len(pages)
            if not isinstance(result, PageStepError):
                rows = result
            found.update(zip(pages, rows, strict=True))
        return found

    def _drop(self, gone: Sequence[tuple[int, _Entry]]) -> None:
        """Take owners away. Where that fails they stay, for ``sweep``: nothing needs it done."""
        self._nodes.run(
            [
                _script(_DROP, self._blob_keys(entry.digest), [self._owner(page_no, entry)])
                for page_no, entry in gone
            ]
        )

    # -- what a store does ----------------------------------------------------------------

    def get(self, page_nos: Sequence[int]) -> list[bytes | PageStepError | None]:
        """See ``BackingStore.get``."""
        entries = self._entries(page_nos)
        found = self._blobs(entries)
        # A blob may have gone with another process's put of its page, after the map was read.
        again = [page_no for page_no, blob in found.items() if isinstance(blob, CorruptPage)]
        if again:
            anew = self._entries(again)
            found |= self._blobs({n: e for n, e in anew.items() if e != entries[n]})
        return [found[page_no] for page_no in page_nos]

    def _blobs(
        self, entries: dict[int, _Entry | PageStepError | None]
    ) -> dict[int, bytes | PageStepError | None]:
        found: dict[int, bytes | PageStepError | None] = {}
        wanted: list[tuple[int, _Entry]] = []
        for page_no, entry in entries.items():
            if isinstance(entry, _Entry):
                wanted.append((page_no, entry))
            else:
                found[page_no] = entry
        keys = [self._blob_keys(entry.digest)[0] for _, entry in wanted]
        results = self._nodes.run([(key, ["GET", key]) for key in keys])
        for (page_no, entry), key, blob in zip(wanted, keys, results, strict=True):
            found[page_no] = blob
            if blob is None or (isinstance(blob, bytes) and _digest(blob) != entry.digest):
                state = "is gone" if blob is None else "has other bytes than its digest says"
                found[page_no] = CorruptPage(f"page {page_no}: the key {key.decode()} {state}")
        return found

    def put(self, pages: Sequence[tuple[int, bytes]]) -> list[PageStepError | None]:
        """See ``BackingStore.put``."""
        errors: dict[int, PageStepError | None] = {}
        new = self._numbered(pages, errors)
        self._keep(new, dict(pages), errors)
        kept = {page_no: entry for page_no, entry in new.items() if page_no not in errors}
        gone: list[tuple[int, _Entry]] = []
        for page_no, result in self._change_maps(kept, _POINT, [_until()]).items():
            errors[page_no] = result if isinstance(result, PageStepError) else None
            if isinstance(result, bytes) and (former := _entry(result)):
                gone.append((page_no, former))
        self._drop(gone)
        return [errors[page_no] for page_no, _ in pages]

    def _numbered(
        self, pages: Sequence[tuple[int, bytes]], errors: dict[int, PageStepError | None]
    ) -> dict[int, _Entry]:
        """Give each put a number: the time, and more than its page's last one had."""
        now = time.time_ns()
        former = self._entries([page_no for page_no, _ in pages])
        new: dict[int, _Entry] = {}
        for page_no, blob in pages:
            old = former[page_no]
            if isinstance(old, PageStepError):
                errors[page_no] = old
            else:
                new[page_no] = _Entry(max(now, old.seq + 1 if old else 0), _digest(blob))
        return new

    def _keep(
        self,
        new: dict[int, _Entry],
        blobs: dict[int, bytes],
        errors: dict[int, PageStepError | None],
    ) -> None:
        until = _until()
        commands = [
            _script(
                _KEEP,
                self._blob_keys(entry.digest),
                [until, blobs[page_no], self._owner(page_no, entry)],
            )
            for page_no, entry in new.items()
        ]
        for page_no, result in zip(new, self._nodes.run(commands), strict=True):
            if isinstance(result, PageStepError):
                errors[page_no] = result

    def discard(self, first: int, count: int) -> None:
        """See ``BackingStore.discard``."""
        run = range(first, first + count)
        for chunk in self._chunks(run):
            key = self._map_key(chunk)
            all_of_it = _sure(self._nodes.run([(key, ["HGETALL", key])])[0])
            rows = _pairs(all_of_it)
            entries = {
                int(page): entry
                for page, data in rows
                if int(page) in run
                if (entry := _entry(data))
            }
            for result in self._change_maps(entries, _UNPOINT, []).values():
                _sure(result)
            self._drop(list(entries.items()))

    def _chunks(self, run: range) -> list[int]:
        """Return the maps that a run of pages may be in."""
        chunks = range(run.start // CHUNK_PAGES, -(-run.stop // CHUNK_PAGES))
        if len(chunks) <= _CHUNKS_MAX:
            return list(chunks)
        pattern = self._map_key("*")
        head = len(self._map_key("")) - 1
        found = [int(key[head:-1]) for key in self._scan(pattern)]
        return [chunk for chunk in found if chunk in chunks]

    def _scan(self, pattern: bytes) -> Iterator[bytes]:
        def scan(client: Any) -> list[bytes]:
            return list(client.scan_iter(match=pattern, count=1000))

        return chain.from_iterable(self._nodes.everywhere(scan))

    def flush(self) -> None:
        """See ``BackingStore.flush``; how often a server writes to disk is its configuration's."""

    def capacity(self) -> tuple[int, int]:
        """See ``BackingStore.capacity``; all of what is in the servers counts."""
        found = self._nodes.everywhere(_memory)
        total = sum(int(info["maxmemory"]) or int(info["total_system_memory"]) for info in found)
        return total, sum(int(info["used_memory"]) for info in found)

    def present(self, first: int, count: int) -> list[bool]:
        """See ``BackingStore.present``."""
        entries = self._entries(range(first, first + count))
        return [_sure(entry) is not None for entry in entries.values()]

    def close(self) -> None:
        """See ``BackingStore.close``."""
        self._nodes.close()

    def sweep(self, age_s: float = SWEEP_AGE_S) -> int:
        """Take away owners that no map knows: of any namespace, from puts that were cut off.

        Args:
            age_s: How old their put must be, for one under way has its owner first.

        Returns:
            How many owners were taken away.
        """
        limit = time.time_ns() - int(age_s * 1e9)
        swept = 0
        for key in self._scan(f"{self._prefix}{{*}}:owners".encode()):
            blob = key.removesuffix(b":owners")
            digest = blob[len(self._prefix) + 1 : -1].decode()
            owners = [owner.decode() for owner in _members(self._nodes, key)]
            old = [owner for owner in owners if int(owner.rpartition("/")[2], 16) < limit]
            known = self._nodes.run([self._whereabouts(owner) for owner in old])
            for owner, entry in zip(old, known, strict=True):
                seq = int(owner.rpartition("/")[2], 16)
                if _sure(entry) != bytes(_Entry(seq, bytes.fromhex(digest))):
                    _sure(self._nodes.run([_script(_DROP, [blob, key], [owner])])[0])
                    swept += 1
        return swept

    def _whereabouts(self, owner: str) -> Command:
        namespace, page, _ = owner.split("/")
        key = self._map_key(int(page) // CHUNK_PAGES, namespace)
        return key, ["HGET", key, page]


def _members(nodes: Nodes, key: bytes) -> Sequence[bytes]:
    found: Sequence[bytes] = list(_sure(nodes.run([(key, ["SMEMBERS", key])])[0]))
    return found


def _digest(blob: bytes) -> bytes:
    return hashlib.blake2b(blob, digest_size=_DIGEST_SIZE).digest()


def _pairs(found: Any) -> Iterator[tuple[bytes, bytes]]:
    """Return a hash's fields and values; older servers give them in turn."""
    if isinstance(found, dict):
        return iter(cast("dict[bytes, bytes]", found).items())
    flat: list[bytes] = found
    return zip(flat[::2], flat[1::2], strict=True)


def _memory(client: Any) -> dict[str, Any]:
    found: dict[str, Any] = client.info("memory")
    return found


def _sure(result: Any) -> Any:
    if isinstance(result, PageStepError):
        raise result
    return result


def open_redis(url: StoreUrl) -> RedisStore:
    """Open a namespace of a server or cluster.

    Raises:
        InvalidArgument: The namespace is missing, or the server may throw pages away.
        BackingLost: Nobody answers.
    """
    namespace = url.options.get("namespace", "")
    prefix = url.options.get("prefix", "pagestep:")
    if not namespace:
        raise InvalidArgument(
            f"{url.shown}: say whose pages these are, with ?namespace=…: who opens the same "
            "namespace reads and writes the same pages"
        )
    for name, text in (("namespace", namespace), ("prefix", prefix)):
        if any(letter in "{}/*?[]\\" for letter in text):
            raise InvalidArgument(f"{url.shown}: {name}={text}: not with any of {{}}/*?[]\\")
    nodes = open_nodes(url)
    for info in nodes.everywhere(_memory):
        if info["maxmemory_policy"] != "noeviction":
            nodes.close()
            raise InvalidArgument(
                f"{url.shown}: the server throws keys away when it is full "
                f"(maxmemory-policy {info['maxmemory_policy']}): set it to noeviction"
            )
    return RedisStore(nodes, prefix, namespace)
