"""The objects of Discord's API as the platform writes them. Pure."""

from __future__ import annotations

import itertools
import time
from datetime import UTC, datetime
from typing import Any

Json = dict[str, Any]

EPOCH_MS = 1_420_070_400_000
TEXT, DM, THREAD = 0, 1, 11
VIEW, SEND, ATTACH, SEND_IN_THREADS, MANAGE_GUILD, HISTORY = 1 << 10, 1 << 11, 1 << 15, 1 << 38, 1 << 5, 1 << 16
EVERYTHING = VIEW | SEND | ATTACH | SEND_IN_THREADS | HISTORY
EPHEMERAL, LOADING = 64, 128
_COUNTER = itertools.count()


def snowflake() -> str:
    """A new id; the time is in it."""
    return str(((int(time.time() * 1000) - EPOCH_MS) << 22) | (next(_COUNTER) & 0x3FFFFF))


def now() -> str:
    return datetime.now(UTC).isoformat()


def user(name: str, *, bot: bool = False) -> Json:
    about = {"id": snowflake(), "username": name, "global_name": name, "discriminator": "0", "avatar": None}
    return {**about, "bot": bot, "public_flags": 0, "flags": 0}


def member(permissions: int = 0) -> Json:
    about: Json = {"roles": [], "joined_at": now(), "nick": None, "avatar": None, "premium_since": None, "flags": 0}
    return {**about, "deaf": False, "mute": False, "pending": False, "permissions": str(permissions)}


def guild(name: str, owner: Json, bot: Json) -> Json:
    """As in GUILD_CREATE, without channels."""
    id = snowflake()
    role = {"id": id, "name": "@everyone", "permissions": str(EVERYTHING), "position": 0, "color": 0, "hoist": False}
    role |= {"managed": False, "mentionable": False, "flags": 0, "icon": None, "unicode_emoji": None}
    role |= {"colors": {"primary_color": 0, "secondary_color": None, "tertiary_color": None}}
    empty = ("emojis", "stickers", "features", "voice_states", "presences", "stage_instances", "soundboard_sounds")
    none = (
        "icon",
        "splash",
        "discovery_splash",
        "afk_channel_id",
        "application_id",
        "system_channel_id",
        "description",
    )
    none += ("rules_channel_id", "vanity_url_code", "banner", "public_updates_channel_id", "safety_alerts_channel_id")
    zero = ("verification_level", "default_message_notifications", "explicit_content_filter", "mfa_level")
    zero += ("premium_tier", "system_channel_flags", "nsfw_level")
    about: Json = {"id": id, "name": name, "owner_id": owner["id"], "afk_timeout": 300, "roles": [role]}
    about |= {key: [] for key in empty} | dict.fromkeys(none) | dict.fromkeys(zero, 0)
    about |= {"preferred_locale": "en-US", "large": False, "unavailable": False, "joined_at": now(), "member_count": 2}
    about |= {"premium_progress_bar_enabled": False, "guild_scheduled_events": [], "premium_subscription_count": 0}
    about |= {"max_members": 500_000, "max_video_channel_users": 25, "max_stage_video_channel_users": 50, "lazy": False}
    return {**about, "members": [{"user": bot, **member()}], "channels": [], "threads": []}


def channel(kind: int, name: str | None = None, guild_id: str | None = None, parent: str | None = None) -> Json:
    about: Json = {"id": snowflake(), "type": kind, "flags": 0, "last_message_id": None}
    if kind == DM:
        return {**about, "recipients": []}
    about |= {"guild_id": guild_id, "name": name, "position": 0, "permission_overwrites": [], "parent_id": parent}
    about |= {"nsfw": False, "topic": None, "rate_limit_per_user": 0}
    if kind == THREAD:
        state = {"archived": False, "auto_archive_duration": 60, "archive_timestamp": now(), "locked": False}
        about |= {"thread_metadata": state, "owner_id": snowflake(), "message_count": 0, "member_count": 1}
    return about


def message(channel: Json, author: Json, content: str) -> Json:
    about: Json = {"id": snowflake(), "channel_id": channel["id"], "author": author, "content": content, "type": 0}
    about |= {"timestamp": now(), "edited_timestamp": None, "tts": False, "mention_everyone": False, "flags": 0}
    about |= {key: [] for key in ("embeds", "attachments", "mention_roles", "mentions", "components")}
    return {**about, "pinned": False}


def numbered(rows: list[Json]) -> list[Json]:
    """Rows of buttons as they come back: each part has got a number."""
    numbers = itertools.count(1)
    return [
        row | {"id": next(numbers), "components": [one | {"id": next(numbers)} for one in row["components"]]}
        for row in rows
    ]


COUNTS = ("approximate_guild_count", "approximate_user_install_count", "approximate_user_authorization_count")


def application(id: str, bot: Json, owner: Json) -> Json:
    about: Json = {"id": id, "name": bot["username"], "icon": None, "description": "", "summary": "", "flags": 0}
    about |= {"bot_public": True, "bot_require_code_grant": False, "verify_key": "0" * 64, "owner": owner, "team": None}
    return {**about, "rpc_origins": [], "hook": True, **dict.fromkeys(COUNTS, 1), "bot": bot}
