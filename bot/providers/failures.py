"""What providers' clients raise -> a few errors of ours, by HTTP status and kind; no client library is imported.

A provider's words may hold what people said. Those about keys and names of models (which are read before anything that
was said) go to the log, one line without the key; of all others the log has kind and status.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

from langchain_core.language_models import BaseChatModel
from pydantic import SecretStr

from visavis.dialogue.errors import ErrorCode

log = logging.getLogger(__name__)

_LATER = frozenset({408, 409, 425, 429, 500, 502, 503, 504, 520, 521, 522, 523, 524, 529})
_REFUSALS = frozenset({400, 413, 415, 422})
_AT_THE_DOOR = frozenset({401, 403, 404})
_LONGEST_LINE = 300
_NOTHING_CAME = "No generation chunks were returned"  # LangChain, of a stream that ends at once


class ProviderError(Exception):
    """A model of somebody else's failed; `code` is what clients see, `message` a sentence for them."""

    code = str(ErrorCode.MODEL_ERROR)


class Refused(ProviderError):
    """The request was not to the other side's liking; it may be in another form."""


class Denied(ProviderError):
    """No right to ask, or no such model: the operator's business."""


class Away(ProviderError):
    """Nobody answers, not in time, or not now; `retry_after_s` if the other side has said when."""

    code = str(ErrorCode.BUSY)

    def __init__(self, message: str = "", retry_after_s: int = 0) -> None:
        super().__init__(message or "The model cannot be reached just now; please try again in a moment.")
        self.retry_after_s = retry_after_s


class BrokeOff(Away):
    """The answer stopped in the middle."""

    def __init__(self) -> None:
        super().__init__("The model broke off in the middle of its answer; please ask again.")


class TakesNoPictures(ProviderError):
    """A picture was shown to a model that reads text alone."""

    code = str(ErrorCode.BAD_REQUEST)

    def __init__(self) -> None:
        super().__init__("This model reads text only; choose another one for pictures.")


def translated(error: Exception, name: str, secrets: Iterable[str]) -> ProviderError:
    """The error of ours; what was raised is logged in one line. Raise it `from None`, or a log shows the original."""
    if isinstance(error, ProviderError):
        return error
    if str(error) == _NOTHING_CAME:
        return BrokeOff()
    status = _status(error)
    words = (redacted(str(error), secrets).splitlines() or [""])[0][:_LONGEST_LINE] if status in _AT_THE_DOOR else ""
    log.warning("%s: %s %s %s", name, type(error).__name__, status or "", words)
    if status in _LATER or (status is None and _is_about_the_way(error)):
        return Away(retry_after_s=_retry_after_s(error))
    if status in _REFUSALS or (status is None and isinstance(error, ValueError | TypeError)):
        return Refused("The model refused this question.")
    return Denied("The model could not answer this; please try again.")


def secrets_of(model: BaseChatModel) -> list[str]:
    """The keys inside of a chat model."""
    values = [getattr(model, name, None) for name in type(model).model_fields]
    return [value.get_secret_value() for value in values if isinstance(value, SecretStr) and value.get_secret_value()]


def redacted(text: str, secrets: Iterable[str]) -> str:
    """A text without the secrets in it."""
    for secret in filter(None, secrets):
        text = text.replace(secret, "***")
    return text


def _with_causes(error: BaseException | None) -> Iterator[Any]:
    """LangChain's classes for some providers wrap what their clients raise, which knows status and headers."""
    while error is not None:
        yield error
        error = error.__cause__


def _status(error: Exception) -> int | None:
    """openai, anthropic, mistral and ollama have `status_code`, google has `code`, httpx has it on the response."""
    for one in _with_causes(error):
        for place, name in ((one, "status_code"), (one, "code"), (getattr(one, "response", None), "status_code")):
            value = getattr(place, name, None)
            if isinstance(value, int) and not isinstance(value, bool) and value > 0:
                return value
    return None


def _is_about_the_way(error: Exception) -> bool:
    """Connections and times: every client has classes of its own for them."""
    names = [kind.__name__ for one in _with_causes(error) for kind in type(one).__mro__]
    words = ("Connection", "Connect", "Timeout", "Transport", "Protocol", "Network")
    return isinstance(error, OSError) or any(word in name for name in names for word in words)


def _retry_after_s(error: Exception) -> int:
    """The header, in seconds or as a date; 0 without one."""
    all_headers = (getattr(getattr(one, "response", None), "headers", None) for one in _with_causes(error))
    value = next((str(found) for headers in all_headers if headers and (found := headers.get("retry-after"))), "")
    if value.replace(".", "", 1).isdecimal():
        return max(1, round(float(value)))
    try:
        return max(0, round((parsedate_to_datetime(value) - datetime.now(UTC)).total_seconds()))
    except (ValueError, TypeError):
        return 0
