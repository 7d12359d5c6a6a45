"""Where the tests' host pages are served: another origin than the gateway's, on a port of this machine."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from http.server import ThreadingHTTPServer
from threading import Thread

from server_process import free_port

HOST_PORT = free_port()
HOST = f"http://127.0.0.1:{HOST_PORT}"
EMBED_SECRET = "a secret of the host and the gateway alone"


@contextlib.contextmanager
def serving(server: ThreadingHTTPServer) -> Iterator[str]:
    """The address of a host page, for as long as it is served."""
    thread = Thread(target=server.serve_forever)
    thread.start()
    try:
        yield HOST
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
