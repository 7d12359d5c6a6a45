"""One tree of errors; each has a stable code that a client may see.

Knows nothing of the wire or the store. A message is one plain sentence for a person: what was expected and what came.
"""

from enum import StrEnum


class ErrorCode(StrEnum):
    """The codes a client may see; documented in docs/protocol.md."""

    BAD_REQUEST = "bad_request"
    UNSUPPORTED_VERSION = "unsupported_version"
    UNKNOWN_TURN = "unknown_turn"
    BAD_IMAGE = "bad_image"
    IMAGE_TOO_LARGE = "image_too_large"
    UNSUPPORTED_IMAGE = "unsupported_image"
    UNKNOWN_IMAGE = "unknown_image"
    TOO_LONG = "too_long"
    RATE_LIMITED = "rate_limited"
    BUSY = "busy"
    UNAUTHORIZED = "unauthorized"
    UNKNOWN_SESSION = "unknown_session"
    REPLAY_EXPIRED = "replay_expired"
    MODEL_ERROR = "model_error"
    STORE_UNAVAILABLE = "store_unavailable"
    INTERNAL_ERROR = "internal_error"


class DialogueError(Exception):
    """Root of the tree. `id` is the turn or request that the error answers, when it is known."""

    code = ErrorCode.INTERNAL_ERROR

    def __init__(self, message: str, *, id: str | None = None) -> None:
        super().__init__(message)
        self.id = id


class BadRequest(DialogueError):
    code = ErrorCode.BAD_REQUEST


class UnsupportedVersion(DialogueError):
    code = ErrorCode.UNSUPPORTED_VERSION


class UnknownTurn(DialogueError):
    code = ErrorCode.UNKNOWN_TURN


class BadImage(DialogueError):
    code = ErrorCode.BAD_IMAGE


class ImageTooLarge(DialogueError):
    code = ErrorCode.IMAGE_TOO_LARGE


class UnsupportedImage(DialogueError):
    code = ErrorCode.UNSUPPORTED_IMAGE


class UnknownImage(DialogueError):
    code = ErrorCode.UNKNOWN_IMAGE


class TooLong(DialogueError):
    code = ErrorCode.TOO_LONG


class RateLimited(DialogueError):
    """`retry_after_s`: when the same is worth trying again."""

    code = ErrorCode.RATE_LIMITED

    def __init__(self, message: str, *, id: str | None = None, retry_after_s: int = 1) -> None:
        super().__init__(message, id=id)
        self.retry_after_s = retry_after_s


class Busy(DialogueError):
    code = ErrorCode.BUSY


class Unauthorized(DialogueError):
    code = ErrorCode.UNAUTHORIZED


class UnknownSession(DialogueError):
    code = ErrorCode.UNKNOWN_SESSION


class ReplayExpired(DialogueError):
    code = ErrorCode.REPLAY_EXPIRED


class ModelFailed(DialogueError):
    code = ErrorCode.MODEL_ERROR


class StoreUnavailable(DialogueError):
    code = ErrorCode.STORE_UNAVAILABLE


class OtherSchema(StoreUnavailable):
    """A conversation is kept as another version of visavis keeps them."""


class StoreTooNew(StoreUnavailable):
    """A newer version of visavis has kept it; nothing was touched."""


class InternalError(DialogueError):
    code = ErrorCode.INTERNAL_ERROR
