"""How answers are shown in Slack: streamed, edited, in parts, under limits, by one process after the other."""

import pytest
from scripted_chat_model import ScriptedChatModel
from slack_rules import ApiFault, limited
from slack_running import ASK, Answering, pictures
from slack_stand_in import ANN, TEAM, SlackStandIn


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


async def test_long_answers_come_in_messages_that_slack_takes(slack: SlackStandIn, answering: Answering) -> None:
    words = " ".join(f"word{number}" for number in range(4_000))
    async with answering(ScriptedChatModel(answer=words)):
        asked = slack.say(ASK)
        await slack.tell(slack.event(asked))
        await slack.until(lambda: sum(len(one.shown.split()) for one in slack.of_bot(asked.ts)) >= 4_000)
        answers = await slack.answered(asked.ts)
    assert " ".join(one.shown for one in answers).split() == words.split()
    assert len(answers) == 4


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
