"""The chat model in process and over a socket: the same answers, pictures sent once, streams that can be left."""

import asyncio
import base64
import contextlib
import hashlib
import subprocess
import sys
from collections.abc import AsyncIterator

import pytest
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage, HumanMessage
from tiny_checkpoint import drawn_picture, until

from visavis.models.chat_model import VisavisChatModel
from visavis.models.engine import InferenceEngine
from visavis.models.errors import BadRequest, ModelError, ServerLost, UnknownImage
from visavis.models.generation import Completion, FinishReason, GenerationChunk, GenerationRequest

PICTURES = {hashlib.sha256(data).hexdigest(): data for data in (drawn_picture(), drawn_picture("blue"))}
RED, BLUE = PICTURES


class Pictures:
    """An image source that remembers what it was asked for."""

    def __init__(self) -> None:
        self.read_ids: list[str] = []

    async def read(self, sha256: str) -> bytes:
        self.read_ids.append(sha256)
        return PICTURES[sha256]


@pytest.fixture
def pictures() -> Pictures:
    return Pictures()


@pytest.fixture(params=["in process", "remote"])
async def chat(
    request: pytest.FixtureRequest, engine: InferenceEngine, served: str, pictures: Pictures
) -> AsyncIterator[VisavisChatModel]:
    place = {"engine": engine} if request.param == "in process" else {"base_url": served}
    model = VisavisChatModel(image_source=pictures, **place)
    yield model
    await model.aclose()


def showing(image: str, text: str = "what color is it?") -> list[BaseMessage]:
    return [HumanMessage([{"type": "image", "file_id": image}, {"type": "text", "text": text}])]


async def test_in_process_and_remote_say_the_same(engine: InferenceEngine, served: str) -> None:
    here = VisavisChatModel(engine=engine, image_source=Pictures())
    there = VisavisChatModel(base_url=served, image_source=Pictures())
    first, second = await here.ainvoke(showing(RED)), await there.ainvoke(showing(RED))
    await there.aclose()
    assert first.content == second.content != ""
    assert first.response_metadata == second.response_metadata
    assert first.usage_metadata == second.usage_metadata


async def test_explains_in_process_and_remote_alike(
    chat: VisavisChatModel, engine: InferenceEngine, pictures: Pictures
) -> None:
    words = await chat.explain(showing(BLUE), "a red dog")
    assert pictures.read_ids == [BLUE]
    assert [word.word for word in words] == ["a", "red", "dog"]
    assert words == await engine.explain(GenerationRequest("what color is it?", (), BLUE), "a red dog")
    assert await chat.explain(showing(BLUE, "hello"), "Hello!") == ()  # nobody looked for that
    with pytest.raises(ModelError, match="about a picture") as refused:
        await chat.explain([HumanMessage("what color is it?")], "a red dog")
    assert refused.value.code == "bad_request"


async def test_streams_text_then_metadata(chat: VisavisChatModel) -> None:
    chunks = [chunk async for chunk in chat.astream(showing(RED), temperature=1.0, seed=1)]
    assert all(isinstance(chunk, AIMessageChunk) and isinstance(chunk.content, str) for chunk in chunks)
    last = chunks[-1]
    assert last.chunk_position == "last"
    assert last.response_metadata["image"] == RED
    assert last.response_metadata["finish_reason"] in ("stop", "length")
    assert last.response_metadata["model_name"] == "visavis-embedded"
    assert 0 < last.response_metadata["confidence"] <= 1
    assert last.usage_metadata is not None
    assert last.usage_metadata["input_tokens"] > last.usage_metadata["input_token_details"]["image"] == 17
    whole = await chat.ainvoke(showing(RED), temperature=1.0, seed=1)
    assert "".join(str(chunk.content) for chunk in chunks) == whole.content


async def test_speaks_plain_words_then_what_the_last_chunk_says(chat: VisavisChatModel) -> None:
    pieces = [piece async for piece in chat.speak(showing(RED), temperature=1.0, seed=1)]
    *words, last = [piece for piece in pieces if isinstance(piece, str) or piece.usage_metadata]
    chunks = [chunk async for chunk in chat.astream(showing(RED), temperature=1.0, seed=1)]
    assert words == [chunk.content for chunk in chunks[:-1] if chunk.content]
    assert isinstance(last, AIMessageChunk)
    assert (last.content, last.response_metadata) == (chunks[-1].content, chunks[-1].response_metadata)
    assert last.usage_metadata == chunks[-1].usage_metadata


async def test_a_picture_is_sent_once(chat: VisavisChatModel, engine: InferenceEngine, pictures: Pictures) -> None:
    first = await chat.ainvoke(showing(RED))
    await chat.ainvoke([*showing(RED), AIMessage(first.content), HumanMessage("is it a dog?")])
    assert pictures.read_ids == [RED]
    assert engine.counters.encoder_forwards == 1


async def test_the_picture_of_the_last_message_is_looked_at(chat: VisavisChatModel) -> None:
    alone = await chat.ainvoke(showing(BLUE))
    after = await chat.ainvoke([*showing(RED), AIMessage("red"), *showing(BLUE)])
    assert after.content == alone.content
    assert after.response_metadata["image"] == BLUE


async def test_history_reaches_the_model(chat: VisavisChatModel) -> None:
    follow_up = [*showing(RED), AIMessage("a red dog"), HumanMessage("is it a dog?")]
    alone = await chat.ainvoke(showing(RED, "is it a dog?"))
    assert (await chat.ainvoke(follow_up)).content != alone.content


async def test_base64_pictures_need_no_source(chat: VisavisChatModel, pictures: Pictures) -> None:
    block = {"type": "image", "base64": base64.b64encode(PICTURES[RED]).decode(), "mime_type": "image/png"}
    answer = await chat.ainvoke([HumanMessage([block, {"type": "text", "text": "what color is it?"}])])
    assert answer.response_metadata["image"] == RED
    assert pictures.read_ids == []


