"""What a model is asked when an old answer is explained, and how its maps go over the wire."""

import base64
from types import SimpleNamespace
from typing import Any

import pytest
from fake_chat_model import FakeChatModel
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage
from pydantic import Field

from visavis.dialogue.context import Budget
from visavis.dialogue.errors import BadRequest, DialogueError, ModelFailed, UnknownTurn
from visavis.dialogue.explaining import explain_turn
from visavis.dialogue.turns import Role, Session, Turn

CAT, DOG = "c" * 64, "d" * 64


class ExplainingModel(FakeChatModel):
    """Says where its words came from: the first from the top left, the second from everywhere."""

    explained: list[tuple[list[BaseMessage], str]] = Field(default_factory=list)
    error: Exception | None = None

    async def explain(self, messages: list[BaseMessage], answer: str) -> list[Any]:
        self.explained.append((messages, answer))
        if self.error is not None:
            raise self.error
        return [
            SimpleNamespace(start=0, end=1, rows=((0.5, 0.0), (0.0, 0.0))),
            SimpleNamespace(start=2, end=5, rows=((0.25, 0.25), (0.25, 0.25))),
        ]


def session() -> Session:
    turns = (
        Turn("1", Role.USER, "What is it?", (CAT,)),
        Turn("1", Role.ASSISTANT, "A cat.", (CAT,)),
        Turn("2", Role.USER, "What color?"),
        Turn("2", Role.ASSISTANT, "Red.", (CAT,)),
        Turn("3", Role.USER, "And this?", (DOG,)),
        Turn("3", Role.ASSISTANT, "A dog.", (DOG,)),
        Turn("4", Role.USER, "Hello", status="waiting"),
    )
    return Session("s", turns, (), (DOG,))


@pytest.fixture
def model() -> ExplainingModel:
    return ExplainingModel()


async def test_the_model_sees_what_it_saw_then(model: ExplainingModel) -> None:
    explanation = await explain_turn(session(), "2", model, Budget())
    [(messages, answer)] = model.explained
    assert answer == "Red." and explanation.image == CAT and explanation.turn == "2"
    assert [type(message) for message in messages] == [HumanMessage, AIMessage, HumanMessage]
    assert CAT in str(messages[0].content) and DOG not in str(messages)


async def test_maps_are_scaled_to_their_own_maximum(model: ExplainingModel) -> None:
    explanation = await explain_turn(session(), "3", model, Budget())
    assert explanation.grid == (2, 2)
    assert [(word.start, word.end) for word in explanation.words] == [(0, 1), (2, 5)]
    maps = [list(base64.b64decode(encoded)) for encoded in (explanation.answer, *(w.map for w in explanation.words))]
    assert maps == [[255, 85, 85, 85], [255, 0, 0, 0], [255, 255, 255, 255]]


@pytest.mark.parametrize(("turn", "error"), [("4", UnknownTurn), ("9", UnknownTurn)])
async def test_only_finished_answers_are_explained(model: ExplainingModel, turn: str, error: type[Exception]) -> None:
    with pytest.raises(error):
        await explain_turn(session(), turn, model, Budget())


async def test_an_answer_without_a_picture_or_a_model_that_cannot_tell(model: ExplainingModel) -> None:
    words = Session("s", (Turn("1", Role.USER, "Hello"), Turn("1", Role.ASSISTANT, "Hi!")))
    with pytest.raises(BadRequest, match="about a picture"):
        await explain_turn(words, "1", model, Budget())
    with pytest.raises(BadRequest, match="cannot show where it looked") as refused:
        await explain_turn(session(), "1", FakeChatModel(), Budget())
    assert isinstance(refused.value, DialogueError) and refused.value.id == "1"


async def test_a_model_that_fails_is_one_sentence(model: ExplainingModel) -> None:
    model.error = RuntimeError("secret path /x")
    with pytest.raises(ModelFailed, match="could not show where it looked") as failed:
        await explain_turn(session(), "1", model, Budget())
    assert "secret" not in str(failed.value)
