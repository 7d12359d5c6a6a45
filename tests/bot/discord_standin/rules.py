"""What Discord refuses of a message or a command, with its own numbers. Pure."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

Json = dict[str, Any]

MOST_CHARACTERS = 2_000
MOST_FILES = 10
MOST_FILE_BYTES = 10 * 2**20
CHAT_COMMAND = re.compile(r"[-_'\w]{1,32}")
PING = re.compile(r"@everyone|@here|<@!?(\d+)>|<@&(\d+)>")


class Refusal(Exception):
    """An answer other than 2xx: HTTP status, Discord's own code and a sentence."""

    def __init__(self, status: int, code: int, message: str, **more: float) -> None:
        super().__init__(message)
        self.more = more
        self.status = status
        self.code = code


def unless(condition: bool, complaint: str) -> None:
    """Refuse a body as Discord does; `complaint` names the field."""
    if not condition:
        raise Refusal(400, 50035, f"Invalid Form Body: {complaint}")


def check_message(body: Json, files: Sequence[bytes], shown: Sequence[Json] = ()) -> None:
    """What a new or changed message may hold; `shown` are the files that it already has."""
    content = body.get("content")
    unless(content is None or isinstance(content, str), "content: expected a string")
    unless(len(content or "") <= MOST_CHARACTERS, f"content: must be {MOST_CHARACTERS} or fewer in length")
    unless(len(body.get("embeds") or ()) <= 10, "embeds: at most 10")
    check_mentions(body.get("allowed_mentions"))
    check_components(body.get("components") or [])
    attachments = body.get("attachments")
    unless(
        len(files) + len(attachments or ()) <= 2 * MOST_FILES and len(files) <= MOST_FILES, "attachments: at most 10"
    )
    for file in files:
        if len(file) > MOST_FILE_BYTES:
            raise Refusal(413, 40005, "Request entity too large")
    known = {one["id"] for one in shown} | {str(number) for number in range(len(files))}
    for one in attachments or ():
        unless(str(one.get("id")) in known, "attachments: unknown file")


def check_not_empty(body: Json, files: Sequence[bytes]) -> None:
    """A message that shows nothing is none."""
    if not ((body.get("content") or "").strip() or body.get("embeds") or files or body.get("sticker_ids")):
        raise Refusal(400, 50006, "Cannot send an empty message")


def check_mentions(allowed: Json | None) -> None:
    """`allowed_mentions`: kinds and lists exclude each other."""
    if allowed is None:
        return
    kinds = allowed.get("parse", [])
    unless(set(kinds) <= {"roles", "users", "everyone"}, "allowed_mentions.parse: unknown kind")
    for kind in ("users", "roles"):
        listed = allowed.get(kind) or []
        unless(len(listed) <= 100, f"allowed_mentions.{kind}: at most 100")
        unless(not (listed and kind in kinds), f"allowed_mentions.{kind}: mutually exclusive with parse")


def check_components(rows: Sequence[Json]) -> None:
    """Rows of buttons."""
    unless(len(rows) <= 5, "components: at most 5 rows")
    seen: set[str] = set()
    for row in rows:
        unless(row.get("type") == 1, "components: expected an action row")
        buttons = row.get("components") or []
        unless(1 <= len(buttons) <= 5, "components: 1 to 5 buttons in a row")
        for button in buttons:
            unless(button.get("type") == 2 and button.get("style") in range(1, 7), "components: expected a button")
            unless(bool(button.get("label") or button.get("emoji")), "components: a button needs a label")
            unless(len(button.get("label") or "") <= 80, "components.label: 80 or fewer in length")
            name = button.get("custom_id") or ""
            unless(1 <= len(name) <= 100, "components.custom_id: 1 to 100 in length")
            unless(name not in seen, "components.custom_id: must be unique")
            seen.add(name)


def pings(body: Json, replied_to: str | None = None) -> list[str]:
    """Whom a new message would ring: everything that it names and nobody forbade."""
    allowed = body.get("allowed_mentions")
    rung = [match[0] for match in PING.finditer(body.get("content") or "") if _rings(match, allowed)]
    if replied_to is not None and (allowed is None or allowed.get("replied_user")):
        rung.append(f"<@{replied_to}>")
    return rung


def _rings(match: re.Match[str], allowed: Json | None) -> bool:
    if allowed is None:
        return True
    kind = "users" if match[1] else "roles" if match[2] else "everyone"
    return kind in allowed.get("parse", []) or (match[1] or match[2]) in (allowed.get(kind) or [])


def check_command(command: Json) -> None:
    """One application command: 1 is a slash command, 3 stands in a message's menu."""
    kind, name = command.get("type", 1), command.get("name", "")
    unless(kind in (1, 2, 3) and 1 <= len(name) <= 32, "name: 1 to 32 in length")
    unless(set(command.get("integration_types") or []) <= {0, 1}, "integration_types: unknown")
    unless(set(command.get("contexts") or []) <= {0, 1, 2}, "contexts: unknown")
    if kind != 1:
        unless(not command.get("description") and not command.get("options"), "a menu command has a name only")
        return
    unless(bool(CHAT_COMMAND.fullmatch(name)) and name == name.lower(), f"name: {name!r} does not match")
    unless(1 <= len(command.get("description") or "") <= 100, "description: 1 to 100 in length")
    options = command.get("options") or []
    unless(len(options) <= 25, "options: at most 25")
    required = [bool(option.get("required")) for option in options]
    unless(required == sorted(required, reverse=True), "options: required ones stand first")
    for option in options:
        unless(bool(CHAT_COMMAND.fullmatch(option.get("name", ""))), "options.name: does not match")
        unless(1 <= len(option.get("description") or "") <= 100, "options.description: 1 to 100 in length")
        unless(option.get("type") in range(1, 12), "options.type: unknown")
        unless(1 <= option.get("max_length", 1) <= 6_000, "options.max_length: 1 to 6000")
