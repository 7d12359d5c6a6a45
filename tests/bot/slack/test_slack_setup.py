"""How a Slack process is let in: tokens, scopes, Socket Mode, HTTP with signatures; and what is said if it is not."""

import asyncio
import json
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from scripted_chat_model import ScriptedChatModel
from slack_rules import ApiFault
from slack_running import Answering
from slack_stand_in import APP_TOKEN, BOT, BOT_TOKEN, ROOM, SIGNING_SECRET, TEAM, SlackStandIn
from typer.testing import CliRunner

from visavis.bot import cli
from visavis.bot.adapters.process import SetupError, run_service
from visavis.bot.conversations import Conversations
from visavis.bot.settings import Settings, SettingsError, load_settings
from visavis.bot.slack import asides, listeners, messages
from visavis.bot.slack.check import SCOPES, check_setup
from visavis.bot.slack.service import SlackService
from visavis.bot.supervisor import wanted_platforms

ASK = f"<@{BOT}> what is this?"
MANIFEST = Path(__file__).parents[3] / "deploy" / "slack-manifest.yaml"


def with_tokens(settings: Settings, slack: SlackStandIn, **changes: Any) -> Settings:
    tokens = {"slack_bot_token": BOT_TOKEN, "slack_app_token": APP_TOKEN, "slack_api_url": slack.api_url}
    return settings.model_copy(update=tokens | changes)


async def serve_once(settings: Settings) -> None:
    conversations = Conversations(settings, ScriptedChatModel())
    stop = asyncio.Event()
    stop.set()
    service = SlackService(settings, conversations)
    stop.clear()
    await run_service(service, conversations, stop, 0)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"slack_bot_token": "xoxp-user"}, "begins with xoxb-"),
        ({"slack_app_token": "xoxb-other"}, "begins with xapp-"),
        ({"slack_bot_token": None}, "VISAVIS_SLACK_BOT_TOKEN"),
        ({"slack_api_url": "http://slack.com/api/"}, "https"),
        ({"slack_app_token": None}, "VISAVIS_SLACK_SIGNING_SECRET"),
        ({"slack_bot_token": "xoxb-revoked"}, "invalid_auth"),
        ({"slack_app_token": "xapp-revoked"}, "invalid_auth"),
    ],
)
async def test_tokens_that_will_not_do_end_the_process_with_a_sentence(
    slack: SlackStandIn, settings: Settings, changes: dict[str, Any], said: str
) -> None:
    with pytest.raises(SetupError, match=said) as refused:
        await serve_once(with_tokens(settings, slack, **changes))
    assert not any(str(value) in str(refused.value) for value in changes.values() if value)


