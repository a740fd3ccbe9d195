# SPDX-License-Identifier: MIT
# pyright: reportPrivateUsage=false
"""Pages in a real Redis server, and in a real cluster of three, whose nodes stop in mid-run."""

from __future__ import annotations

import hashlib
import random
import signal
import subprocess
import sys
import time

import pytest

from pagestep import BackingFull, BackingLost, BackingTimeout, CorruptPage, InvalidArgument
from pagestep.store.pager import Pager
from pagestep.store.pager._redis import _POINT, RedisStore, _Entry
from pagestep.store.pager._url import open_url

from .servers import Cluster, Server, until

DEADLINE_S = 2.0
PAGES = 96


def pager(url: str) -> Pager:
    return Pager(url, deadline_s=DEADLINE_S, max_blob=4128)


def in_process(url: str) -> RedisStore:
    store = open_url(url, DEADLINE_S)
    assert isinstance(store, RedisStore)
    return store


def blob(page_no: int, version: int = 0) -> bytes:
    return random.Random(page_no * 1000 + version).randbytes(200 + page_no)


# -- content addressing -------------------------------------------------------------------


def test_equal_pages_of_two_hosts_are_stored_once_and_go_with_their_last_owner(
    empty_cluster: Cluster,
) -> None:
    url = empty_cluster.url
    with pager(f"{url}?namespace=a") as first, pager(f"{url}?namespace=b") as second:
        pages = [(n, blob(n % 32)) for n in range(PAGES)]
        assert first.put(pages) == [None] * PAGES
        assert second.put(pages) == [None] * PAGES
        assert len(empty_cluster.blobs()) == 32
        assert first.get(range(PAGES)) == second.get(range(PAGES)) == [b for _, b in pages]
        first.discard(0, PAGES)
        assert first.get([1]) == [None]
        assert second.get(range(PAGES)) == [b for _, b in pages]
        second.discard(0, 2**50)
        assert empty_cluster.all_keys() == []


def test_a_page_that_is_put_anew_gives_its_former_blob_up(empty_cluster: Cluster) -> None:
    with pager(f"{empty_cluster.url}?namespace=a") as only:
        for version in range(4):
            assert only.put([(n, blob(n, version)) for n in range(20)]) == [None] * 20
        assert only.get(range(20)) == [blob(n, 3) for n in range(20)]
        assert len(empty_cluster.blobs()) == 20
        assert only.put([(n, blob(n, 3)) for n in range(20)]) == [None] * 20
        assert only.get(range(20)) == [blob(n, 3) for n in range(20)]
        assert len(empty_cluster.all_keys("*owners")) == 20
        for server in empty_cluster.servers:
            for key in server.client.keys("*owners"):
                assert server.client.scard(key) == 1


def test_two_of_one_namespace_read_each_others_pages(empty_cluster: Cluster) -> None:
    url = f"{empty_cluster.url}?namespace=shared&prefix=mine:"
    with pager(url) as first, pager(url) as second:
        assert first.put([(1, b"one"), (5000, b"far")]) == [None, None]
        assert second.get([1, 5000]) == [b"one", b"far"]
        assert second.put([(1, b"anew")]) == [None]
        assert first.get([1]) == [b"anew"]
        assert second.present(4999, 3) == [False, True, False]
    assert all(key.startswith(b"mine:") for key in empty_cluster.all_keys())


HOST = """
import random, sys
from pagestep.store.pager import Pager
url, seed, rounds = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
chance = random.Random(seed)
model = {}
with Pager(url, deadline_s=20, max_blob=4128) as pager:
    for _ in range(rounds):
        # Few contents: the same blobs come and go with both hosts.
        pages = {chance.randrange(40): bytes([chance.randrange(6)]) * 50 for _ in range(12)}
        if chance.random() < 0.8:
            found = pager.put(list(pages.items()))
            assert not any(found), found
            model |= pages
        else:
            first = chance.randrange(40)
            pager.discard(first, 8)
            model = {n: b for n, b in model.items() if not first <= n < first + 8}
        found = pager.get(range(48))
        assert found == [model.get(n) for n in range(48)], found
"""


