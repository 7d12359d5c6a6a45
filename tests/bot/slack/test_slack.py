"""Conversations in Slack: slack-bolt and slack-sdk themselves against the stand-in, over Socket Mode."""

import asyncio
from typing import Any

import pytest
from scripted_chat_model import ScriptedChatModel
from slack_rules import ApiFault, limited
from slack_running import Answering
from slack_stand_in import ANN, BOB, BOT, DM, ROOM, TEAM, SlackStandIn

from visavis.bot.adapters import screen
from visavis.dialogue.errors import StoreUnavailable
from visavis.dialogue.rate_limits import Action, RateLimits

ASK = f"<@{BOT}> what is this?"


def pictures(model: ScriptedChatModel, call: int = -1) -> int:
    return sum(
        isinstance(block, dict) and block["type"] == "image" for one in model.asked[call] for block in one.content
    )


def question(model: ScriptedChatModel, call: int = -1) -> str:
    content = model.asked[call][-1].content
    return content if isinstance(content, str) else " ".join(str(block) for block in content)


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


async def test_a_long_answer_is_streamed_with_a_stop_button_beside_it_that_goes_away(
    slack: SlackStandIn, answering: Answering
) -> None:
    words = " ".join(f"w{number}" for number in range(60))
    async with answering(ScriptedChatModel(answer=words, pause_s=0.02)):
        asked = slack.say(ASK)
        await slack.tell(slack.event(asked))
        await slack.until(lambda: any("[Stop]" in one.shown for one in slack.of_bot(asked.ts)))
        await slack.until(lambda: not any("[Stop]" in one.shown for one in slack.of_bot(asked.ts)))
        (answer,) = await slack.answered(asked.ts)
    assert answer.shown.split() == words.split()
    started = slack.called("chat.startStream")
    assert (started[0]["recipient_user_id"], started[0]["recipient_team_id"]) == (ANN, TEAM)
    assert len(slack.called("chat.appendStream")) >= 2
    assert not slack.called("chat.update")


async def test_a_stream_that_expires_is_finished_by_edits_of_the_same_message(
    slack: SlackStandIn, answering: Answering
) -> None:
    slack.stream_lives = 3
    words = " ".join(f"w{number}" for number in range(60))
    async with answering(ScriptedChatModel(answer=words, pause_s=0.02)):
        asked = slack.say(ASK)
        await slack.tell(slack.event(asked))
        (answer,) = await slack.answered(asked.ts)
    assert answer.shown.split() == words.split()
    assert {one["ts"] for one in slack.called("chat.update")} == {answer.ts}


@pytest.mark.parametrize("code", ["unknown_method", "missing_scope", "channel_type_not_supported"])
async def test_where_nothing_can_be_streamed_messages_are_edited(
    slack: SlackStandIn, answering: Answering, code: str
) -> None:
    slack.faults["chat.startStream"] = [ApiFault(code)] * 9
    words = " ".join(f"w{number}" for number in range(40))
    async with answering(ScriptedChatModel(answer=words, pause_s=0.02)):
        asked = slack.say(ASK)
        await slack.tell(slack.event(asked))
        (answer,) = await slack.answered(asked.ts)
    assert answer.shown.split() == words.split()
    assert len(slack.called("chat.postMessage")) == 1
    assert any("Stop" in str(one["blocks"]) for one in slack.called("chat.update"))


async def test_an_append_that_nobody_knows_of_is_not_repeated_but_edited(
    slack: SlackStandIn, answering: Answering
) -> None:
    slack.faults["chat.appendStream"] = [ApiFault("", html=True)]
    words = " ".join(f"w{number}" for number in range(40))
    async with answering(ScriptedChatModel(answer=words, pause_s=0.02)):
        asked = slack.say(ASK)
        await slack.tell(slack.event(asked))
        (answer,) = await slack.answered(asked.ts)
    assert answer.shown.split() == words.split()


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


async def test_a_storm_of_rate_limits_is_waited_for(slack: SlackStandIn, answering: Answering) -> None:
    for method in ("chat.startStream", "chat.appendStream", "chat.stopStream", "chat.postMessage", "chat.delete"):
        slack.faults[method] = [limited(1)]
    async with answering(ScriptedChatModel(answer="a red square on white " * 9, pause_s=0.15)):
        asked = slack.say(ASK)
        await slack.tell(slack.event(asked))
        (answer,) = await slack.answered(asked.ts)
    assert answer.shown.split() == ("a red square on white " * 9).split()
    assert len(slack.called("chat.delete")) == 2
    assert slack.too_early == []


