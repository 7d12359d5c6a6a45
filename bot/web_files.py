"""The page and the widget as routes: the files of `visavis.bot.web`, read once, served by their plain names.

Only names that lie in the folder are routes, so no path can leave it. `widget.css` is what lies in `styles`, one file
after another. Knows nothing of what the files do.
"""

from __future__ import annotations

import hashlib
import mimetypes
import re
from dataclasses import dataclass
from importlib.resources import files

from starlette.middleware import Middleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

INDEX = "index.html"
STYLES, STYLE_SHEET = "styles", "widget.css"
HIDDEN_SUFFIXES = (".py", ".pyc", ".txt", ".md")
PACKED_SUFFIXES = (".html", ".js", ".css", ".json", ".svg")
PACKED = [Middleware(GZipMiddleware)]
COMMENTED_SUFFIXES = (".js", ".css")
_COMMENT = re.compile(rb"^[ \t]*/\*(?:(?!\*/).)*\*/[ \t]*", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class WebFile:
    """One file as it is sent."""

    content: bytes
    content_type: str
    etag: str

    async def respond(self, request: Request) -> Response:
        """The file, or 304 for a browser that has it."""
        headers = {"ETag": self.etag, "Cache-Control": "no-cache"}
        if request.headers.get("if-none-match") == self.etag:
            return Response(status_code=304, headers=headers)
        return Response(self.content, media_type=self.content_type, headers=headers)


def web_routes() -> list[Route]:
    """A route for every file of the folder; `/` is the page."""
    folder = files("visavis.bot.web")
    shown = (item for item in folder.iterdir() if item.is_file() and not item.name.endswith(HIDDEN_SUFFIXES))
    return [_route(STYLE_SHEET, style_sheet()), *(_route(item.name, item.read_bytes()) for item in shown)]


def style_sheet() -> bytes:
    """The whole look of the widget: its parts in the order of their names, as later rules go before earlier ones."""
    parts = sorted((files("visavis.bot.web") / STYLES).iterdir(), key=lambda part: part.name)
    return b"\n".join(part.read_bytes() for part in parts if part.name.endswith(".css"))


def _route(name: str, content: bytes) -> Route:
    path = "/" if name == INDEX else f"/{name}"
    middleware = PACKED if name.endswith(PACKED_SUFFIXES) else None
    sent = without_comments(content) if name.endswith(COMMENTED_SUFFIXES) else content
    return Route(path, _web_file(name, sent).respond, middleware=middleware)


def without_comments(content: bytes) -> bytes:
    """A script or style sheet without the comments that begin a line, a fifth of what would be sent. Lines keep their
    numbers."""
    return _COMMENT.sub(lambda found: b"\n" * found[0].count(b"\n"), content)


def _web_file(name: str, content: bytes) -> WebFile:
    """Types are fixed for what browsers are strict about: a wrong system table must not stop a module script."""
    known = {
        "js": "text/javascript; charset=utf-8",
        "css": "text/css; charset=utf-8",
        "html": "text/html; charset=utf-8",
    }
    content_type = known.get(name.rpartition(".")[2]) or mimetypes.guess_type(name)[0] or "application/octet-stream"
    return WebFile(content, content_type, f'W/"{hashlib.sha256(content).hexdigest()[:32]}"')