async def test_a_slack_that_is_away_at_the_start_is_waited_for(
    slack: SlackStandIn, answering: Answering, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("visavis.bot.adapters.process._FIRST_PAUSE_S", 0.05)
    slack.faults["auth.test"] = [ApiFault("internal_error", 500), ApiFault("", html=True)]
    slack.faults["apps.connections.open"] = [ApiFault("internal_error")]
    async with answering():
        asked = slack.say(ASK)
        await slack.tell(slack.event(asked))
        await slack.answered(asked.ts)


async def test_events_by_http_need_a_fresh_signature(
    slack: SlackStandIn, answering: Answering, unused_tcp_port: int
) -> None:
    model = ScriptedChatModel()
    http = {"slack_app_token": None, "slack_signing_secret": SIGNING_SECRET, "slack_port": unused_tcp_port}
    url = f"http://127.0.0.1:{unused_tcp_port}"
    asked = slack.say(ASK)
    body = {"type": "event_callback", "team_id": TEAM, "event_id": "Ev1", "event": slack.event(asked)}
    data = json.dumps(body).encode()
    async with answering(model, **http), httpx.AsyncClient(base_url=url) as client:
        await slack.until(lambda: slack.called("auth.test"))
        async with asyncio.timeout(30):
            while not await is_up(client):  # noqa: ASYNC110 - there is no event of it
                await asyncio.sleep(0.02)
        for headers in (
            {},
            slack.signed(data, at=1_000_000),
            slack.signed(data, secret="another"),
            slack.signed(data + b" "),
        ):
            refused = await client.post("/slack/events", content=data, headers=headers)
            assert refused.status_code == 401, headers
        challenge = b'{"type":"url_verification","challenge":"c0ffee"}'
        answer = await client.post("/slack/events", content=challenge, headers=slack.signed(challenge))
        assert answer.json() == {"challenge": "c0ffee"}
        for retry in range(3):
            headers = slack.signed(data) | ({"X-Slack-Retry-Num": str(retry)} if retry else {})
            assert (await client.post("/slack/events", content=data, headers=headers)).status_code == 200
        await slack.answered(asked.ts)
        assert (await client.post("/slack/events", content=b"x" * 2**20 * 2)).status_code == 413
        deep = {"content": b"[" * 200_000, "headers": {"Content-Type": "application/json"}}
        for bad in ({"content": b"\xff"}, deep):
            assert (await client.post("/slack/events", **bad)).status_code == 400  # type: ignore[arg-type]
    assert len(model.asked) == 1


async def is_up(client: httpx.AsyncClient) -> bool:
    try:
        return (await client.get("/healthz")).status_code == 200
    except httpx.HTTPError:
        return False


async def test_check_says_what_is_there_and_what_is_missing(slack: SlackStandIn, settings: Settings) -> None:
    own = with_tokens(settings, slack)
    assert all(good for good, _ in await check_setup(own))
    slack.scopes -= {"files:read"}
    assert [sentence for good, sentence in await check_setup(own) if not good] == ["scope files:read: pictures"]
    slack.faults["apps.connections.open"] = [ApiFault("missing_scope", needed="connections:write")]
    assert "connections:write" in (await check_setup(own))[-1][1]
    revoked = with_tokens(settings, slack, slack_bot_token="xoxb-revoked")
    assert await check_setup(revoked) == [(False, "bot token: Slack refuses it: invalid_auth")]


def test_the_command_tells_it_and_ends_with_1(monkeypatch: pytest.MonkeyPatch) -> None:
    told = CliRunner().invoke(cli.app, ["slack", "--check"])
    assert told.exit_code == 1
    assert "missing Slack needs VISAVIS_SLACK_BOT_TOKEN" in told.output
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    told = CliRunner().invoke(cli.app, ["slack"])
    assert told.exit_code == 2
    assert "visavis[slack]" in told.output


def test_serve_without_the_library_says_so_and_goes_on(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    settings = load_settings(slack_bot_token=BOT_TOKEN)
    assert wanted_platforms(settings) == ["slack"]
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert wanted_platforms(settings) == []
    assert "visavis[slack]" in caplog.text


def test_tokens_are_found_under_both_names_and_never_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLACK_BOT_TOKEN", "xoxb-theirs")
    assert load_settings().slack_bot_token == "xoxb-theirs"
    monkeypatch.setenv("VISAVIS_SLACK_BOT_TOKEN", "xoxb-ours")
    monkeypatch.setenv("SLACK_CLIENT_ID", "1")  # with which bolt would ask for an installation by OAuth
    settings = load_settings()
    assert settings.slack_bot_token == "xoxb-ours"
    assert "xoxb" not in repr(settings) + str(settings)
    child = settings.child_environment()
    assert child["VISAVIS_SLACK_BOT_TOKEN"] == "xoxb-ours"
    assert not [name for name in child if name.startswith("SLACK_")]
    with pytest.raises(SettingsError):
        load_settings(slack_port=70_000)


def test_the_manifest_asks_for_what_the_check_wants_and_what_the_listeners_hear() -> None:
    manifest = yaml.safe_load(MANIFEST.read_text(encoding="utf-8"))
    assert set(manifest["oauth_config"]["scopes"]["bot"]) == set(SCOPES)
    events = manifest["settings"]["event_subscriptions"]["bot_events"]
    assert {"app_mention", "message.channels", "message.groups", "message.im", "reaction_added"} <= set(events)
    assert manifest["settings"]["socket_mode_enabled"] is True
    assert manifest["features"]["shortcuts"][0]["callback_id"] == messages.ASK
    assert listeners.COMMAND.fullmatch(manifest["features"]["slash_commands"][0]["command"])
    prompts = manifest["features"]["agent_view"]["suggested_prompts"]
    assert prompts == asides.PROMPTS


@pytest.mark.parametrize(
    ("typed", "text"),
    [
        (f"<@{BOT}> hi", "hi"),
        (f"hi <@{BOT}|visavis>, 1 &lt; 2 &amp; 3", "hi  , 1 < 2 & 3"),
        ("<https://a.example/?b=1&amp;c|a.example> <https://d.example>", "a.example https://d.example"),
        ("&amp;lt;", "&lt;"),
        ("<@U9> and <#C1|general>", "@U9 and general"),
    ],
)
def test_what_a_person_typed_is_read_as_it_was_meant(typed: str, text: str) -> None:
    assert messages.plain_text(typed, BOT) == text


def test_the_place_of_a_thread_is_the_same_for_all_its_messages() -> None:
    body = {"team_id": TEAM, "event_id": "E"}
    root = messages.incoming_message({"channel": ROOM, "ts": "1.1", "user": "U"}, body, BOT)
    reply = messages.incoming_message({"channel": ROOM, "ts": "1.2", "thread_ts": "1.1", "user": "V"}, body, BOT)
    assert root.place == reply.place
    assert not root.is_private
    mention = {"type": "app_mention", "channel": "D1", "ts": "1.1", "user": "U"}  # without the channel's type
    assert messages.incoming_message(mention, body, BOT).is_private
    assert root.id != reply.id
    assert reply.person == f"slack:{TEAM}-V"
