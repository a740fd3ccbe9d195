# SPDX-License-Identifier: MIT
"""Real Redis or Valkey servers on loopback, with their data in a folder of the test's."""

from __future__ import annotations

import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import redis
from redis.exceptions import RedisError

SLOTS = 16384
NODES = 3


def server_program() -> str:
    found = shutil.which("redis-server") or shutil.which("valkey-server")
    if found is None:
        pytest.skip("neither redis-server nor valkey-server is installed")
    return found


def free_ports(count: int) -> list[int]:
    """Ports that are free just now, and whose cluster bus ports are."""
    found: list[int] = []
    while len(found) < count:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = int(probe.getsockname()[1])
        if port < 55000 and port not in found:
            found.append(port)
    return found


def until(condition: Callable[[], bool], seconds: float = 30.0) -> None:
    """Wait for something that comes about by itself."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not come about"
        time.sleep(0.02)


class Server:
    """One server, which keeps its data when it is killed."""

    def __init__(self, port: int, folder: Path, *options: str) -> None:
        self.port = port
        self._folder = folder / str(port)
        self._folder.mkdir()
        self._options = options
        self._process: subprocess.Popen[bytes] | None = None
        self.client: Any = redis.Redis(port=port, socket_timeout=5)
        self.start()

    def start(self) -> None:
        words = [server_program(), "--port", str(self.port), "--bind", "127.0.0.1"]
        words += ["--dir", str(self._folder), "--save", "", "--appendonly", "yes"]
        words += ["--appendfsync", "always", "--daemonize", "no", *self._options]
        with (self._folder / "log").open("ab") as log:
            self._process = subprocess.Popen(words, stdout=log, stderr=log)
        try:
            until(self._answers)
        except BaseException:
            self.end()
            raise

    def _answers(self) -> bool:
        try:
            return bool(self.client.ping())
        except RedisError:
            return False

    def send_signal(self, number: int) -> None:
        assert self._process is not None
        self._process.send_signal(number)

    def kill(self) -> None:
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    def end(self) -> None:
        self.send_signal(signal.SIGCONT)
        self.kill()
        self.client.close()


class Cluster:
    """Three servers that share the slots."""

    def __init__(self, folder: Path) -> None:
        options = ["--cluster-enabled", "yes", "--cluster-require-full-coverage", "no"]
        options += ["--cluster-node-timeout", "1000", "--cluster-allow-reads-when-down", "yes"]
        self.servers: list[Server] = []
        try:
            for port in free_ports(NODES):
                bus = str(port + 10000)
                self.servers.append(Server(port, folder, *options, "--cluster-port", bus))
            self._join()
        except BaseException:
            self.end()
            raise

    def _join(self) -> None:
        first = self.servers[0]
        for at, server in enumerate(self.servers):
            share = range(SLOTS * at // NODES, SLOTS * (at + 1) // NODES)
            server.client.execute_command("CLUSTER", "ADDSLOTSRANGE", share.start, share.stop - 1)
            server.client.execute_command("CLUSTER", "SET-CONFIG-EPOCH", at + 1)
        for server in self.servers[1:]:
            bus = server.port + 10000
            first.client.execute_command("CLUSTER", "MEET", "127.0.0.1", server.port, bus)
        until(self.is_whole)

    def is_whole(self) -> bool:
        for server in self.servers:
            info: dict[str, str] = server.client.execute_command("CLUSTER INFO")
            if (info["cluster_state"], info["cluster_known_nodes"]) != ("ok", str(NODES)):
                return False
        return True

    @property
    def url(self) -> str:
        hosts = ",".join(f"127.0.0.1:{server.port}" for server in self.servers)
        return f"redis+cluster://{hosts}"

    def all_keys(self, pattern: str = "*") -> list[bytes]:
        return [key for server in self.servers for key in server.client.keys(pattern)]

    def blobs(self) -> list[bytes]:
        return [key for key in self.all_keys() if key.endswith(b"}") and b"map/" not in key]

    def flush(self) -> None:
        for server in self.servers:
            server.client.flushall()

    def end(self) -> None:
        for server in self.servers:
            server.end()
