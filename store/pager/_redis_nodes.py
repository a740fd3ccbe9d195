# SPDX-License-Identifier: MIT
"""Commands to a Redis or Valkey server, or to the nodes of a cluster, until a deadline."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any, Final, TypeVar
from urllib.parse import unquote, urlencode

import redis
from redis.backoff import NoBackoff
from redis.cluster import ClusterNode, RedisCluster
from redis.exceptions import (
    AskError,
    BusyLoadingError,
    ClusterDownError,
    ClusterError,
    ConnectionError,
    MasterDownError,
    MovedError,
    OutOfMemoryError,
    RedisClusterException,
    RedisError,
    TimeoutError,
    TryAgainError,
)
from redis.retry import Retry

from pagestep.codecs.errors import (
    BackingFull,
    BackingLost,
    BackingTimeout,
    InvalidArgument,
    PageStepError,
    StoreIOError,
)

from ._url import StoreUrl

__all__ = ["Command", "Nodes", "open_nodes"]

T = TypeVar("T")
# The key that says which node is asked, and all words of the command.
Command = tuple[bytes | str, Sequence[Any]]

# Of the deadline, so that what is wrong is told before who asks gives up.
_SHARE: Final = 0.6
# A node that does not answer within this part of the deadline is asked again.
_PATIENCE: Final = 0.2
_WAIT_S_MIN, _WAIT_S_MAX = 0.02, 0.3
_OURS: Final = ("prefix", "namespace")
_REDIRECTED: Final = (MovedError, AskError)
_PASSING: Final = (
    ConnectionError,
    TimeoutError,
    ClusterDownError,
    ClusterError,
    RedisClusterException,
    BusyLoadingError,
    MasterDownError,
    TryAgainError,
)


class Nodes(ABC):
    """Where commands go."""

    def __init__(self, deadline_s: float) -> None:
        """Take within how many seconds ``run`` must end."""
        self._deadline_s = deadline_s

    def run(self, commands: Sequence[Command]) -> list[Any]:
        """Do commands, those that fail for want of a connection again and again.

        Args:
            commands: Each a key and all words of a command on it. None may need another's
                result; one may be done twice.

        Returns:
            For each its result, or the ``PageStepError`` that says why there is none.
        """
        end = time.monotonic() + self._deadline_s * _SHARE
        results: list[Any] = [None] * len(commands)
        todo = list(range(len(commands)))
        wait_s = _WAIT_S_MIN
        while todo:
            found = self._send([commands[at] for at in todo])
            for at, result in zip(todo, found, strict=True):
                results[at] = result
            todo = [at for at in todo if isinstance(results[at], _PASSING)]
            if not todo or time.monotonic() + wait_s > end:
                break
            time.sleep(wait_s)
            wait_s = min(2 * wait_s, _WAIT_S_MAX)
            self._refresh()
        return [
            self._error(result, command) if isinstance(result, Exception) else result
            for result, command in zip(results, commands, strict=True)
        ]

    def _error(self, error: Exception, command: Command) -> PageStepError:
        key = command[0]
        name = key.decode(errors="replace") if isinstance(key, bytes) else key
        where = f"{self._where(key)}, key {name}"
        if isinstance(error, OutOfMemoryError):
            return BackingFull(f"{where}: Redis is out of memory: raise its maxmemory")
        if isinstance(error, TimeoutError):
            return BackingTimeout(f"{where}: no answer in {self._deadline_s * _SHARE:.1f} s")
        if isinstance(error, _PASSING):
            return BackingLost(f"{where}: cannot be reached: {error}")
        return StoreIOError(f"{where}: {error}")

    @abstractmethod
    def _send(self, commands: Sequence[Command]) -> list[Any]:
        """Do commands once; return results and exceptions."""

    @abstractmethod
    def _refresh(self) -> None:
        """Look anew who is where."""

    @abstractmethod
    def _where(self, key: bytes | str) -> str:
        """Return the name of the node that has a key."""

    @abstractmethod
    def _each(self) -> Iterable[tuple[str, Any]]:
        """Return name and client of each node that has keys of its own."""

    def everywhere(self, ask: Callable[[Any], T]) -> list[T]:
        """Ask each node that has keys of its own.

        Raises:
            BackingLost: One does not answer.
        """
        found: list[T] = []
        for name, client in self._each():
            try:
                found.append(ask(client))
            except (RedisError, OSError) as error:
                raise BackingLost(f"{name}: cannot be reached: {error}") from None
        return found

    @abstractmethod
    def close(self) -> None:
        """Close the connections."""


def _pipeline(client: Any, commands: Sequence[Command]) -> list[Any]:
    try:
        pipe = client.pipeline(transaction=False)
        for _, words in commands:
            pipe.execute_command(*words)
        found: list[Any] = pipe.execute(raise_on_error=False)
        return found
    except (RedisError, OSError) as error:
        return [error] * len(commands)


class _Single(Nodes):
    def __init__(self, client: Any, name: str, deadline_s: float) -> None:
        super().__init__(deadline_s)
        self._client = client
        self._name = name

    def _send(self, commands: Sequence[Command]) -> list[Any]:
        return _pipeline(self._client, commands)

    def _refresh(self) -> None:
        pass

    def _where(self, key: bytes | str) -> str:
        return self._name

    def _each(self) -> Iterable[tuple[str, Any]]:
        return [(self._name, self._client)]

    def close(self) -> None:
        self._client.close()


class _Cluster(Nodes):
    """A pipeline for each node, side by side: one that is dead fails for its keys only."""

    def __init__(self, client: Any, deadline_s: float) -> None:
        super().__init__(deadline_s)
        self._client = client
        self._pool = ThreadPoolExecutor(16, "redis-node")

    def _send(self, commands: Sequence[Command]) -> list[Any]:
        results: list[Any] = [None] * len(commands)
        by_node: defaultdict[Any, list[int]] = defaultdict(list)
        for at, (key, _) in enumerate(commands):
            try:
                by_node[self._client.get_node_from_key(key)].append(at)
            except (RedisError, KeyError, AttributeError) as error:
                results[at] = ClusterDownError(f"no node has its slot: {error}")
        work = [(places, [commands[at] for at in places], node) for node, places in by_node.items()]
        for (places, _, _), found in zip(work, self._pool.map(self._at_node, work), strict=True):
            for at, result in zip(places, found, strict=True):
                results[at] = result
        return results

    def _at_node(self, work: tuple[list[int], list[Command], Any]) -> list[Any]:
        _, commands, node = work
        try:
            found = _pipeline(self._client.get_redis_connection(node), commands)
        except (RedisError, OSError) as error:
            return [error] * len(commands)
        return [
            self._follow(command) if isinstance(result, _REDIRECTED) else result
            for command, result in zip(commands, found, strict=True)
        ]

    def _follow(self, command: Command) -> Any:
        """Do a command that its slot's former node sent on: that is the client's affair."""
        try:
            return self._client.execute_command(*command[1])
        except (RedisError, OSError) as error:
            return error

    def _refresh(self) -> None:
        # As long as no node answers, who was where stays.
        with suppress(RedisError, OSError):
            self._client.nodes_manager.initialize()

    def _where(self, key: bytes | str) -> str:
        try:
            return f"node {self._client.get_node_from_key(key).name}"
        except (RedisError, KeyError, AttributeError):
            return "no node"

    def _each(self) -> Iterable[tuple[str, Any]]:
        return [
            (f"node {node.name}", self._client.get_redis_connection(node))
            for node in self._client.get_primaries()
        ]

    def close(self) -> None:
        self._pool.shutdown(wait=False)
        self._client.close()


def open_nodes(url: StoreUrl) -> Nodes:
    """Connect to what a URL names.

    Raises:
        BackingLost: Nobody answers there.
        InvalidArgument: The URL has no host, or a port that is none.
    """
    never = Retry(NoBackoff(), 0)  # run() tries again itself, until its deadline
    patience_s = max(0.05, url.deadline_s * _PATIENCE)
    how: dict[str, Any] = {
        "socket_timeout": patience_s,
        "socket_connect_timeout": patience_s,
        "retry": never,
    }
    try:
        if url.parts.scheme.endswith("+cluster"):
            return _open_cluster(url, how)
        options = {name: text for name, text in url.options.items() if name not in _OURS}
        plain = url.parts._replace(query=urlencode(options)).geturl()
        connect: Any = redis.Redis  # its types are not whole
        client: Any = connect.from_url(plain, **how)
        client.ping()
        return _Single(client, url.shown.partition("?")[0], url.deadline_s)
    except (ValueError, TypeError) as error:  # a bad host, port or option
        raise InvalidArgument(f"{url.shown}: {error}") from None
    except (RedisError, OSError) as error:
        raise BackingLost(f"{url.shown}: cannot be reached: {error}") from None


def _open_cluster(url: StoreUrl, how: dict[str, Any]) -> Nodes:
    user, _, hosts = url.parts.netloc.rpartition("@")
    name, _, password = user.partition(":")
    make_node: Any = ClusterNode  # it has no types
    nodes: list[Any] = []
    for host in hosts.split(","):
        address, colon, port = host.rpartition(":")
        if not (colon and address and port.isdigit()):
            raise ValueError(f"{host!r} is no host:port; several are joined by commas")
        nodes.append(make_node(address.strip("[]"), int(port)))
    client: Any = RedisCluster(
        startup_nodes=nodes,
        require_full_coverage=False,
        username=unquote(name) or None,
        password=unquote(password) or None,
        ssl=url.parts.scheme.startswith("rediss"),
        **how,
    )
    return _Cluster(client, url.deadline_s)
