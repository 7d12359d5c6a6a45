"""API keys: who may use the API of a gateway. Knows no routes."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Sequence

from starlette.requests import Request

from visavis.bot.openai_api.errors import ApiError
from visavis.dialogue.errors import ErrorCode


class ApiKeys:
    """Some secrets, of which a request must bear one; without any, everybody may come in, unless `closed`."""

    def __init__(self, keys: Sequence[str], *, closed: bool) -> None:
        self._digests = [_digest(key) for key in keys]
        self._closed = closed

    def check(self, request: Request) -> None:
        """Compare in a time that tells nothing about the keys.

        Raises:
            ApiError: status 401.
        """
        if not self._digests and not self._closed:
            return
        if not self._digests:
            raise _unauthorized("This server takes no API requests from the network: it has no VISAVIS_API_KEYS.")
        scheme, _, key = request.headers.get("authorization", "").partition(" ")
        given = _digest(key.strip())
        if scheme.lower() != "bearer" or not any([hmac.compare_digest(given, known) for known in self._digests]):
            raise _unauthorized("Expected an API key of this server in the header Authorization: Bearer KEY.")


def _digest(key: str) -> bytes:
    return hashlib.sha256(key.encode("utf-8", "surrogateescape")).digest()


def _unauthorized(message: str) -> ApiError:
    return ApiError(message, code=ErrorCode.UNAUTHORIZED, status=401)
