"""The two conversions between Slack's words and ours: its events -> `Incoming`, our text -> blocks. Pure functions."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from visavis.bot.adapters.platform import Ending, FileLink, Incoming, Outcome

MESSAGE_LIMIT = 11_500  # a `markdown` block, and a piece of a stream, takes 12,000
PLAIN_LIMIT = 3_000
PLAIN_BYTES = 3_900  # of an edit's `text`, which takes 4,000
STOP, WHY = "visavis_stop", "visavis_why"
ASK = "visavis_ask_about_picture"
QUESTION = "question"
END = Outcome(Ending.NOTICE)  # of what bears no buttons

Json = Mapping[str, Any]

_HEARD_SUBTYPES = (None, "file_share", "thread_broadcast")
_LABELLED = re.compile(r"<[^<>|]*\|([^<>]*)>")
_BARE = re.compile(r"<([^<>]*)>")
_SCORES = {"+1": 1, "thumbsup": 1, "-1": -1, "thumbsdown": -1}


def is_heard(event: Json, bot_user: str) -> bool:
    """Whether a person said it: not a bot (we least of all), not an edit, not a notice of Slack's. A mention that is
    edited is told of anew, with nothing to tell it from the first time but `edited`."""
    user = event.get("user")
    is_new = not event.get("bot_id") and not event.get("edited") and event.get("subtype") in _HEARD_SUBTYPES
    return bool(user) and user != bot_user and is_new


def is_mention(event: Json, bot_user: str) -> bool:
    """Whether the message is meant for us because it says so."""
    named = re.search(_mention(bot_user), str(event.get("text") or "")) if bot_user else None
    return event.get("type") == "app_mention" or named is not None


def mentions_others(event: Json) -> bool:
    """Whether it is meant for somebody: then it is not for us unless we are mentioned too."""
    return "<@" in str(event.get("text") or "")


def incoming_message(event: Json, body: Json, bot_user: str) -> Incoming:
    """A message event; its thread is the conversation. A mention comes as two events, told apart by nothing but ids."""
    team, channel, ts = str(body.get("team_id") or ""), str(event["channel"]), str(event["ts"])
    thread = str(event.get("thread_ts") or ts)
    id = f"{team}:{channel}:{ts}"
    user, user_team = str(event["user"]), str(event.get("user_team") or event.get("team") or team)
    is_private = event.get("channel_type") == "im" or channel.startswith("D")  # mentions come without the type
    address = {"channel": channel, "thread": thread, "ts": ts, "user": user, "team": user_team}
    return Incoming(
        id=id,
        place=place_of(team, channel, thread),
        person=person(user_team, user),
        channel=channel,
        text=plain_text(str(event.get("text") or ""), bot_user),
        files=file_links(event.get("files") or ()),
        events=tuple(dict.fromkeys((str(body.get("event_id") or id), id))),
        is_private=is_private,
        can_whisper=True,
        address=address | ({"private": "1"} if is_private else {}),
    )


def incoming_question(body: Json, thread: str, text: str, id: str, *, files: Sequence[str]) -> Incoming:
    """A question from the dialog of the shortcut, for a message that stands in `thread`."""
    team, user = str(body["team_id"]), str(body["user_id"])
    channel = str(body["channel_id"])
    return Incoming(
        id=id,
        place=place_of(team, channel, thread),
        person=person(team, user),
        channel=channel,
        text=text,
        files=tuple(FileLink("", id=file) for file in files),
        is_private=channel.startswith("D"),
        can_whisper=True,
        address={
            "channel": channel,
            "thread": thread,
            "ts": thread,
            "user": user,
            "team": team,
            "response_url": str(body.get("response_url") or ""),
        },
    )


def incoming_command(body: Json, text: str, *, asks: bool) -> Incoming:
    """A slash command: a question (`asks`) that is to have a thread of its own in the channel, or one of the core's
    commands, whose reply only the person sees."""
    team, user, channel = str(body["team_id"]), str(body["user_id"]), str(body["channel_id"])
    id = f"command:{body['trigger_id']}"
    address = {"response_url": str(body["response_url"]), "user": user, "team": team, "channel": channel}
    return Incoming(
        id=id,
        place=place_of(team, channel, id if asks else f"command:{user}"),
        person=person(team, user),
        channel=channel,
        text=text,
        can_whisper=True,
        address=address | ({"asks": "1"} if asks else {}),
    )


def root_text(user: str, text: str) -> str:
    """A question by slash command as a message, whose thread is the conversation."""
    return f"<@{user}> asks:\n{escaped(text[:PLAIN_LIMIT])}"


def place_of(team: str, channel: str, thread: str) -> str:
    """The name of a conversation's place."""
    return f"{team}:{channel}:{thread}"


