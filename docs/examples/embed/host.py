"""A web shop that embeds visavis: a page of another origin, and the one route that a host needs, which signs tokens.

    VISAVIS_ALLOWED_ORIGINS=http://127.0.0.1:9000 VISAVIS_EMBED_SECRET=... visavis serve
    VISAVIS_EMBED_SECRET=... python docs/examples/embed/host.py --chat http://127.0.0.1:8080 --port 9000

A real shop signs for whoever is logged in; here everybody is customer 7.
"""

from __future__ import annotations

import argparse
import os
import time
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import jwt

FOLDER = Path(__file__).parent
TOKEN_LIFE_S = 300
TYPES = {".html": "text/html; charset=utf-8", ".js": "text/javascript", ".css": "text/css"}


class HostHandler(BaseHTTPRequestHandler):
    """The shop's page and `/token`, under a policy that allows nothing but itself and the chat server."""

    def __init__(self, *args: object, chat: str, secret: str) -> None:
        self.chat = chat
        self.secret = secret
        super().__init__(*args)  # type: ignore[arg-type]

    def do_GET(self) -> None:
        """`/token`, `/` or a file beside this one."""
        if self.path == "/token":
            return self.answer(self.token().encode(), "text/plain")
        file = FOLDER / ("index.html" if self.path == "/" else self.path[1:])
        if file.parent != FOLDER or file.suffix not in TYPES or not file.is_file():
            return self.send_error(404)
        self.answer(file.read_bytes().replace(b"{chat}", self.chat.encode()), TYPES[file.suffix])

    def token(self) -> str:
        """Who the visitor is, from which page, and until when."""
        origin = f"http://{self.headers['Host']}"
        claims = {"sub": "customer 7", "origin": origin, "exp": int(time.time()) + TOKEN_LIFE_S}
        return jwt.encode(claims, self.secret, "HS256")

    def answer(self, body: bytes, content_type: str) -> None:
        """One response under the page's policy."""
        socket = self.chat.replace("http", "ws", 1)
        policy = (
            f"default-src 'none'; script-src 'self' {self.chat}; style-src 'self'; "
            f"connect-src 'self' {self.chat} {socket}; img-src 'self' blob: {self.chat}"
        )
        self.send_response(200)
        for name, value in {"Content-Type": content_type, "Content-Security-Policy": policy}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Quiet."""


def make_server(chat: str, secret: str, port: int) -> ThreadingHTTPServer:
    """The shop on a port of this machine."""
    return ThreadingHTTPServer(("127.0.0.1", port), partial(HostHandler, chat=chat, secret=secret))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--chat", default="http://127.0.0.1:8080", help="address of visavis")
    parser.add_argument("--port", type=int, default=9000)
    options = parser.parse_args()
    server = make_server(options.chat, os.environ["VISAVIS_EMBED_SECRET"], options.port)
    print(f"http://127.0.0.1:{options.port}")
    server.serve_forever()


if __name__ == "__main__":
    main()
