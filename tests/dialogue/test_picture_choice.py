import uuid
from collections.abc import Sequence

import pytest
from fake_chat_model import FakeChatModel
from pydantic import Field
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


async def test_the_last_and_the_other_one_are_found_wherever_the_talk_is(talk: Talk) -> None:
    one, other = await talk.show("red"), await talk.show("green")
    await talk.ask("What is it?", "A dog.", one)
    await talk.ask("What is it?", "A cat.", other)
    for text, meant in (("And the last one?", other), ("And the other one?", other), ("And the second?", other)):
        assert (await talk.ask("What is in the first one?", "A dog.")).image == one
        assert (await talk.ask(text, "A cat.")).image == meant, text
    assert (await talk.ask("And the other one?", "A dog.")).image == one
    await talk.ask("What is it?", "A cat.", other)
    await talk.ask("What is it?", "A dog.", one)
    assert (await talk.ask("Is the previous one older?", "No.")).image == other, "the one that was shown before it"


class Comparing(FakeChatModel):
    """Tells how well texts fit pictures, as a test has it; breaks where nothing is said of one."""

    fits: dict[str, float] = Field(default_factory=dict)
    compared: list[str] = Field(default_factory=list)

    async def likeness(self, text: str, images: Sequence[str]) -> tuple[float, ...]:
        self.compared.append(text)
        return tuple(self.fits[image] for image in images)


async def test_a_model_that_can_compare_is_asked_which_picture_fits(talk: Talk) -> None:
    dog, cat, car = [await talk.show(colour) for colour in ("red", "green", "blue")]
    await talk.ask("What is it?", "A cat.", dog)
    await talk.ask("What is it?", "A dog.", cat)
    await talk.ask("What is it?", "A car.", car)
    model = Comparing(pieces=["Brown."])
    talk.manager, talk.model = DialogueManager(talk.manager._store, model, policy=FAST), model
    model.fits = {dog: 9.0, cat: 2.0, car: 1.0}
    assert (await talk.ask("What colour is the one with the dog?", "Brown.")).image == dog, "whatever was said"
    assert model.compared == ["the dog"]
    model.fits = {dog: 9.0, cat: 8.9, car: 8.8}
    assert (await talk.ask("What colour is the one with the dog?", "Brown.")).image == cat, "nothing clear: as was said"
    assert (await talk.ask("What colour is the first picture?", "Brown.")).image == dog
    assert len(model.compared) == 2, "order words come first"
    model.fits = {}
    assert (await talk.ask("What colour is the one with the car?", "Brown.")).image == car, "a broken one costs nothing"
    assert len(model.asked) == 4, "nothing had to be captioned"


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
