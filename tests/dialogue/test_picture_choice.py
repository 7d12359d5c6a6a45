import uuid

import pytest
from fake_chat_model import FakeChatModel
from redis.asyncio import Redis
from test_manager import FAST, collect, png

from visavis.dialogue.commands import TurnCommand
from visavis.dialogue.events import TurnCompleted
from visavis.dialogue.manager import DialogueManager
from visavis.dialogue.store import Store


class Talk:
    """A conversation with a model whose next answers are written down."""

    def __init__(self, manager: DialogueManager, model: FakeChatModel, session: str) -> None:
        self.manager, self.model, self.session = manager, model, session

    async def show(self, colour: str) -> str:
        return (await self.manager.add_image(self.session, png(colour))).sha256

    async def ask(self, text: str, answer: str, *images: str) -> TurnCompleted:
        self.model.pieces = [answer]
        command = TurnCommand(str(uuid.uuid4()), text, images)
        end = (await collect(self.manager.run_turn(self.session, command)))[-1]
        assert isinstance(end, TurnCompleted)
        return end


@pytest.fixture
async def talk(redis: Redis) -> Talk:
    model = FakeChatModel()
    manager = DialogueManager(Store(redis), model, policy=FAST)
    return Talk(manager, model, await manager.new_session())


async def test_the_one_that_was_said_to_show_it_is_meant(talk: Talk) -> None:
    dog, cat, car = [await talk.show(colour) for colour in ("red", "green", "blue")]
    await talk.ask("What is it?", "Two dogs on grass.", dog)
    await talk.ask("Is it a cat?", "Yes, it is.", cat)
    await talk.ask("Is there a dog in it?", "No, a car.", car)
    assert (await talk.ask("What colour is the one with the dog?", "Brown.")).image == dog
    assert (await talk.ask("And its ears?", "Long.")).image == dog, "the talk stays with it"
    assert (await talk.ask("Is the picture of the cat older?", "No.")).image == cat
    assert (await talk.ask("And the last one?", "Yes.", dog, car)).image == car
    asked = len(talk.model.asked)
    assert (await talk.ask("And the first picture?", "Yes.")).image == dog, "of those that were shown last, together"
    assert len(talk.model.asked) == asked + 1, "nothing had to be captioned"


async def test_pictures_of_which_nothing_was_said_are_captioned_once(talk: Talk, redis: Redis) -> None:
    one, other = await talk.show("red"), await talk.show("green")
    await talk.ask("Nice?", "Yes.", one)
    await talk.ask("Nice?", "Yes.", other)
    asked = len(talk.model.asked)
    assert (await talk.ask("Where is the one with the thing?", "A thing.")).image == other, "the newest of equals"
    assert len(talk.model.asked) == asked + 3
    await talk.manager.turns._store.images.set_caption(one, "A boat.")
    assert (await talk.ask("Where is the one with the boat?", "At sea.")).image == one
    assert (await talk.ask("Where is the one with the zebra?", "Nowhere.")).image == one, "else the latest talk"
    assert len(talk.model.asked) == asked + 5
    await talk.manager.forget(talk.session)
    assert await redis.keys() == []


async def test_a_model_that_cannot_caption_costs_nothing_else(talk: Talk) -> None:
    one, other = await talk.show("red"), await talk.show("green")
    await talk.ask("Nice?", "Yes.", one, other)

    class Broken(FakeChatModel):
        async def _astream(self, messages, *args, **kw):  # type: ignore[no-untyped-def]
            if len(messages) == 1:
                raise RuntimeError("no captions")
            async for chunk in super()._astream(messages, *args, **kw):
                yield chunk

    broken = DialogueManager(talk.manager._store, Broken(), policy=FAST)
    command = TurnCommand(str(uuid.uuid4()), "Where is the one with the boat?")
    end = (await collect(broken.run_turn(talk.session, command)))[-1]
    assert isinstance(end, TurnCompleted) and end.image == other


async def test_the_explanation_is_of_the_picture_that_was_meant(talk: Talk) -> None:
    one, other = await talk.show("red"), await talk.show("green")
    await talk.ask("What?", "A dog.", one)
    await talk.ask("What?", "A cat.", other)
    end = await talk.ask("And in the first one?", "A dog.")
    session = await talk.manager.history(talk.session)
    assert session.exchanges[-1].question.about == (one,) == session.exchanges[-1].answer.images and end.image == one
