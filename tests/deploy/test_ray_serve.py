"""Ray Serve with two replicas on this machine: equal tokens, one place for a picture, streams that can be left, and one
replica killed in mid-answer. Wants the extra `ray`; started once for all tests."""

import asyncio
import contextlib
import os
import signal
import socket
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import httpx
import psutil
import pytest
import yaml
from langchain_core.messages import BaseMessage, HumanMessage
from PIL import Image, ImageDraw

from visavis.models.chat_model import VisavisChatModel
from visavis.models.images import image_id
from visavis.models.model_server import open_engine

ray = pytest.importorskip("ray")
serve = pytest.importorskip("ray.serve")
DEPLOY = Path(__file__).parents[2] / "deploy"
LONG = {"min_new_tokens": 100, "max_new_tokens": 120}
pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(600),
    pytest.mark.filterwarnings("ignore"),  # of Ray's own code
]


def drawn(color: str) -> bytes:
    path = Path(os.environ["TMPDIR_OF_TEST"]) / f"{color}.png"
    if not path.exists():
        picture = Image.effect_noise((64, 64), 60).convert("RGB")
        ImageDraw.Draw(picture).ellipse((8, 8, 56, 56), fill=color)
        picture.save(path)
    return path.read_bytes()


class Pictures:
    """An image source that counts what it was asked for."""

    def __init__(self) -> None:
        self.known: dict[str, bytes] = {}
        self.sent = 0

    async def read(self, sha256: str) -> bytes:
        self.sent += 1
        return self.known[sha256]

    def ask(self, data: bytes, text: str = "what is in the picture?") -> list[BaseMessage]:
        self.known[image_id(data)] = data
        return [HumanMessage(content=[{"type": "image", "file_id": image_id(data)}, {"type": "text", "text": text}])]


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    os.environ["TMPDIR_OF_TEST"] = str(tmp_path_factory.mktemp("pictures"))
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    os.environ["PYTHONPATH"] = os.pathsep.join([str(DEPLOY), *filter(None, [os.environ.get("PYTHONPATH")])])
    import ray_serve

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, object_store_memory=100 << 20)
    serve.start(http_options={"host": "127.0.0.1", "port": port})
    settings = {"cpus": 0.5, "threads": 1, "precision": "fp32", "min_replicas": 2, "max_replicas": 2, "ongoing": 3}
    serve.run(ray_serve.build(settings))
    yield f"http://127.0.0.1:{port}/v1"
    serve.shutdown()
    ray.shutdown()


@pytest.fixture
async def pictures() -> Pictures:
    return Pictures()


@pytest.fixture
async def chat(address: str, pictures: Pictures) -> AsyncIterator[VisavisChatModel]:
    model = VisavisChatModel(base_url=address, image_source=pictures)
    yield model
    await model.aclose()


def replicas() -> list[psutil.Process]:
    mine = psutil.Process().children(recursive=True) + list(psutil.process_iter())
    return list({one.pid: one for one in mine if _is_replica(one)}.values())


def _is_replica(process: psutil.Process) -> bool:
    try:
        return process.uids().real == os.getuid() and "ServeReplica:default:model" in " ".join(process.cmdline())
    except psutil.Error:
        return False


async def counted(address: str, name: str) -> set[float]:
    """A counter of all replicas, each asked until no new one is found."""
    found: dict[str, float] = {}
    async with httpx.AsyncClient() as client:
        for _ in range(40):
            lines = (await client.get(address.replace("/v1", "/metrics"))).text.splitlines()
            values = dict(line.split(" ") for line in lines if not line.startswith("#") and "{" not in line)
            found[values["process_start_time_seconds"]] = float(values[name])
    return set(found.values())