async def test_limits_on_the_way_to_a_picture_are_waited_for_too(
    slack: SlackStandIn, answering: Answering, photo: bytes
) -> None:
    model = ScriptedChatModel()
    for method in ("conversations.replies", "files.info", "assistant.threads.setStatus"):
        slack.faults[method] = [limited(1)]
    slack.file_faults = [1]
    async with answering(model):
        slack.add_file(photo)
        root = slack.say("look", files=[{"id": "F00000", "file_access": "check_file_info"}])
        asked = slack.say(ASK, thread=root.ts)
        await slack.tell(slack.event(asked))
        await slack.answered(root.ts)
    assert pictures(model) == 1
    assert len(slack.file_tokens) == 2
    assert slack.too_early == []


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


async def test_long_answers_come_in_messages_that_slack_takes(slack: SlackStandIn, answering: Answering) -> None:
    words = " ".join(f"word{number}" for number in range(4_000))
    async with answering(ScriptedChatModel(answer=words)):
        asked = slack.say(ASK)
        await slack.tell(slack.event(asked))
        await slack.until(lambda: sum(len(one.shown.split()) for one in slack.of_bot(asked.ts)) >= 4_000)
        answers = await slack.answered(asked.ts)
    assert " ".join(one.shown for one in answers).split() == words.split()
    assert len(answers) == 4


async def test_a_connection_that_slack_wants_anew_loses_nothing(slack: SlackStandIn, answering: Answering) -> None:
    async with answering():
        first = slack.sockets[0]
        await slack.refresh()
        await slack.until(lambda: slack.sockets and first not in slack.sockets)
        asked = slack.say(ASK)
        await slack.tell(slack.event(asked))
        await slack.answered(asked.ts)


async def test_a_process_that_ends_hands_its_answer_over_and_the_same_message_is_finished(
    slack: SlackStandIn, answering: Answering
) -> None:
    words = " ".join(f"w{number}" for number in range(40))
    async with answering(ScriptedChatModel(answer=words, pause_s=0.5), drain_s=0):
        asked = slack.say(ASK)
        await slack.tell(slack.event(asked))
        await slack.until(lambda: slack.of_bot(asked.ts))
    (begun,) = (one for one in slack.of_bot(asked.ts) if "[Stop]" not in one.shown)
    async with answering(ScriptedChatModel(answer=words)):
        (answer,) = await slack.answered(asked.ts)
    assert answer.ts == begun.ts
    assert answer.shown.split() == words.split()


async def test_a_long_answer_in_another_script_is_edited_whole(slack: SlackStandIn, answering: Answering) -> None:
    """An edit's plain text is counted in bytes."""
    slack.faults["chat.startStream"] = [ApiFault("unknown_method")] * 9
    words = " ".join(f"照片里有一只狗<{number}>" for number in range(300))
    async with answering(ScriptedChatModel(answer=words, pause_s=0.002)):
        asked = slack.say(ASK)
        await slack.tell(slack.event(asked))
        (answer,) = await slack.answered(asked.ts)
    assert answer.shown.split() == words.split()
    assert max(len(one["text"].encode()) for one in slack.called("chat.update")) > 3_000


async def test_words_are_not_doubled_where_a_piece_was_shown_and_said_to_have_failed(
    slack: SlackStandIn, answering: Answering
) -> None:
    slack.late_faults["chat.appendStream"] = [ApiFault("internal_error")]
    words = " ".join(f"w{number}" for number in range(60))
    async with answering(ScriptedChatModel(answer=words, pause_s=0.02)):
        asked = slack.say(ASK)
        await slack.tell(slack.event(asked))
        (answer,) = await slack.answered(asked.ts)
    assert slack.late_faults["chat.appendStream"] == []
    assert answer.shown.split() == words.split()


async def test_what_is_for_one_person_is_said_once(slack: SlackStandIn, answering: Answering, photo: bytes) -> None:
    slack.faults["assistant.threads.setStatus"] = [None, ApiFault("internal_error")]  # type: ignore[list-item]
    async with answering():
        asked = slack.say(ASK, files=[slack.add_file(photo, mimetype="application/pdf")])
        await slack.tell(slack.event(asked))
        await slack.until(lambda: slack.whispers and not slack.faults["assistant.threads.setStatus"])
        await asyncio.sleep(0.3)
    assert len(slack.called("chat.postEphemeral")) == 1


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
