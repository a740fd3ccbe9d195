# SPDX-License-Identifier: MIT
"""A web server on loopback that gives parts of files, counts them, and fails by name."""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Generator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Web:
    """What the server gives, and has given.

    Attributes:
        files: By path.
        sent: Bytes of bodies.
        fault: ``""``, ``"no_ranges"``, ``"slow"``, ``"error"`` or ``"short"``.
        url: How the server is reached.
    """

    def __init__(self, url: str) -> None:
        self.files: dict[str, bytes] = {}
        self.sent = 0
        self.fault = ""
        self.url = url


def _handler(web: Web) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_HEAD(self) -> None:
            self._answer(with_body=False)

        def do_GET(self) -> None:
            self._answer(with_body=True)

        def _answer(self, *, with_body: bool) -> None:
            data = web.files.get(self.path)
            status = 404 if data is None else 500 if web.fault == "error" else 200
            body = (data or b"") if status == 200 else b""
            tag = hashlib.sha256(body).hexdigest()
            wanted = self.headers.get("Range", "")
            if wanted and web.fault != "no_ranges" and status == 200:
                first, _, last = wanted.removeprefix("bytes=").partition("-")
                body, status = body[int(first) : int(last) + 1], 206
            if web.fault == "slow" and with_body:
                time.sleep(1)
            if web.fault == "short" and with_body:
                body = body[:-1]
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.send_header("ETag", f'"{tag}"')
            self.send_header("Accept-Ranges", "bytes")
            self.end_headers()
            if with_body:
                web.sent += len(body)
                self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            pass

    return Handler


@contextmanager
def serving() -> Generator[Web]:
    """Run a server."""
    web = Web("")
    with ThreadingHTTPServer(("127.0.0.1", 0), _handler(web)) as server:
        server.daemon_threads = True
        web.url = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield web
        finally:
            server.shutdown()
            thread.join()