async def test_tokens_confidence_and_heat_maps_are_those_of_an_engine_in_this_process(
    chat: VisavisChatModel, pictures: Pictures
) -> None:
    question = pictures.ask(drawn("red"))
    there = await chat.ainvoke(question, **LONG)
    with open_engine(["--precision", "fp32", "--threads", "1"]) as engine:
        here_model = VisavisChatModel(engine=engine, image_source=pictures)
        here = await here_model.ainvoke(question, **LONG)
        maps = await here_model.explain(question, here.text)
    assert there.text == here.text and there.usage_metadata == here.usage_metadata
    assert there.response_metadata["confidence"] == pytest.approx(here.response_metadata["confidence"], abs=1e-3)
    told = await chat.explain(question, there.text)
    assert [one.word for one in told] == [one.word for one in maps]
    assert told[0].rows[0] == pytest.approx(maps[0].rows[0], abs=1e-3)


async def test_what_is_asked_about_one_picture_goes_to_one_place(
    chat: VisavisChatModel, pictures: Pictures, address: str
) -> None:
    questions = [pictures.ask(drawn("blue"), f"is number {number} blue?") for number in range(6)]
    for question in questions:
        await chat.ainvoke(question)
    assert pictures.sent == 1, "its bytes travelled once: every question reached the replica that has them"


async def test_a_busy_replica_passes_on_to_the_other(chat: VisavisChatModel, pictures: Pictures) -> None:
    """Six at once about one picture, with three places at each replica: all are answered, by both."""
    question = pictures.ask(drawn("green"))
    answers = await asyncio.gather(*(chat.ainvoke(question, **LONG) for _ in range(6)))
    assert len({answer.text for answer in answers}) == 1
    assert pictures.sent >= 2, "the second replica had to be sent the picture, too"


async def test_the_first_words_come_before_the_end_and_leaving_frees_the_row(
    chat: VisavisChatModel, pictures: Pictures, address: str
) -> None:
    question, said = pictures.ask(drawn("yellow")), ""
    whole = (await chat.ainvoke(question, **LONG)).text
    async with contextlib.aclosing(chat.astream(question, **LONG)) as stream:
        async for chunk in stream:
            if said := chunk.text:
                break
    assert said and whole.startswith(said) and len(said) < len(whole)
    async with asyncio.timeout(60):
        while await counted(address, "visavis_requests_running") != {0.0}:  # noqa: ASYNC110 - there is no event of it
            await asyncio.sleep(0.1)


async def test_a_deadline_ends_an_answer_where_it_is(chat: VisavisChatModel, pictures: Pictures) -> None:
    question = pictures.ask(drawn("red"))
    whole = await chat.ainvoke(question, **LONG)
    short = await chat.ainvoke(question, **LONG, deadline_s=0.0)
    assert short.response_metadata["finish_reason"] == "cancelled"
    assert whole.text.startswith(short.text) and len(short.text) < len(whole.text)


async def test_a_replica_that_is_killed_in_mid_answer_costs_a_retry_and_no_answer(
    chat: VisavisChatModel, pictures: Pictures
) -> None:
    question = pictures.ask(drawn("black"))
    whole = (await chat.ainvoke(question, **LONG)).text
    both = {one.pid for one in replicas()}
    assert len(both) == 2
    for _ in range(4):  # whichever of them answers dies
        said = ""
        async for chunk in chat.astream(question, **LONG):
            said += chunk.text
            if chunk.text and both:
                os.kill(both.pop(), signal.SIGKILL)
        assert said == whole
    async with asyncio.timeout(120):
        while len(replicas()) < 2:  # noqa: ASYNC110 - there is no event of it
            await asyncio.sleep(0.2)


def test_the_manifest_for_kuberay_has_what_serve_and_the_application_take() -> None:
    from ray.serve.schema import ServeDeploySchema
    from ray_serve import ReplicaSettings

    file = DEPLOY / "kubernetes/overlays/gpu/rayservice.yaml"
    spec = yaml.safe_load(file.read_text())["spec"]
    config = yaml.safe_load(spec["serveConfigV2"])
    ServeDeploySchema.model_validate(config)
    (application,) = config["applications"]
    assert application["import_path"] == "ray_serve:build"
    assert ReplicaSettings.model_validate(application["args"]).gpus == 1
    assert spec["rayClusterConfig"]["rayVersion"] == ray.__version__


def test_a_setting_that_it_does_not_know_is_refused() -> None:
    import ray_serve

    with pytest.raises(ValueError, match="max_replica"):
        ray_serve.build({"max_replica": 3})
