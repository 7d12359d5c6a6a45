"""Errors in OpenAI's form: a status, a sentence, the parameter at fault and a code that programs can tell apart."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from starlette.responses import JSONResponse

from visavis.bot.access import error_body
from visavis.dialogue.errors import DialogueError, ErrorCode

log = logging.getLogger(__name__)

STATUS_OF_CODE: Mapping[str, int] = {
    ErrorCode.UNKNOWN_IMAGE: 404,
    ErrorCode.UNKNOWN_SESSION: 404,
    ErrorCode.UNKNOWN_TURN: 404,
    ErrorCode.UNAUTHORIZED: 403,
    ErrorCode.IMAGE_TOO_LARGE: 413,
    ErrorCode.TOO_LONG: 413,
    ErrorCode.UNSUPPORTED_IMAGE: 415,
    ErrorCode.RATE_LIMITED: 429,
    ErrorCode.INTERNAL_ERROR: 500,
    ErrorCode.MODEL_ERROR: 502,
    ErrorCode.BUSY: 503,
    ErrorCode.STORE_UNAVAILABLE: 503,
}
RETRY_AFTER_S: Mapping[str, int] = {ErrorCode.RATE_LIMITED: 5, ErrorCode.BUSY: 1, ErrorCode.STORE_UNAVAILABLE: 2}
_TELLING = frozenset(ErrorCode) - {ErrorCode.MODEL_ERROR, ErrorCode.INTERNAL_ERROR}


class ApiError(Exception):
    """A request that gets no answer; `param` is the field at fault."""

    def __init__(
        self,
        message: str,
        *,
        code: str = ErrorCode.BAD_REQUEST,
        status: int = 0,
        param: str | None = None,
        retry_after_s: int | None = None,
    ) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s or RETRY_AFTER_S.get(code)
        self.code = str(code)
        self.status = status or STATUS_OF_CODE.get(code, 400)
        self.param = param

    @property
    def body(self) -> dict[str, Any]:
        """As it is sent in a stream that has begun."""
        return error_body(self.status, self.code, str(self), self.param)

    def response(self) -> JSONResponse:
        """The whole response."""
        response = JSONResponse(self.body, status_code=self.status)
        if self.retry_after_s is not None:
            response.headers["Retry-After"] = str(self.retry_after_s)
        if self.status == 401:
            response.headers["WWW-Authenticate"] = "Bearer"
        return response


def api_error(error: Exception, *, param: str | None = None) -> ApiError:
    """Any failure of a conversation or a model as an ApiError. What a model says is told only with a code of ours:
    other messages may hold addresses and keys, and go to the log."""
    if isinstance(error, ApiError):
        return error
    code = getattr(error, "code", None)
    if isinstance(error, DialogueError) or (isinstance(code, str) and code in _TELLING):
        message = str(error)
        wait_s = getattr(error, "retry_after_s", None)
        return ApiError(message[:1].upper() + message[1:], code=str(code), param=param, retry_after_s=wait_s)
    log.warning("a completion failed", exc_info=error)
    return ApiError("The model could not answer this; please try again.", code=ErrorCode.MODEL_ERROR)
