"""What deploy/README.md says of backing up: a dump that is taken while people talk, and a new server made of it."""

import asyncio
import contextlib
import io
import shutil
import subprocess
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
import version_1_store as version_1
from fake_chat_model import FakeChatModel
from PIL import Image

from visavis.dialogue.commands import TurnCommand
from visavis.dialogue.errors import StoreTooNew
from visavis.dialogue.events import TurnCompleted
from visavis.dialogue.manager import DialogueManager
from visavis.dialogue.store import open_store
from visavis.dialogue.store_client import VERSION, connect, session_key
from visavis.dialogue.store_records import SCHEMA

pytestmark = pytest.mark.skipif(shutil.which("redis-server") is None, reason="no redis-server on PATH")


@contextlib.contextmanager
def redis_server(folder: Path, *options: str) -> Iterator[Path]:
    """A server whose files are in `folder`; the path of its socket."""
    folder.mkdir(exist_ok=True)
    path = folder / "r.sock"
    command = ["redis-server", "--port", "0", "--unixsocket", str(path), "--dir", str(folder), *options]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
        try:
            while not path.exists():
                assert process.poll() is None
                time.sleep(0.02)
            yield path
        finally:
            process.terminate()


def cli(path: Path, *command: str) -> str:
    return subprocess.run(["redis-cli", "-s", str(path), *command], capture_output=True, text=True, check=True).stdout


async def ask(manager: DialogueManager, session: str, text: str, *images: str) -> TurnCompleted:
    async for event in manager.run_turn(session, TurnCommand(id=str(uuid.uuid4()), text=text, images=images)):
        final = event
    assert isinstance(final, TurnCompleted)
    return final


def picture() -> bytes:
    data = io.BytesIO()
    Image.new("RGB", (40, 30), "red").save(data, "PNG")
    return data.getvalue()


async def test_a_dump_of_a_live_store_brings_everything_back_and_goes_on_append_only(tmp_path: Path) -> None:
    dump = tmp_path / "backup.rdb"
    with redis_server(tmp_path / "old", "--appendonly", "yes") as path:
        store = open_store(f"unix://{path}")
        async with DialogueManager(store, FakeChatModel()) as manager:
            session = await manager.new_session("web:ann")
            image = await manager.add_image(session, picture())
            await ask(manager, session, "what is this?", image.sha256)
            cli(path, "--rdb", str(dump))
            await ask(manager, session, "said after the backup")
            whole = await manager.history(session)
        await store.aclose()
    (tmp_path / "new").mkdir()
    shutil.copy(dump, tmp_path / "new/dump.rdb")
    with redis_server(
        tmp_path / "new", "--appendonly", "no"
    ) as path:  # with `yes` it would read no dump and begin empty
        cli(path, "config", "set", "appendonly", "yes")
        while "aof_rewrite_in_progress:1" in cli(path, "info", "persistence"):  # noqa: ASYNC110 - there is no event of it
            await asyncio.sleep(0.02)
        store = open_store(f"unix://{path}")
        async with DialogueManager(store, FakeChatModel()) as manager:
            found = await manager.open_session(session, "web:ann")
            assert found.exchanges == whole.exchanges[:1]
            assert await manager.read_image(session, image.sha256)
            assert [one.id for one in await manager.persons.sessions("web:ann")] == [session]
            await ask(manager, session, "and now?")
        await store.aclose()
    with redis_server(tmp_path / "new", "--appendonly", "yes") as path:
        store = open_store(f"unix://{path}")
        async with DialogueManager(store, FakeChatModel()) as manager:
            questions = [one.question.text for one in (await manager.history(session)).exchanges]
            assert questions == ["what is this?", "and now?"], "from now on the append-only files are the truth"
        await store.aclose()


@pytest.mark.parametrize("later", [False, True], ids=["of an earlier version", "of a later version"])
async def test_a_backup_has_its_version_in_it(tmp_path: Path, later: bool) -> None:
    dump, session = tmp_path / "backup.rdb", "5e" * 16
    with redis_server(tmp_path / "old", "--appendonly", "yes") as path:
        redis = connect(f"unix://{path}")
        await version_1.write(redis, session)
        if later:
            await redis.hset(VERSION, "version", SCHEMA + 1)
        await redis.aclose()
        cli(path, "--rdb", str(dump))
    (tmp_path / "new").mkdir()
    shutil.copy(dump, tmp_path / "new/dump.rdb")
    with redis_server(tmp_path / "new", "--appendonly", "no") as path:
        store = open_store(f"unix://{path}")
        if later:
            with pytest.raises(StoreTooNew):
                await store.open()
            assert cli(path, "hget", session_key(session, "meta"), "schema") == "1\n", "nothing was touched"
        else:
            assert await store.open() == 1
            assert [one.question.text for one in (await store.sessions.load(session)).exchanges][-1] == "The last?"
            assert cli(path, "hmget", VERSION, "version", "left") == f"{SCHEMA}\n{SCHEMA}\n"
        await store.aclose()