def person(team: str, user: str) -> str:
    """A person's name on this channel."""
    return f"slack:{team}-{user}"


def post_name(channel: str, ts: str) -> str:
    """A message's name, as in `Reply.posts`."""
    return f"{channel}:{ts}"


def file_links(files: Sequence[Json]) -> tuple[FileLink, ...]:
    """Posted files. Of some only the id is told (`file_access: check_file_info`): `files.info` knows the rest."""
    return tuple(file_link(file) for file in files if file.get("mode") not in ("tombstone", "hidden_by_limit"))


def file_link(file: Json) -> FileLink:
    """One file object of Slack's."""
    url = str(file.get("url_private_download") or file.get("url_private") or "")
    size = file.get("size")
    return FileLink(
        url, str(file.get("mimetype") or ""), size if isinstance(size, int) else 0, str(file.get("id") or "")
    )


def plain_text(text: str, bot_user: str) -> str:
    """What the person typed: without our mention, links as they are read, and with `& < >` themselves."""
    text = re.sub(_mention(bot_user), " ", text) if bot_user else text
    text = _BARE.sub(r"\1", _LABELLED.sub(r"\1", text))
    return text.replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&").strip()


def reaction_score(reaction: str) -> int | None:
    """What a reaction says of an answer; None for any but thumbs."""
    return _SCORES.get(reaction.partition("::")[0])


def escaped(text: str) -> str:
    """For a field that Slack reads as `mrkdwn`."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def fallback(text: str) -> str:
    """What notifications and old clients show in the place of blocks. Escaped, it has at most `PLAIN_BYTES`: an edit
    with more is refused."""
    shown = escaped(text)
    while len(shown.encode()) > PLAIN_BYTES:
        text = text[: min(len(text) - 1, len(text) * PLAIN_BYTES // len(shown.encode()))]
        shown = f"{escaped(text)}…"
    return shown or "…"


def blocks(text: str, outcome: Outcome | None) -> list[dict[str, Any]]:
    """A message whose text is the model's; with a Stop button while it is being written."""
    return [{"type": "markdown", "text": text}, *buttons(outcome)]


def buttons(outcome: Outcome | None) -> list[dict[str, Any]]:
    """What can be done with an answer: stop it, or have it explained."""
    if outcome is None:
        return [_actions(_button("Stop", STOP))]
    return [_actions(_button("Show why", WHY))] if outcome.can_explain else []


def question_dialog(metadata: str) -> dict[str, Any]:
    """What "Ask about this picture" opens."""
    field = {"type": "plain_text_input", "action_id": QUESTION, "max_length": PLAIN_LIMIT}
    return {
        "type": "modal",
        "callback_id": ASK,
        "private_metadata": metadata,
        "title": _plain("Ask about a picture"),
        "submit": _plain("Ask"),
        "close": _plain("Cancel"),
        "blocks": [
            {
                "type": "input",
                "block_id": QUESTION,
                "optional": True,
                "label": _plain("Your question"),
                "hint": _plain("Without one, the picture is described. Everybody in the thread sees the answer."),
                "element": field,
            }
        ],
    }


def dialog_question(view: Json) -> str:
    """What was typed into the dialog."""
    return str(view["state"]["values"][QUESTION][QUESTION].get("value") or "")


def _mention(user: str) -> str:
    return rf"<@{re.escape(user)}(\|[^<>]*)?>"


def _actions(*elements: dict[str, Any]) -> dict[str, Any]:
    return {"type": "actions", "elements": list(elements)}


def _button(text: str, action: str) -> dict[str, Any]:
    return {"type": "button", "text": _plain(text), "action_id": action}


def _plain(text: str) -> dict[str, Any]:
    return {"type": "plain_text", "text": text}