def test_two_hosts_put_and_give_up_the_same_blobs_at_once(empty_cluster: Cluster) -> None:
    hosts = [
        subprocess.Popen(
            [
                *(sys.executable, "-P", "-c", HOST),
                *(f"{empty_cluster.url}?namespace=h{seed}", str(seed), "60"),
            ]
        )
        for seed in (1, 2)
    ]
    assert [host.wait(120) for host in hosts] == [0, 0]
    store = in_process(f"{empty_cluster.url}?namespace=h1")
    assert store.sweep(age_s=-10) == 0, "nothing was left behind"
    store.discard(0, 100)
    store.close()
    other = in_process(f"{empty_cluster.url}?namespace=h2")
    other.discard(0, 100)
    other.close()
    assert empty_cluster.all_keys() == []


def test_an_owner_that_a_crash_left_is_swept_and_no_other(server: Server) -> None:
    store = in_process(f"redis://127.0.0.1:{server.port}/0?namespace=a")
    store.put([(1, b"one"), (2, b"two")])
    digest = hashlib.blake2b(b"lost", digest_size=32).hexdigest()
    server.client.set(f"pagestep:{{{digest}}}", b"lost")
    server.client.sadd(f"pagestep:{{{digest}}}:owners", "gone/7/10")
    kept = hashlib.blake2b(b"one", digest_size=32).hexdigest()
    server.client.sadd(f"pagestep:{{{kept}}}:owners", "a/9/10", f"a/1/{time.time_ns():x}")
    assert store.sweep() == 2  # the young one may be of a put that is under way
    assert store.get([1, 2]) == [b"one", b"two"]
    assert server.client.exists(f"pagestep:{{{digest}}}") == 0
    assert store.sweep(age_s=-10) == 1
    assert store.get([1, 2]) == [b"one", b"two"]
    store.close()


def test_a_late_command_takes_nothing_from_a_later_put(server: Server) -> None:
    """What a stopped server finds in its sockets when it goes on may be older than what it did."""
    store = in_process(f"redis://127.0.0.1:{server.port}/0?namespace=a")
    store.put([(1, b"old")])
    store.put([(1, b"mid")])
    mid = store._entries([1])[1]
    assert isinstance(mid, _Entry)
    store.put([(1, b"old")])
    # The owner that the third put took away comes to be taken away once more, and so does one of
    # the same blob from the first put.
    first = _Entry(1, hashlib.blake2b(b"old", digest_size=32).digest())
    store._drop([(1, mid), (1, first)])
    assert store.get([1]) == [b"old"]
    # The second put's entry arrives once more: an older one does not replace a newer.
    found = store._change_maps({1: mid}, _POINT, [int(time.time()) + 5])
    assert found[1] == bytes(mid)
    assert store.get([1]) == [b"old"]
    # And one that is too old altogether is refused.
    found = store._change_maps({1: mid}, _POINT, [int(time.time()) - 5])
    assert "LATE" in str(found[1])
    store.close()


# -- a single server ------------------------------------------------------------------------


def test_wrong_bytes_are_found(server: Server) -> None:
    with pager(f"redis://127.0.0.1:{server.port}/0?namespace=a") as only:
        only.put([(1, b"one"), (2, b"two")])
        digest = hashlib.blake2b(b"one", digest_size=32).hexdigest()
        server.client.set(f"pagestep:{{{digest}}}", b"One")
        first, second = only.get([1, 2])
        assert isinstance(first, CorruptPage)
        assert digest in str(first)
        assert second == b"two"
        assert only.put([(3, b"one")]) == [None]  # whoever has the bytes mends them
        assert only.get([1, 2, 3]) == [b"one", b"two", b"one"]
        server.client.delete(f"pagestep:{{{digest}}}")
        [gone] = only.get([1])
        assert isinstance(gone, CorruptPage)
        assert "is gone" in str(gone)


def test_a_full_server(server: Server) -> None:
    with pager(f"redis://127.0.0.1:{server.port}/0?namespace=a") as only:
        assert only.put([(1, b"one")]) == [None]
        server.client.config_set("maxmemory", "1mb")
        errors = only.put([(n, random.Random(n).randbytes(4000)) for n in range(2, 400)])
        full = [error for error in errors if error is not None]
        assert full
        assert all(isinstance(error, BackingFull) for error in full)
        assert "maxmemory" in str(full[0])
        assert only.get([1]) == [b"one"]
        total, used = only.capacity()
        assert total == 1 << 20
        assert used > 0
        server.client.config_set("maxmemory", 0)
        assert only.put([(2, b"two")]) == [None]


