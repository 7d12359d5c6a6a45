"""Which picture is meant, and which history goes with it."""

import base64
import json
from typing import Any

import pytest
from langchain_core.messages import AIMessage, HumanMessage, SystemMessage

from visavis.models.chat_messages import read_conversation
from visavis.models.completion_requests import CompletionRequest, read_request, write_request
from visavis.models.errors import BadRequest, TextTooLong
from visavis.models.generation import GenerationRequest, Message, Region, SamplingParameters, Shown
from visavis.models.images import image_id
from visavis.models.prompt import CAPTION_PROMPT

A, B = "a" * 64, "b" * 64


def human(text: str, *images: str) -> HumanMessage:
    blocks: list[str | dict[Any, Any]] = [{"type": "image", "file_id": image} for image in images]
    return HumanMessage([*blocks, {"type": "text", "text": text}]) if images else HumanMessage(text)


def test_history_begins_where_the_picture_was_shown() -> None:
    messages = [
        human("what is it?", A),
        AIMessage("a cat"),
        human("and this?", B),
        AIMessage("a dog"),
        human("its color?"),
    ]
    conversation = read_conversation([SystemMessage("be kind"), *messages])
    assert (conversation.question, conversation.image) == ("its color?", B)
    assert conversation.history == (("and this?", "a dog"),)


def test_the_dialogue_holds_all_as_it_was_written() -> None:
    blocks: list[str | dict[Any, Any]] = [
        "One:",
        {"type": "image", "file_id": A},
        {"type": "text", "text": "Two:\n\ttwo"},
    ]
    messages = [SystemMessage("x" * 20_000), human("hello"), AIMessage("Hi!"), HumanMessage(blocks), AIMessage("")]
    assert read_conversation([*messages, human("", B)]).dialogue == (
        Message("system", ("x" * 20_000,)),
        Message("user", ("hello",)),
        Message("assistant", ("Hi!",)),
        Message("user", ("One:", Shown(A), "Two:\n\ttwo")),
        Message("user", (Shown(B), CAPTION_PROMPT)),
    )


def test_small_talk_and_unanswered_turns_are_no_history() -> None:
    messages = [human("what is it?", A), human("hello?"), AIMessage("Hello!"), human("is it big?"), AIMessage("yes")]
    conversation = read_conversation([*messages, human("thanks, why?")])
    assert conversation.history == (("is it big?", "yes"),)


def test_newest_picture_of_a_message_is_meant_and_no_text_asks_for_a_caption() -> None:
    conversation = read_conversation([human("", A, B)])
    assert (conversation.question, conversation.image, conversation.history) == (CAPTION_PROMPT, B, ())


def test_bytes_inside_a_message_are_handed_on() -> None:
    block: dict[str, Any] = {"type": "image", "base64": base64.b64encode(b"bytes").decode(), "mime_type": "image/png"}
    conversation = read_conversation([HumanMessage([block])])
    assert conversation.inline == {image_id(b"bytes"): b"bytes"}
    assert conversation.image == image_id(b"bytes")


@pytest.mark.parametrize("messages", [[], [AIMessage("hi")], [human("")], [HumanMessage([{"type": "audio"}])]])
def test_messages_without_a_question_are_refused(messages: list[Any]) -> None:
    with pytest.raises(BadRequest):
        read_conversation(messages)


def test_long_texts_are_refused() -> None:
    with pytest.raises(TextTooLong):
        read_conversation([human("a" * 20_000)])


@pytest.mark.parametrize(
    "request_",
    [
        GenerationRequest("what is it?"),
        GenerationRequest(
            "and this?",
            (),
            B,
            dialogue=(
                Message("system", ("Be kind.\nBe brief.",)),
                Message("user", ("First:", Shown(A), "what is it?")),
                Message("assistant", ("a cat",)),
                Message("user", (Shown(A), Shown(B), "and this?")),
            ),
        ),
        GenerationRequest("what is it?", image=A),
        GenerationRequest("what is it?", image=A, sampling=SamplingParameters(min_new_tokens=2, beams=4)),
        GenerationRequest(
            "its color?",
            (("what is it?", "a cat"), ("is it big?", "yes")),
            A,
            Region(0.1, 0.2, 0.3, 0.4),
            SamplingParameters(0.7, 5, 0.9, 3, 1.2, 20, ("\n", "cat")),
            deadline_s=2.5,
        ),
    ],
)
def test_a_request_survives_the_wire(request_: GenerationRequest) -> None:
    read = read_request(json.dumps(write_request(request_)).encode(), CompletionRequest)
    assert read.generation_request(read.conversation()) == request_
