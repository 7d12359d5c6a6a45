"""Who may do what in Slack, and what is done once: commands, buttons, thumbs, edits."""

import asyncio
from typing import Any

import pytest
from scripted_chat_model import ScriptedChatModel
from slack_rules import ApiFault, limited
from slack_running import ASK, Answering, settled
from slack_stand_in import ANN, BOB, BOT, DM, ROOM, TEAM, Message, SlackStandIn

from visavis.bot.slack.service import SlackService
from visavis.dialogue.errors import StoreUnavailable


async def test_a_question_by_slash_command_is_stored_before_it_is_acknowledged(
    slack: SlackStandIn, answering: Answering, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with answering() as service:
        with monkeypatch.context() as patch:
            patch.setattr(service.adapter._channel, "take", _away)
            told = await slack.command("what is this?")
        assert "store does not answer" in str(told.payload)
        assert not slack.of_bot()
        asked = await slack.command("what is that?")
        assert asked.acked.is_set()
        await slack.until(lambda: slack.of_bot())
        await slack.answered(slack.of_bot()[0].ts)


async def _away(*_: Any) -> bool:
    raise StoreUnavailable("The conversation store does not answer; please try again in a moment.")


async def test_a_slash_command_that_comes_again_is_answered_once_by_all_processes(
    slack: SlackStandIn, answering: Answering
) -> None:
    model = ScriptedChatModel()
    async with answering(model), answering(model):
        trigger = slack.trigger()
        for _ in range(4):
            assert (await slack.command("what is this?", trigger=trigger)).acked.is_set()
        await slack.until(lambda: slack.of_bot())
        (root,) = [one for one in slack.of_bot() if one.thread_ts is None]
        await slack.answered(root.ts)
        again = slack.say("and its color?", thread=root.ts)
        await slack.tell(slack.event(again))
        await slack.answered(root.ts, count=2)
    assert [len(one) for one in model.asked] == [1, 3]
    assert len(slack.of_bot()) == 3


async def test_who_asks_too_often_by_slash_command_is_told_alone_and_nothing_is_posted(
    slack: SlackStandIn, answering: Answering
) -> None:
    async with answering(turns_per_minute=1):
        await slack.command("what is this?")
        await slack.until(lambda: slack.of_bot())
        await slack.answered(slack.of_bot()[0].ts)
        await slack.command("and that?")
        await slack.until(lambda: slack.responses)
    assert "please wait" in slack.responses[0]["text"]
    assert [one.thread_ts for one in slack.of_bot()].count(None) == 1


async def test_a_slash_command_that_a_process_leaves_behind_is_posted_once(
    slack: SlackStandIn, answering: Answering
) -> None:
    """Once before its question was posted, and once after."""
    words = " ".join(f"w{number}" for number in range(40))
    slack.faults["chat.postMessage"] = [limited(1)]
    async with answering(drain_s=0):
        await slack.command("what is this?")
        await slack.until(lambda: slack.called("chat.postMessage"))
    assert not slack.of_bot()
    async with answering(ScriptedChatModel(answer=words, pause_s=0.5), drain_s=0):
        await slack.until(lambda: len(slack.of_bot()) > 1)
    async with answering(ScriptedChatModel(answer=words)):
        (root,) = [one for one in slack.of_bot() if one.thread_ts is None]
        await slack.until(lambda: any(one.shown.split() == words.split() for one in slack.of_bot(root.ts)))
        await slack.answered(root.ts)
    assert [one.thread_ts for one in slack.of_bot()].count(None) == 1


async def test_the_allow_list_holds_for_commands_buttons_and_thumbs_but_not_in_direct_messages(
    slack: SlackStandIn, answering: Answering
) -> None:
    async with answering() as service:
        asked = slack.say(ASK)
        await slack.tell(slack.event(asked))
        (answer,) = await slack.answered(asked.ts)
        await settled(service)
    async with answering(slack_channels=("C0SECRET",)) as service:
        assert "not enabled" in str((await slack.command("what is this?")).payload)
        await slack.press("visavis_why", answer.ts, asked.ts)
        await slack.press("visavis_stop", answer.ts, asked.ts)
        await slack.until(lambda: len(slack.whispers) == 2)
        await slack.react("+1", answer.ts)
        assert await scores(service, answer) == [None]
        await slack.command("what is this?", DM)
        await slack.until(lambda: slack.of_bot(channel=DM))
        await slack.answered(slack.of_bot(channel=DM)[0].ts, DM)
    assert all("not enabled" in one["text"] for one in slack.whispers)


async def scores(service: SlackService, answer: Message) -> list[int | None]:
    session, _ = await service.adapter.find(f"{ROOM}:{answer.ts}")
    exchanges = (await service.adapter._manager.history(session)).exchanges
    return [one.answer.feedback.score if one.answer.feedback else None for one in exchanges]


async def test_only_who_takes_part_may_stop_an_answer(slack: SlackStandIn, answering: Answering) -> None:
    slack.faults["chat.startStream"] = [ApiFault("unknown_method")]
    async with answering(ScriptedChatModel(answer="on and " * 900, pause_s=0.05)) as service:
        asked = slack.say(ASK)
        await slack.tell(slack.event(asked))
        await slack.until(lambda: slack.of_bot(asked.ts) and "[Stop]" in slack.of_bot(asked.ts)[0].shown)
        post = slack.of_bot(asked.ts)[0].ts
        while await service.adapter._channel.recall(f"{ROOM}:{post}") is None:  # noqa: ASYNC110
            await asyncio.sleep(0.02)
        assert (await slack.press("visavis_stop", post, asked.ts, BOB)).acked.is_set()
        await slack.until(lambda: slack.whispers)
        assert "[Stop]" in slack.of_bot(asked.ts)[0].shown
        await slack.press("visavis_stop", post, asked.ts)
        (answer,) = await slack.answered(asked.ts)
    assert "takes part" in slack.whispers[0]["text"]
    assert answer.shown.rstrip().endswith("(stopped)")


async def test_thumbs_of_several_people_are_one_feedback(slack: SlackStandIn, answering: Answering) -> None:
    async with answering() as service:
        asked = slack.say(ASK)
        await slack.tell(slack.event(asked))
        (answer,) = await slack.answered(asked.ts)
        other = slack.say("and its color?", user=BOB, thread=asked.ts)
        await slack.tell(slack.event(other))
        await slack.answered(asked.ts, count=2)
        await settled(service)
        seen = []
        for user, reaction, added in (
            (ANN, "+1", True),
            (BOB, "-1", True),
            (BOB, "-1", False),
            ("U0STRANGER", "-1", True),
            (ANN, "+1", False),
        ):
            await slack.react(reaction, answer.ts, user, added=added)
            seen.append((await scores(service, answer))[0])
    assert seen == [1, 0, 1, 1, 0]


async def test_a_mention_that_is_edited_is_not_answered_again(slack: SlackStandIn, answering: Answering) -> None:
    model = ScriptedChatModel()
    async with answering(model) as service:
        asked = slack.say(ASK)
        await slack.tell(slack.event(asked))
        await slack.answered(asked.ts)
        redis = service.adapter._channel._redis
        for key in [key async for key in redis.scan_iter("visavis:seen:*")]:  # as after a quarter of an hour
            await redis.delete(key)
        edited = slack.event(asked, text=f"{ASK} please", edited={"user": ANN, "ts": "1800000099.000000"})
        assert (await slack.tell(edited)).acked.is_set()
        other = slack.say(ASK)
        await slack.tell(slack.event(other))
        await slack.answered(other.ts)
    assert len(model.asked) == 2
    assert len(slack.of_bot(asked.ts)) == 1


async def test_a_name_that_begins_like_ours_is_somebody_elses(slack: SlackStandIn, answering: Answering) -> None:
    model = ScriptedChatModel()
    async with answering(model):
        other = slack.say(f"<@{BOT}X> what is this?")
        await slack.tell(slack.event(other, type="message"))
        asked = slack.say(ASK)
        await slack.tell(slack.event(asked))
        await slack.answered(asked.ts)
    assert not slack.of_bot(other.ts)


async def test_what_comes_again_is_done_once(slack: SlackStandIn, answering: Answering, photo: bytes) -> None:
    async with answering(ScriptedChatModel(looks=True)):
        asked = slack.say(ASK, files=[slack.add_file(photo)])
        await slack.tell(slack.event(asked))
        (answer,) = await slack.answered(asked.ts)
        trigger = slack.trigger()
        for _ in range(3):
            await slack.press("visavis_why", answer.ts, asked.ts, trigger=trigger)
        thread = {"user_id": ANN, "channel_id": DM, "thread_ts": slack.say("", channel=DM).ts, "context": {}}
        for _ in range(3):
            await slack.tell({"type": "assistant_thread_started", "assistant_thread": thread}, "Ev1")
        await slack.until(lambda: slack.shared and slack.of_bot(channel=DM))
        await asyncio.sleep(0.3)
    assert (len(slack.shared), len(slack.of_bot(channel=DM))) == (1, 1)


async def test_who_asks_about_a_picture_where_the_app_is_not_is_told_so(
    slack: SlackStandIn, answering: Answering, photo: bytes
) -> None:
    async with answering():
        shown = slack.say("my photo", channel="C0ELSEWHERE", files=[slack.add_file(photo)], user=BOB)
        about = {"team": {"id": TEAM}, "user": {"id": ANN}}
        shortcut = {"type": "message_action", "callback_id": "visavis_ask_about_picture", "message": shown.as_json()}
        shortcut |= {"trigger_id": slack.trigger(), "channel": {"id": "C0ELSEWHERE"}}
        await slack.send("interactive", about | shortcut | {"response_url": f"{slack.url}/hook/1"})
        await slack.until(lambda: slack.called("views.open"))
        view = slack.called("views.open")[0]["view"] | {"id": "V1"}
        view["state"] = {"values": {"question": {"question": {"type": "plain_text_input", "value": "whose is it?"}}}}
        await slack.send("interactive", about | {"type": "view_submission", "view": view})
        await slack.until(lambda: slack.responses)
        await asyncio.sleep(0.3)
    assert ["invite" in one["text"] for one in slack.responses] == [True]
