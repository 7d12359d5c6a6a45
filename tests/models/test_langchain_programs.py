"""The chat model inside LangChain programs as people write them: chains, graphs, callbacks, events, fall-backs."""

import base64
from typing import Annotated, Any, TypedDict

import pytest
from langchain_core.callbacks import UsageMetadataCallbackHandler
from langchain_core.language_models import FakeListChatModel
from langchain_core.messages import AnyMessage, HumanMessage
from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import ChatPromptTemplate
from langgraph.graph import END, START, StateGraph
from langgraph.graph.message import add_messages
from tiny_checkpoint import drawn_picture

from visavis.models.chat_model import VisavisChatModel
from visavis.models.engine import InferenceEngine

PICTURE = base64.b64encode(drawn_picture()).decode()


@pytest.fixture
def model(engine: InferenceEngine) -> VisavisChatModel:
    return VisavisChatModel(engine=engine, min_new_tokens=3)


def question(text: str) -> HumanMessage:
    block = {"type": "image", "base64": PICTURE, "mime_type": "image/png"}
    return HumanMessage([block, {"type": "text", "text": text}])


async def test_a_picture_question_in_a_chain(model: VisavisChatModel) -> None:
    prompt = ChatPromptTemplate(
        [
            (
                "human",
                [
                    {"type": "image_url", "image_url": {"url": "data:image/png;base64,{picture}"}},
                    {"type": "text", "text": "What color is the {thing}?"},
                ],
            )
        ]
    )
    chain = prompt | model | StrOutputParser()
    asked = {"picture": PICTURE, "thing": "ball"}
    answer = await chain.ainvoke(asked)
    assert answer == (await model.ainvoke([question("What color is the ball?")])).content != ""
    assert "".join([piece async for piece in chain.astream(asked)]) == answer
    assert await chain.abatch([asked, asked]) == [answer, answer]


async def test_a_picture_question_in_a_graph(model: VisavisChatModel, engine: InferenceEngine) -> None:
    class State(TypedDict):
        messages: Annotated[list[AnyMessage], add_messages]

    async def look(state: State) -> dict[str, Any]:
        return {"messages": [await model.ainvoke(state["messages"])]}

    graph = StateGraph(State)
    graph.add_node("look", look)
    graph.add_edge(START, "look")
    graph.add_edge("look", END)
    program = graph.compile()
    first = await program.ainvoke({"messages": [question("What is this?")]})
    second = await program.ainvoke({"messages": [*first["messages"], HumanMessage("Is it red?")]})
    assert [message.type for message in second["messages"]] == ["human", "ai", "human", "ai"]
    assert engine.counters.encoder_forwards == 1


async def test_callbacks_and_events_tell_what_happens(model: VisavisChatModel) -> None:
    counter = UsageMetadataCallbackHandler()
    answer = await model.ainvoke([question("What is this?")], config={"callbacks": [counter]})
    assert counter.usage_metadata["visavis-embedded"]["total_tokens"] == (answer.usage_metadata or {})["total_tokens"]
    events = [event async for event in model.astream_events([question("What is this?")], version="v2")]
    assert [events[0]["event"], events[-1]["event"]] == ["on_chat_model_start", "on_chat_model_end"]
    pieces = [event["data"]["chunk"].content for event in events if event["event"] == "on_chat_model_stream"]
    assert "".join(pieces) == answer.content


async def test_another_model_steps_in(model: VisavisChatModel) -> None:
    broken = VisavisChatModel(base_url="unix:///nowhere/model.sock", patience_s=0)
    answer = await broken.with_fallbacks([FakeListChatModel(responses=["I step in."])]).ainvoke("What is this?")
    assert answer.content == "I step in."
    await broken.aclose()
