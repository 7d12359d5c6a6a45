"""What can be done in Slack beside asking: buttons, thumbs, the slash command, the shortcut, the assistant's view."""

import asyncio

import pytest
from scripted_chat_model import ScriptedChatModel
from slack_rules import ApiFault, limited
from slack_running import ASK, Answering, pictures, question
from slack_stand_in import ANN, BOB, DM, ROOM, TEAM, SlackStandIn

from visavis.bot.adapters import screen
from visavis.dialogue.rate_limits import Action, RateLimits


async def test_stop_ends_the_answer_from_any_process(slack: SlackStandIn, answering: Answering) -> None:
    slack.faults["chat.startStream"] = [ApiFault("unknown_method")]
    model = ScriptedChatModel(answer="on and " * 900, pause_s=0.05)
    async with answering(model), answering(model):
        asked = slack.say(ASK)
        await slack.tell(slack.event(asked))
        await slack.until(lambda: slack.of_bot(asked.ts) and "[Stop]" in slack.of_bot(asked.ts)[0].shown)
        await asyncio.sleep(0.2)
        delivery = await slack.press("visavis_stop", slack.of_bot(asked.ts)[0].ts, asked.ts)
        assert delivery.acked.is_set()
        (answer,) = await slack.answered(asked.ts)
    assert answer.shown.rstrip().endswith("(stopped)")


