"""Slack at its worst: limits in words, long threads, missing scopes, revoked tokens, false failures, floods."""

import asyncio
from typing import Any

import pytest
from scripted_chat_model import ScriptedChatModel
from slack_rules import ApiFault, limited
from slack_running import ASK, Answering, pictures, question, settled
from slack_stand_in import BOB, DM, ROOM, SECRET_ROOM, Message, SlackStandIn

from visavis.bot.adapters import adapter as adapter_module
from visavis.bot.slack import service as service_module


async def test_a_hook_that_says_in_words_when_to_come_again_is_tried_again(
    slack: SlackStandIn, answering: Answering, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("visavis.bot.slack.hooks.USUAL_WAIT_S", 0.1)
    slack.hook_faults = ["Wed, 21 Oct 2026 07:28:00 GMT"]
    async with answering():
        await slack.command("help")
        await slack.until(lambda: slack.responses)
    assert "picture" in slack.responses[0]["text"]


async def test_the_latest_pictures_of_a_very_long_thread_are_found(
    slack: SlackStandIn, answering: Answering, photo: bytes
) -> None:
    model = ScriptedChatModel()
    for number in range(20):
        ts = f"1799990000.{number:06d}"
        slack.messages[ROOM, ts] = Message(ROOM, ts, BOB, "long ago", thread_ts="1799990000.000000" if number else None)
    async with answering(model):
        slack.say("look", thread="1799990000.000000", files=[slack.add_file(photo)])
        asked = slack.say(ASK, thread="1799990000.000000")
        await slack.tell(slack.event(asked))
        await slack.answered("1799990000.000000")
    assert pictures(model) == 1


async def test_pictures_of_a_thread_that_may_not_be_read_are_told_of(
    slack: SlackStandIn, answering: Answering, photo: bytes
) -> None:
    slack.scopes.discard("files:read")
    async with answering(model := ScriptedChatModel()):
        root = slack.say("look", files=[slack.add_file(photo)])
        asked = slack.say(ASK, thread=root.ts)
        await slack.tell(slack.event(asked))
        (answer,) = await slack.answered(root.ts)
    assert "files:read" in answer.shown
    assert "what is this?" in question(model)


async def test_a_token_that_is_revoked_later_is_told_in_the_log(
    slack: SlackStandIn, answering: Answering, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(service_module, "_WATCH_S", 0.05)
    async with answering():
        slack.faults["apps.connections.open"] = [ApiFault("token_revoked")] * 99
        for socket in list(slack.sockets):
            await socket.close()
        await slack.until(lambda: "nothing is heard of Slack any more" in caplog.text)
    assert "token_revoked" in caplog.text


async def test_a_flood_in_a_thread_is_acknowledged_and_told_once(
    slack: SlackStandIn, answering: Answering, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("visavis.dialogue.store_jobs.MOST_WAITING", 1)
    monkeypatch.setattr(adapter_module, "MessageRun", _Never)
    async with answering(drain_s=0):
        root = slack.say(ASK)
        told = [await slack.tell(slack.event(slack.say(f"{ASK} {n}", thread=root.ts))) for n in range(5)]
        await slack.until(lambda: slack.whispers)
        await asyncio.sleep(0.2)
    assert [one.attempts for one in told] == [1] * 5
    assert len(slack.whispers) == 1


class _Never:
    """A message that never becomes a turn."""

    def __init__(self, *_: Any, **__: Any) -> None: ...

    async def execute(self, _: Any) -> None:
        await asyncio.Event().wait()


async def test_a_piece_that_a_stream_does_not_take_comes_by_an_edit(slack: SlackStandIn, answering: Answering) -> None:
    """While a stream lasts, its message takes no edits."""
    slack.faults["chat.appendStream"] = [ApiFault("msg_too_long")]
    words = " ".join(f"w{number}" for number in range(40))
    async with answering(ScriptedChatModel(answer=words, pause_s=0.02)):
        asked = slack.say(ASK)
        await slack.tell(slack.event(asked))
        (answer,) = await slack.answered(asked.ts)
    assert answer.shown.split() == words.split()


async def test_what_slack_wants_of_a_method_holds_for_all_answers(slack: SlackStandIn, answering: Answering) -> None:
    slack.faults["chat.startStream"] = [limited(3)]
    async with answering(ScriptedChatModel(answer="a red square on white " * 9, pause_s=0.05)):
        asked = [slack.say(ASK), slack.say(ASK, channel=SECRET_ROOM), slack.say("hello", channel=DM)]
        await slack.tell(slack.event(asked[0]))
        await slack.until(lambda: slack.called("chat.startStream"))
        await asyncio.sleep(0.3)  # the refusal has arrived
        for one in asked[1:]:
            await slack.tell(slack.event(one))
        for one in asked:
            await slack.answered(one.ts, one.channel)
    assert slack.too_early == []


@pytest.mark.parametrize("method", ["chat.startStream", "chat.postMessage"])
async def test_a_message_that_slack_was_said_to_have_failed_to_post_is_not_posted_again(
    slack: SlackStandIn, answering: Answering, method: str
) -> None:
    """ "It's possible some aspect of the operation succeeded before the error was raised", as its reference says."""
    slack.late_faults[method] = [ApiFault("internal_error")]
    slack.faults["chat.startStream"] = [ApiFault("unknown_method")] if method == "chat.postMessage" else []
    words = " ".join(f"w{number}" for number in range(40))
    async with answering(ScriptedChatModel(answer=words, pause_s=0.02)) as service:
        asked = slack.say(ASK)
        await slack.tell(slack.event(asked))
        await slack.until(lambda: any(words in one.shown for one in slack.of_bot(asked.ts)))
        await settled(service)
        (answer,) = slack.of_bot(asked.ts)
    assert answer.shown.split() == words.split()
    assert not answer.streaming
    assert slack.late_faults[method] == []


async def test_a_stop_button_that_slack_was_said_to_have_failed_to_post_goes_away(
    slack: SlackStandIn, answering: Answering
) -> None:
    slack.late_faults["chat.postMessage"] = [ApiFault("internal_error")]
    words = " ".join(f"w{number}" for number in range(40))
    async with answering(ScriptedChatModel(answer=words, pause_s=0.02)) as service:
        asked = slack.say(ASK)
        await slack.tell(slack.event(asked))
        await slack.until(lambda: any(words in one.shown for one in slack.of_bot(asked.ts)))
        await settled(service)
        (answer,) = slack.of_bot(asked.ts)
    assert answer.shown.split() == words.split()


async def test_a_connection_that_slack_wants_anew_loses_nothing(slack: SlackStandIn, answering: Answering) -> None:
    async with answering():
        first = slack.sockets[0]
        await slack.refresh()
        await slack.until(lambda: slack.sockets and first not in slack.sockets)
        asked = slack.say(ASK)
        await slack.tell(slack.event(asked))
        await slack.answered(asked.ts)


async def test_what_is_for_one_person_is_said_once(slack: SlackStandIn, answering: Answering, photo: bytes) -> None:
    slack.faults["assistant.threads.setStatus"] = [None, ApiFault("internal_error")]  # type: ignore[list-item]
    async with answering():
        asked = slack.say(ASK, files=[slack.add_file(photo, mimetype="application/pdf")])
        await slack.tell(slack.event(asked))
        await slack.until(lambda: slack.whispers and not slack.faults["assistant.threads.setStatus"])
        await asyncio.sleep(0.3)
    assert len(slack.called("chat.postEphemeral")) == 1
