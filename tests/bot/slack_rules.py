"""What Slack's methods want: scopes, arguments and limits, from its reference; whatever is not listed is refused."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

LONGEST_TEXT = 40_000
LONGEST_MARKDOWN = 12_000


class ApiFault(Exception):
    """An error of the Web API; `html` is the sign-in page with status 200."""

    def __init__(
        self, code: str, status: int = 200, headers: Mapping[str, str] | None = None, *, html: bool = False, **more: Any
    ) -> None:
        super().__init__(code)
        self.code, self.status, self.headers, self.html, self.more = code, status, dict(headers or {}), html, more


def limited(retry_after_s: int) -> ApiFault:
    """Too many calls."""
    return ApiFault("ratelimited", 429, {"Retry-After": str(retry_after_s)})


@dataclass(frozen=True)
class Method:
    """One of `scopes` is needed; arguments beside `needs` and `takes` are a mistake."""

    scopes: Sequence[str] = ()
    needs: Sequence[str] = ()
    takes: Sequence[str] = ()
    app_level: bool = False
    text_bytes: int = LONGEST_TEXT


_HISTORY = ("channels:history", "groups:history", "im:history")
_SENT = ("text", "blocks", "thread_ts")
METHODS = {
    "auth.test": Method(),
    "apps.connections.open": Method(app_level=True),
    "chat.postMessage": Method(("chat:write",), ("channel",), (*_SENT, "unfurl_links", "unfurl_media")),
    "chat.update": Method(("chat:write",), ("channel", "ts"), ("text", "blocks"), text_bytes=4_000),
    "chat.delete": Method(("chat:write",), ("channel", "ts")),
    "chat.postEphemeral": Method(("chat:write",), ("channel", "user"), _SENT),
    "chat.startStream": Method(
        ("chat:write",), ("channel", "thread_ts"), ("markdown_text", "recipient_team_id", "recipient_user_id")
    ),
    "chat.appendStream": Method(("chat:write",), ("channel", "ts", "markdown_text")),
    "chat.stopStream": Method(("chat:write",), ("channel", "ts"), ("markdown_text", "blocks")),
    "conversations.replies": Method(
        _HISTORY, ("channel", "ts"), ("cursor", "latest", "oldest", "inclusive", "limit", "include_all_metadata")
    ),
    "files.info": Method(("files:read",), ("file",)),
    "files.getUploadURLExternal": Method(("files:write",), ("filename", "length"), ("alt_txt",)),
    "files.completeUploadExternal": Method(("files:write",), ("files",), ("channel_id", "thread_ts")),
    "views.open": Method((), ("trigger_id", "view")),
    "assistant.threads.setStatus": Method(("assistant:write",), ("channel_id", "thread_ts"), ("status",)),
    "assistant.threads.setSuggestedPrompts": Method(
        ("assistant:write",), ("channel_id", "prompts"), ("thread_ts", "title")
    ),
}


def check_arguments(method: Method, arguments: Mapping[str, Any]) -> None:
    """Raises `ApiFault` for one that is missing, unknown, empty or too long."""
    missing = [name for name in method.needs if arguments.get(name) in (None, "")]
    unknown = sorted(set(arguments) - {*method.needs, *method.takes})
    if missing or unknown:
        raise ApiFault("invalid_arguments", response_metadata={"messages": [f"missing {missing}, unknown {unknown}"]})
    text = arguments.get("text")
    if "text" in method.takes and not text and not arguments.get("blocks"):
        raise ApiFault("no_text")
    if isinstance(text, str) and (len(text) > LONGEST_TEXT or len(text.encode()) > method.text_bytes):
        raise ApiFault("msg_too_long")
    if "markdown_text" in arguments and not 0 < len(arguments["markdown_text"]) <= LONGEST_MARKDOWN:
        raise ApiFault("msg_too_long" if arguments["markdown_text"] else "no_text")
    if len(arguments.get("prompts") or ()) > 4:
        raise ApiFault("invalid_arguments")


def check_blocks(blocks: Any) -> list[Any]:
    """The blocks; raises `invalid_blocks`."""
    found = list(blocks or [])
    markdown = sum(len(block["text"]) for block in found if block["type"] == "markdown")
    if len(found) > 50 or markdown > LONGEST_MARKDOWN or not all(map(_is_valid, found)):
        raise ApiFault("invalid_blocks")
    return found


def _is_valid(block: Mapping[str, Any]) -> bool:
    match block["type"]:
        case "markdown":
            return set(block) == {"type", "text"} and bool(block["text"])
        case "actions":
            elements = block["elements"]
            return 0 < len(elements) <= 25 and all(map(_is_button, elements))
    return False


def _is_button(element: Mapping[str, Any]) -> bool:
    text = element["text"]
    fits = text["type"] == "plain_text" and 0 < len(text["text"]) <= 75
    return element["type"] == "button" and fits and 0 < len(element["action_id"]) <= 255