async def test_no_picture_yet(chat: VisavisChatModel) -> None:
    answer = await chat.ainvoke("what color is it?")
    assert "picture" in answer.content
    assert answer.response_metadata["confidence"] is None


async def test_leaving_the_stream_frees_the_row(chat: VisavisChatModel, engine: InferenceEngine) -> None:
    stream = chat.astream(showing(RED), temperature=3.0, seed=2)
    await anext(stream)
    await stream.aclose()  # type: ignore[attr-defined]
    await until(lambda: not engine.running and engine.counters.rows_freed == 1)


async def test_region_and_stop_reach_the_engine(chat: VisavisChatModel) -> None:
    whole = await chat.ainvoke(showing(RED))
    corner = {"x": 0.0, "y": 0.0, "w": 0.2, "h": 0.2}
    part = await chat.ainvoke(showing(RED), region=corner)
    assert part.response_metadata["confidence"] != whole.response_metadata["confidence"]
    pointed = showing(RED)
    pointed[-1].content[0]["extras"] = {"region": corner}
    assert (await chat.ainvoke(pointed)).response_metadata["confidence"] == part.response_metadata["confidence"]
    other = await chat.ainvoke(showing(RED), region={**corner, "image": BLUE})
    assert other.content == whole.content
    cut = await chat.ainvoke(showing(RED), stop=[str(whole.content)[2:4]])
    assert len(cut.content) < len(whole.content)


async def test_errors_have_codes(chat: VisavisChatModel) -> None:
    with pytest.raises(BadRequest):
        await chat.ainvoke(showing(RED), region={"x": "left"})
    with pytest.raises(BadRequest):
        await chat.ainvoke([AIMessage("hello")])
    chat.image_source = None
    with pytest.raises(UnknownImage) as unknown:
        await chat.ainvoke(showing(BLUE))
    assert unknown.value.code == "unknown_image"


async def test_sync_calls_run_beside_the_loop(chat: VisavisChatModel) -> None:
    whole = await chat.ainvoke(showing(RED))
    assert (await asyncio.to_thread(chat.invoke, showing(RED))).content == whole.content
    pieces = await asyncio.to_thread(lambda: [str(chunk.content) for chunk in chat.stream(showing(RED))])
    assert "".join(pieces) == whole.content


async def test_unreachable_server_is_a_model_error(tmp_path: object) -> None:
    chat = VisavisChatModel(base_url=f"unix://{tmp_path}/nobody.sock", patience_s=0)
    with pytest.raises(ModelError, match="cannot be reached") as failed:
        await chat.ainvoke("hello")
    assert failed.value.code == "model_error"
    with contextlib.suppress(RuntimeError):
        await chat.aclose()


class DyingServer:
    """Stands in for the client of a model server: each call says some pieces and is lost, or ends the answer."""

    def __init__(self, *calls: tuple[list[str], ServerLost | None]) -> None:
        self._calls = list(calls)
        self.waits: list[int] = []

    async def stream(self, request: GenerationRequest) -> AsyncIterator[GenerationChunk]:
        pieces, lost = self._calls.pop(0)
        for place in self.waits:
            yield GenerationChunk("", position=place)
        for piece in pieces:
            yield GenerationChunk(piece)
        if lost is not None:
            raise lost
        yield GenerationChunk("", Completion("".join(pieces), FinishReason.STOP))


def over(*calls: tuple[list[str], ServerLost | None], **options: float) -> VisavisChatModel:
    chat = VisavisChatModel(base_url="unix:///nobody.sock", **options)
    chat._backend = DyingServer(*calls)  # type: ignore[assignment]
    return chat


BROKE_OFF, UNREACHABLE = ServerLost(broke_off=True), ServerLost(broke_off=False)


async def test_a_server_that_dies_is_waited_for_and_nothing_is_said_twice() -> None:
    chat = over((["A ", "red"], BROKE_OFF), ([], UNREACHABLE), (["A", " red b", "all."], None))
    assert [str(chunk.content) async for chunk in chat.astream("what is it?")] == ["A ", "red", " b", "all.", ""]


async def test_places_in_the_line_are_told_until_something_is_said() -> None:
    chat = over((["A "], BROKE_OFF), (["A ", "cat."], None))
    chat._backend.waits = [3, 1]  # type: ignore[union-attr]
    chunks = [chunk async for chunk in chat.astream("what is it?")]
    told = [chunk.response_metadata.get("queue_positions") for chunk in chunks]
    assert told == [[3], [1], None, None, None]
    assert [str(chunk.content) for chunk in chunks] == ["", "", "A ", "cat.", ""]


async def test_a_question_that_kills_the_server_twice_is_given_up() -> None:
    chat = over((["A "], BROKE_OFF), (["A "], BROKE_OFF))
    with pytest.raises(ServerLost, match="broke off"):
        await chat.ainvoke("what is it?")


async def test_half_an_answer_left_to_chance_is_not_patched_together() -> None:
    with pytest.raises(ServerLost):
        await over((["A "], BROKE_OFF), temperature=0.5).ainvoke("what is it?")
    begun_again = over(([], BROKE_OFF), (["Yes."], None), temperature=0.5)
    assert (await begun_again.ainvoke("what is it?")).content == "Yes."


def test_needs_one_place_to_run() -> None:
    with pytest.raises(ValueError, match="engine or a base_url"):
        VisavisChatModel()


def test_a_gateway_does_not_import_torch() -> None:
    code = "import sys, visavis.models.chat_model; print({'torch', 'transformers'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout == b"set()\n"