def test_a_server_that_may_throw_pages_away_is_refused(server: Server) -> None:
    server.client.config_set("maxmemory-policy", "allkeys-lru")
    with pytest.raises(InvalidArgument, match="noeviction"):
        pager(f"redis://127.0.0.1:{server.port}/0?namespace=a")


def test_a_server_that_is_killed_and_comes_back(server: Server) -> None:
    with pager(f"redis://127.0.0.1:{server.port}/0?namespace=a") as only:
        pages = [(n, blob(n)) for n in range(30)]
        assert only.put(pages) == [None] * 30
        server.kill()
        [error] = only.get([3])
        assert isinstance(error, BackingLost)
        assert f"127.0.0.1:{server.port}" in str(error)
        server.start()
        assert only.get(range(30)) == [b for _, b in pages]


def test_a_short_outage_is_not_noticed(server: Server) -> None:
    with Pager(f"redis://127.0.0.1:{server.port}/0?namespace=a", deadline_s=20) as only:
        assert only.put([(1, b"one")]) == [None]
        server.kill()
        server.start()
        assert only.get([1]) == [b"one"]


# -- a node stops ---------------------------------------------------------------------------


def check_outage(cluster: Cluster, url: str, victim: Server, gone: int) -> None:
    """Read and write through an outage: right bytes or a clear error, in time."""
    with pager(url) as only:
        model = {n: blob(n) for n in range(PAGES)}
        assert only.put(list(model.items())) == [None] * PAGES
        victim.send_signal(gone)
        failed = served = 0
        unsure: dict[int, set[bytes]] = {}
        for version in range(1, 4):
            start = time.monotonic()
            found = only.get(range(PAGES))
            assert time.monotonic() - start < 4 * 3 * DEADLINE_S  # a batch is four messages
            for n, got in enumerate(found):
                if isinstance(got, bytes):
                    assert got == model[n] or got in unsure.get(n, ())
                    served += 1
                else:
                    failed += 1
                    assert isinstance(got, BackingLost | BackingTimeout)
            new = [(n, blob(n, version)) for n in range(version, PAGES, 7)]
            for (n, its), error in zip(new, only.put(new), strict=True):
                if error is None:
                    model[n] = its
                    unsure.pop(n, None)
                else:
                    unsure.setdefault(n, set()).add(its)
                    assert isinstance(error, BackingLost | BackingTimeout)
        assert failed
        assert served, "pages of the other nodes are still to be had"
        assert "page" in only.last_error or "key" in only.last_error or "node" in only.last_error
        if gone == signal.SIGKILL:
            victim.kill()
            victim.start()
        else:
            victim.send_signal(signal.SIGCONT)
        until(cluster.is_whole)
        until(lambda: all(isinstance(got, bytes) for got in only.get(range(PAGES))))
        for n, got in enumerate(only.get(range(PAGES))):
            assert got == model[n] or got in unsure.get(n, ())
        final = [(n, blob(n, 9)) for n in range(PAGES)]
        assert only.put(final) == [None] * PAGES
        assert only.get(range(PAGES)) == [its for _, its in final]


@pytest.mark.parametrize("gone", [signal.SIGKILL, signal.SIGSTOP], ids=["killed", "stopped"])
def test_a_node_of_a_cluster_stops_in_mid_run_and_returns(
    empty_cluster: Cluster, gone: signal.Signals
) -> None:
    url = f"{empty_cluster.url}?namespace=a"
    # A node without the map, else no page at all could be found meanwhile.
    with pager(url) as probe:
        probe.put([(0, b"x")])
    without = [s for s in empty_cluster.servers if not s.client.keys("*map*")]
    check_outage(empty_cluster, url, without[0], gone)


def test_the_node_with_the_map_stops(empty_cluster: Cluster) -> None:
    with pager(f"{empty_cluster.url}?namespace=a") as only:
        assert only.put([(1, b"one")]) == [None]
        [with_map] = [s for s in empty_cluster.servers if s.client.keys("*map*")]
        with_map.send_signal(signal.SIGSTOP)
        [error] = only.get([1])
        assert isinstance(error, BackingLost | BackingTimeout)
        assert "map/a/0" in str(error)
        with_map.send_signal(signal.SIGCONT)
        until(empty_cluster.is_whole)
        until(lambda: only.get([1]) == [b"one"])
