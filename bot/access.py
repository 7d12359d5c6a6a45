"""Who may reach a gateway from a browser: Host and Origin rules, CORS and security headers.

Pure ASGI, in front of every route and of the websocket handshake. Knows no routes and no sessions; authorisation by
session lies with the routes.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import HTTPConnection
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from visavis.bot.settings import Settings, is_loopback, origin_of

CONTENT_SECURITY_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
SECURITY_HEADERS = {
    "Content-Security-Policy": CONTENT_SECURITY_POLICY,
    "Permissions-Policy": "geolocation=(), microphone=()",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}
CORS_HEADERS = {
    "Access-Control-Allow-Methods": "GET, POST, DELETE",
    # Clients of OpenAI's API send a dozen of their own; a star alone would leave out Authorization.
    "Access-Control-Allow-Headers": "Authorization, Content-Type, Idempotency-Key, X-Visavis-Session, *",
    "Access-Control-Max-Age": "600",
}


class AccessRules:
    """What the settings allow, asked with the headers of a request."""

    def __init__(self, settings: Settings) -> None:
        self._origins = frozenset(settings.allowed_origins)
        self._public_origin = origin_of(settings.public_url) if settings.public_url else None
        self._loopback_only = is_loopback(settings.host)

    @property
    def has_guests(self) -> bool:
        """Whether pages of other origins may embed the widget."""
        return bool(self._origins)

    def host_is_ours(self, host: str) -> bool:
        """Behind a loopback bind any other name is a page that rebinds its DNS name to this machine."""
        if not self._loopback_only:
            return True
        try:
            name = urlsplit(f"//{host}").hostname or ""
        except ValueError:
            return False
        return is_loopback(name) or (
            self._public_origin is not None and host.lower() == _authority(self._public_origin)
        )

    def origin_is_allowed(self, origin: str | None, host: str) -> bool:
        """Programs send no Origin; browsers must come from this very page or from an allowed one."""
        if origin is None or origin in self._origins or origin == self._public_origin:
            return True
        return origin_of(origin) is not None and _authority(origin) == host.lower()

    def is_foreign_but_allowed(self, origin: str | None) -> bool:
        """Whether a browser needs CORS headers to let that page read the answer."""
        return origin is not None and origin in self._origins


def _authority(origin: str) -> str:
    return urlsplit(origin).netloc.lower()


class AccessMiddleware:
    """Refuses what `AccessRules` refuses before the application sees it, and stamps the headers on every response."""

    def __init__(self, app: ASGIApp, rules: AccessRules) -> None:
        self._app = app
        self._rules = rules

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            return await self._app(scope, receive, send)
        headers = Headers(scope=scope)
        origin, host = headers.get("origin"), headers.get("host", "")
        foreign = self._rules.is_foreign_but_allowed(origin)

        async def send_stamped(message: Message) -> None:
            if message["type"] in ("http.response.start", "websocket.http.response.start"):
                self._stamp(MutableHeaders(scope=message), origin if foreign else None)
            await send(message)

        refusal = self._refusal(scope, origin, host)
        app = self._app if refusal is None else refusal
        if refusal is None and foreign and scope.get("method") == "OPTIONS":
            app = JSONResponse({}, headers=CORS_HEADERS)
        await app(scope, receive, send_stamped)

    def _refusal(self, scope: Scope, origin: str | None, host: str) -> JSONResponse | None:
        if not self._rules.host_is_ours(host):
            return error_response(421, "unauthorized", f"This server does not answer for the host {host!r}.")
        is_plain_read = scope["type"] == "http" and scope["method"] in ("GET", "HEAD")
        if not is_plain_read and not self._rules.origin_is_allowed(origin, host):
            return error_response(403, "unauthorized", f"The origin {origin!r} is not allowed to use this server.")
        return None

    def _stamp(self, headers: MutableHeaders, foreign_origin: str | None) -> None:
        headers.update(SECURITY_HEADERS)
        headers["Cross-Origin-Resource-Policy"] = "cross-origin" if self._rules.has_guests else "same-origin"
        headers.add_vary_header("Origin")
        if foreign_origin is not None:
            headers["Access-Control-Allow-Origin"] = foreign_origin


def counted_address(connection: HTTPConnection) -> str:
    """The address that a connection counts for; empty on this machine, where people and proxies look alike."""
    host = connection.client.host if connection.client else ""
    return "" if not host or is_loopback(host) else host


def error_body(status: int, code: str, message: str, param: str | None = None) -> dict[str, Any]:
    """The one shape of an error over HTTP, which is OpenAI's; `param` is the field at fault."""
    kind = "server_error" if status >= 500 else "rate_limit_error" if status == 429 else "invalid_request_error"
    return {"error": {"message": message, "type": kind, "param": param, "code": code}}


def error_response(status: int, code: str, message: str, *, headers: Mapping[str, str] | None = None) -> JSONResponse:
    """An error that no field is at fault for."""
    return JSONResponse(error_body(status, code, message), status_code=status, headers=headers)