async def test_an_answer_that_has_not_begun_can_be_stopped_too(
    slack: SlackStandIn, answering: Answering, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(screen, "STATUS_S", 0.1)
    async with answering(ScriptedChatModel(pause_s=3600)) as service:
        asked = slack.say(ASK)
        await slack.tell(slack.event(asked))
        await slack.until(lambda: any("[Stop]" in one.shown for one in slack.of_bot(asked.ts)))
        (control,) = slack.of_bot(asked.ts)
        while await service.adapter._channel.recall(f"{ROOM}:{control.ts}") is None:  # noqa: ASYNC110
            await asyncio.sleep(0.02)
        await slack.press("visavis_stop", control.ts, asked.ts)
        await slack.until(lambda: any("(stopped)" in one.shown for one in slack.of_bot(asked.ts)))
        (answer,) = await slack.answered(asked.ts)
    assert answer.shown == "(stopped)"
    assert control.ts != answer.ts


async def test_the_heat_map_is_uploaded_into_the_thread_by_button_or_by_word(
    slack: SlackStandIn, answering: Answering, photo: bytes
) -> None:
    async with answering(ScriptedChatModel(looks=True)):
        asked = slack.say(ASK, files=[slack.add_file(photo)])
        await slack.tell(slack.event(asked))
        (answer,) = await slack.answered(asked.ts)
        slack.faults["files.completeUploadExternal"] = [limited(1)]
        await slack.press("visavis_why", answer.ts, asked.ts)
        await slack.until(lambda: slack.shared)
        word = slack.say("Show why?", thread=asked.ts)
        for _ in range(2):
            await slack.tell(slack.event(word), "Ev9")
        await slack.until(lambda: len(slack.shared) == 2)
        await slack.press("visavis_why", "1.1", asked.ts)
        await slack.until(lambda: slack.whispers)
    assert [one["thread_ts"] for one in slack.shared] == [asked.ts] * 2
    assert all(data.startswith(b"\x89PNG") for data in slack.uploads.values())
    assert slack.whispers[0]["text"] == "This is no answer that is still known here."


async def test_thumbs_become_feedback(slack: SlackStandIn, answering: Answering) -> None:
    async with answering() as service:
        asked = slack.say(ASK)
        await slack.tell(slack.event(asked))
        (answer,) = await slack.answered(asked.ts)
        await slack.until(lambda: not service.adapter._tasks)
        session, _ = await service.adapter.find(f"{ROOM}:{answer.ts}")
        scores = []
        for added, reaction in ((True, "+1"), (True, "thumbsdown::skin-tone-3"), (True, "tada"), (False, "-1")):
            await slack.react(reaction, answer.ts, added=added)
            (exchange,) = (await service.adapter._manager.history(session)).exchanges
            scores.append(exchange.answer.feedback.score if exchange.answer.feedback else None)
        await slack.react("+1", asked.ts)
    assert scores == [1, -1, -1, 0]


async def test_the_slash_command_opens_a_thread_and_says_commands_to_one_person_only(
    slack: SlackStandIn, answering: Answering
) -> None:
    async with answering():
        slack.faults["chat.postMessage"] = [limited(1)]
        assert (await slack.command("what is <b> this?")).acked.is_set()
        await slack.until(lambda: slack.of_bot())
        root = slack.of_bot()[0]
        await slack.answered(root.ts)
        assert root.text == f"<@{ANN}> asks:\nwhat is &lt;b&gt; this?"
        await slack.command("link")
        await slack.until(lambda: slack.responses)
        assert "link " in slack.responses[0]["text"]
        await slack.command("hello", "C0ELSEWHERE")
        await slack.until(lambda: len(slack.responses) == 2)
        assert "invite" in slack.responses[1]["text"]
    assert all(one["response_type"] == "ephemeral" for one in slack.responses)


async def test_ask_about_this_picture(slack: SlackStandIn, answering: Answering, photo: bytes) -> None:
    model = ScriptedChatModel()
    async with answering(model):
        shown = slack.say("my photo", files=[slack.add_file(photo)], user=BOB)
        shortcut = {
            "type": "message_action",
            "callback_id": "visavis_ask_about_picture",
            "trigger_id": slack.trigger(),
            "team": {"id": TEAM},
            "user": {"id": ANN},
            "channel": {"id": ROOM},
            "message": shown.as_json(),
        }
        assert (await slack.send("interactive", shortcut)).acked.is_set()
        await slack.until(lambda: slack.called("views.open"))
        view = slack.called("views.open")[0]["view"] | {"id": "V1"}
        view["state"] = {"values": {"question": {"question": {"type": "plain_text_input", "value": "whose is it?"}}}}
        submission = {"type": "view_submission", "team": {"id": TEAM}, "user": {"id": ANN}, "view": view}
        for _ in range(2):
            assert (await slack.send("interactive", submission)).acked.is_set()
        await slack.answered(shown.ts)
        nothing = shortcut | {"message": slack.say("no picture").as_json(), "trigger_id": slack.trigger()}
        await slack.send("interactive", nothing)
        await slack.until(lambda: slack.whispers)
    assert len(model.asked) == 1
    assert pictures(model) == 1
    assert "whose is it?" in question(model)


async def test_the_assistants_view_greets_and_suggests(slack: SlackStandIn, answering: Answering) -> None:
    async with answering():
        root = slack.say("", channel=DM)
        thread = {"user_id": ANN, "channel_id": DM, "thread_ts": root.ts, "context": {}}
        await slack.tell({"type": "assistant_thread_started", "assistant_thread": thread, "event_ts": root.ts})
        await slack.until(lambda: slack.called("assistant.threads.setSuggestedPrompts"))
        home = {"type": "app_home_opened", "user": ANN, "channel": DM, "tab": "messages", "event_ts": "1.1"}
        await slack.tell(home)
        await slack.until(lambda: len(slack.called("assistant.threads.setSuggestedPrompts")) == 2)
        changed = {"type": "assistant_thread_context_changed", "assistant_thread": thread, "event_ts": "1.2"}
        assert (await slack.tell(changed)).acked.is_set()
    legacy, agent = slack.called("assistant.threads.setSuggestedPrompts")
    assert legacy["thread_ts"] == root.ts
    assert "thread_ts" not in agent
    assert slack.of_bot(root.ts, DM)[0].text


async def test_heat_maps_count_as_requests(
    slack: SlackStandIn, answering: Answering, photo: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    asking: list[str] = []
    monkeypatch.setattr(RateLimits, "take", lambda _, action, name: action is Action.REQUEST and asking.append(name))
    async with answering(ScriptedChatModel(looks=True)):
        asked = slack.say(ASK, files=[slack.add_file(photo)])
        await slack.tell(slack.event(asked))
        (answer,) = await slack.answered(asked.ts)
        await slack.press("visavis_why", answer.ts, asked.ts)
        await slack.tell(slack.event(slack.say("Show why?", thread=asked.ts)))
        await slack.until(lambda: len(slack.shared) == 2)
    assert asking == [f"slack:{TEAM}-{ANN}"] * 2
