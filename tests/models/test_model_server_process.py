"""The model server as a process of its own: start, SIGTERM in the middle of an answer, what it says when it cannot."""

import asyncio
import os
import signal
import socket
import stat
import sys
from pathlib import Path

import pytest
from langchain_core.messages import HumanMessage
from tiny_checkpoint import drawn_picture, until

from visavis.models.chat_model import VisavisChatModel
from visavis.models.images import image_id
from visavis.models.processor import Processor
from visavis.models.training.export import export_checkpoint
from visavis.models.visavis_model import VisavisModel


class Pictures:
    async def read(self, sha256: str) -> bytes:
        return drawn_picture()


async def start(*options: str) -> asyncio.subprocess.Process:
    command = [sys.executable, "-m", "visavis.models.model_server", *options]
    return await asyncio.create_subprocess_exec(
        *command, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )


def listens(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as probe:
        return probe.connect_ex(str(path)) == 0


@pytest.fixture
def checkpoint(tmp_path: Path, tiny_model: VisavisModel, tiny_processor: Processor) -> Path:
    export_checkpoint(tiny_model, tiny_processor, tmp_path / "model")
    return tmp_path / "model"


async def test_serves_then_drains_quietly(checkpoint: Path, tmp_path: Path) -> None:
    path = tmp_path / "model.sock"
    path.write_text("left by a dead server")
    server = await start("--model", str(checkpoint), "--uds", str(path), "--threads", "1")
    await until(lambda: listens(path) or server.returncode is not None, timeout_s=90)
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o600
    chat = VisavisChatModel(base_url=f"unix://{path}", image_source=Pictures(), max_new_tokens=24)
    block = {"type": "image", "file_id": image_id(drawn_picture())}
    chunks = []
    async for chunk in chat.astream([HumanMessage([block, {"type": "text", "text": "what is it?"}])]):
        if not chunks:
            server.send_signal(signal.SIGTERM)
        chunks.append(chunk)
    assert chunks[-1].response_metadata["finish_reason"] in ("stop", "length")
    await chat.aclose()
    output, _ = await server.communicate()
    assert (server.returncode, output) == (0, b"")
    assert not path.exists()


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (["--model", "/nowhere", "--port", "0"], "/nowhere"),
        (["--model", "CHECKPOINT", "--uds", "/nowhere/x.sock"], "/nowhere/x.sock"),
    ],
)
async def test_what_cannot_be_used_gets_one_sentence(checkpoint: Path, options: list[str], expected: str) -> None:
    server = await start(*(str(checkpoint) if option == "CHECKPOINT" else option for option in options))
    output, _ = await server.communicate()
    assert server.returncode == 1
    assert expected in output.decode()
    assert output.count(b"\n") == 1
