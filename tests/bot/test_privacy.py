"""A person's data out and away: pages, lines, pictures, feedback for training, and nothing that stays behind."""

import contextlib
import io
import json
import uuid
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from PIL import Image
from scripted_chat_model import ScriptedChatModel
from scripted_engine import ScriptedEngine
from typer.testing import CliRunner

from visavis.bot import privacy
from visavis.bot.cli import app
from visavis.bot.feedback_folder import feedback_folder, training_rows
from visavis.bot.settings import Settings, load_settings
from visavis.dialogue.commands import Regenerate, TurnCommand
from visavis.dialogue.manager import DialogueManager
from visavis.dialogue.store import Store, open_store
from visavis.dialogue.store_client import connect
from visavis.dialogue.store_sessions import SessionStore
from visavis.dialogue.turns import Feedback, ImageRef
from visavis.models.training.data import load_photos


@pytest.fixture
def settings(store_url: str, tmp_path: Path) -> Settings:
    return load_settings(redis_url=store_url, data_dir=tmp_path / "data")


@pytest.fixture
def photo() -> bytes:
    """One that no other test has shown."""
    data = io.BytesIO()
    Image.new("RGB", (64, 48), f"#{uuid.uuid4().hex[:6]}").save(data, "PNG")
    return data.getvalue()


@pytest.fixture
def person() -> str:
    return f"web:{uuid.uuid4().hex}"


async def converse(settings: Settings, photo: bytes, person: str) -> tuple[Store, DialogueManager, str, str]:
    store = open_store(settings.redis_url or "")
    manager = DialogueManager(store, ScriptedChatModel(answer="A <b>red</b> square."), settings.limits)
    session = await manager.new_session(person)
    image = (await manager.add_image(session, photo)).sha256
    first = TurnCommand(str(uuid.uuid4()), "What is <this>?", (image,))
    for command in (first, TurnCommand(str(uuid.uuid4()), "And now?")):
        async for _ in manager.run_turn(session, command):
            pass
    again = Regenerate(command.id, str(uuid.uuid4()))
    async for _ in manager.turns.follow(await manager.regenerate(session, again)):
        pass
    await manager.set_feedback(session, again.id, Feedback(1, consent=True))
    return store, manager, session, image


async def test_a_person_gets_everything_and_a_page_that_stands_alone(
    settings: Settings, photo: bytes, person: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(privacy, "open_engine", lambda settings: contextlib.nullcontext(ScriptedEngine()))
    store, _, session, image = await converse(settings, photo, person)
    out = tmp_path / "out"
    assert await privacy.export_person(settings, person, out, heat_maps=True) == 1
    lines = [json.loads(line) for line in (out / "turns.jsonl").read_text().splitlines()]
    assert [line["role"] for line in lines] == ["user", "assistant"] * 3 and lines[0]["images"] == [image]
    assert len(list((out / "images").iterdir())) == 1
    page = (out / f"{session}.html").read_text()
    assert "What is &lt;this&gt;?" in page and "<b>" not in page and "src=" in page
    assert page.count("data:image/") == 3, "the picture once, a heat map under each of the two answers"
    assert await privacy.export_person(settings, "web:nobody", out, heat_maps=False) == 0
    await store.aclose()


async def test_feedback_with_consent_is_read_by_training_and_forgotten_with_its_conversation(
    settings: Settings, photo: bytes, person: str
) -> None:
    store, _, session, image = await converse(settings, photo, person)
    other, _, _, _ = await converse(settings, photo, f"{person}2")
    folder, rows = await privacy.export_feedback(settings)
    assert rows >= 2
    [shown] = [one for one in load_photos([folder]) if image in one.path.name]
    assert shown.path.exists() and ("And now?", "A <b>red</b> square. ") in [
        (t.question, t.answer) for t in shown.turns
    ]
    receipt = await privacy.forget(settings, person, None)
    assert (receipt.sessions, receipt.turns, receipt.images) == (1, 6, 0)
    assert session not in (folder / "dialogues.train.jsonl").read_text()
    assert list((folder / "images").iterdir()), "another conversation shows it"
    assert (await privacy.forget(settings, f"{person}2", None)).images == 1
    assert not [one for one in load_photos([folder]) if image in one.path.name]
    assert not list((folder / "images").glob(f"{image}*"))
    client = connect(settings.redis_url or "")
    assert not [key async for key in client.scan_iter("*") if person.encode() in key or image.encode() in key]
    for one in (client, store, other):
        await one.aclose()


async def test_what_is_forgotten_while_feedback_is_exported_is_not_in_it(
    settings: Settings, photo: bytes, person: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, manager, gone, image = await converse(settings, photo, person)
    other, _, left, _ = await converse(settings, photo, f"{person}2")
    listed, read = SessionStore.all_sessions, privacy._picture

    async def with_one_that_expires(sessions: SessionStore) -> AsyncIterator[str]:
        yield "0" * 32
        async for session in listed(sessions):
            yield session

    async def forgotten_then(store: Store, session: str, sha256: str) -> tuple[ImageRef, bytes]:
        found = await read(store, session, sha256)
        if session == gone:
            await manager.forget(session)
            feedback_folder(settings.data_dir).forget(session)
        return found

    monkeypatch.setattr(SessionStore, "all_sessions", with_one_that_expires)
    monkeypatch.setattr(privacy, "_picture", forgotten_then)
    folder, rows = await privacy.export_feedback(settings)
    lines = (folder / "dialogues.train.jsonl").read_text().splitlines()
    assert rows == len(lines) and gone not in "".join(lines) and left in "".join(lines)
    assert list((folder / "images").glob(f"{image}*")), "the other conversation shows it"
    for one in (store, other):
        await one.aclose()


async def test_without_consent_or_a_liking_nothing_is_given_away(settings: Settings, photo: bytes, person: str) -> None:
    store, manager, session, _ = await converse(settings, photo, person)
    last = (await manager.history(session)).exchanges[-1].question.id
    for feedback, count in [(Feedback(1, False), 0), (Feedback(-1, True), 0), (Feedback(1, True), 1)]:
        await manager.set_feedback(session, last, feedback)
        rows = training_rows(session, (await manager.history(session)).exchanges)
        assert len(rows) == count
    first = (await manager.history(session)).exchanges[0].question.id
    await manager.set_feedback(session, first, Feedback(-1))
    [row] = training_rows(session, (await manager.history(session)).exchanges)
    assert [turn["question"] for turn in row["turns"]] == ["And now?"]
    await manager.forget(session)
    feedback_folder(settings.data_dir).forget(session)  # without a folder there is nothing to do
    await store.aclose()


def test_the_commands_with_no_server_running(tmp_path: Path) -> None:
    data = ["--data-dir", str(tmp_path / "d")]
    (tmp_path / "d").mkdir()
    done = CliRunner().invoke(app, ["forget", "--person", "web:nobody", *data])
    assert done.exit_code == 0 and json.loads(done.stdout)["sessions"] == 0
    done = CliRunner().invoke(app, ["export", "--person", "web:nobody", "--out", str(tmp_path / "o"), *data])
    assert done.exit_code == 0 and (tmp_path / "o" / "turns.jsonl").read_text() == ""
    assert CliRunner().invoke(app, ["forget", "--session", "0" * 32, *data]).exit_code == 1
    assert CliRunner().invoke(app, ["forget"]).exit_code == 2
    assert CliRunner().invoke(app, ["export"]).exit_code == 2
