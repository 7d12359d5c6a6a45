"""What `visavis export` and `visavis forget` do, with a server running or not: a person's data out, or away."""

from __future__ import annotations

import contextlib
import json
import logging
from collections.abc import AsyncIterator
from pathlib import Path

from visavis.bot.conversation_page import conversation_page
from visavis.bot.embedded_store import EmbeddedStore, find_engine
from visavis.bot.feedback_folder import SUFFIX, Row, feedback_folder, training_rows
from visavis.bot.local_chat import open_engine
from visavis.bot.preparation import socket_folder
from visavis.bot.settings import Settings
from visavis.dialogue.errors import DialogueError, UnknownImage, UnknownSession
from visavis.dialogue.explaining import Explanation
from visavis.dialogue.manager import DialogueManager
from visavis.dialogue.persons import Receipt
from visavis.dialogue.store import Store, open_store
from visavis.dialogue.turns import Exchange, ImageRef
from visavis.dialogue.wire import turn_to_dict
from visavis.models.chat_model import VisavisChatModel

log = logging.getLogger(__name__)


@contextlib.asynccontextmanager
async def reached_store(settings: Settings) -> AsyncIterator[Store]:
    """The store of the settings; an embedded one is adopted from a running server, or started for the time being.

    Raises:
        StoreError, StoreUnavailable: it cannot be reached, or a later version has used it.
    """
    async with contextlib.AsyncExitStack() as stack:
        url = settings.redis_url
        if url is None:
            embedded = EmbeddedStore(find_engine(), settings.data_dir, socket_folder(settings.data_dir) / "store.sock")
            await embedded.start()
            if not embedded.adopted:
                stack.push_async_callback(embedded.stop)
            url = embedded.url
        store = open_store(url, ttl_s=settings.session_ttl_s)
        stack.push_async_callback(store.aclose)
        await store.open()
        yield store


async def forget(settings: Settings, person: str | None, session: str | None) -> Receipt:
    """Delete everything of a person, or one session, and what was exported of it here; raises `UnknownSession`."""
    async with reached_store(settings) as store:
        manager = _manager(store, settings)
        return await (manager.persons.forget(person) if person else manager.forget(session or ""))


async def export_person(settings: Settings, person: str, out: Path, *, heat_maps: bool) -> int:
    """Write `turns.jsonl`, `images/` and a page for each conversation; gives how many conversations there were."""
    (out / "images").mkdir(parents=True, exist_ok=True)
    async with reached_store(settings) as store:
        sessions = await store.persons.sessions(await store.persons.names(person))
        lines: list[str] = []
        with open_engine(settings) if heat_maps else contextlib.nullcontext() as engine:
            manager = _manager(store, settings, engine)
            for session, _ in sessions:
                lines += await _export_session(manager, store, session, out, heat_maps=heat_maps)
    (out / "turns.jsonl").write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return len(sessions)


async def export_feedback(settings: Settings) -> tuple[Path, int]:
    """Write anew what people have liked and given away, for `visavis train`; the folder and the number of rows."""
    rows: list[Row] = []
    pictures: dict[str, tuple[str, bytes]] = {}
    folder = feedback_folder(settings.data_dir)
    async with reached_store(settings) as store:
        async for session in store.sessions.all_sessions():
            with contextlib.suppress(UnknownSession):
                exchanges = (await store.sessions.load(session, exchanges=10**6)).exchanges
                for row in training_rows(session, exchanges):
                    with contextlib.suppress(UnknownImage):
                        ref, data = await _picture(store, session, row["image"])
                        pictures[ref.sha256] = (ref.sha256 + SUFFIX[ref.mime], data)
                        rows.append(row)
        folder.replace(rows, pictures)
        forgotten = await _forgotten(store, {row["session"] for row in rows})
    for session in forgotten:  # while it was read: whoever forgot it found nothing in the folder yet
        folder.forget(session)
    return settings.data_dir / "feedback", sum(row["session"] not in forgotten for row in rows)


async def _forgotten(store: Store, sessions: set[str]) -> set[str]:
    gone = set()
    for session in sessions:
        try:
            await store.sessions.check(session)
        except UnknownSession:
            gone.add(session)
    return gone


def _manager(store: Store, settings: Settings, engine: object = None) -> DialogueManager:
    address = "unix:///nowhere" if engine is None else None  # nobody is asked without an engine
    model = VisavisChatModel(engine=engine, base_url=address, image_source=store.images)
    return DialogueManager(store, model, settings.limits, on_forget=feedback_folder(settings.data_dir).forget)


async def _export_session(
    manager: DialogueManager, store: Store, session: str, out: Path, *, heat_maps: bool
) -> list[str]:
    """Write the page and the pictures; gives the lines of all branches. Empty for a session that has expired."""
    try:
        current = await store.sessions.load(session, exchanges=10**6)
    except UnknownSession:
        return []
    everything = [one async for one in store.sessions.all_exchanges(session)]
    pictures: dict[str, bytes] = {}
    for image in await store.sessions.image_ids(session):
        with contextlib.suppress(UnknownImage):
            ref, data = await _picture(store, session, image)
            pictures[image] = data
            (out / "images" / (image + SUFFIX[ref.mime])).write_bytes(data)
    maps = await _explained(manager, session, current.exchanges) if heat_maps else {}
    page = conversation_page(current.title, current.exchanges, pictures, maps)
    (out / f"{session}.html").write_text(page, encoding="utf-8")
    about = {"session": session, "title": current.title}
    turns = [turn for one in everything for turn in (one.question, one.answer)]
    return [json.dumps(about | turn_to_dict(turn), ensure_ascii=False) for turn in turns]


async def _explained(manager: DialogueManager, session: str, exchanges: tuple[Exchange, ...]) -> dict[str, Explanation]:
    maps = {}
    for one in exchanges:
        if one.answer.images and one.answer.text:
            try:
                maps[one.question.id] = await manager.explain(session, one.question.id)
            except DialogueError as error:
                log.warning("an answer has no heat map: %s", error)
    return maps


async def _picture(store: Store, session: str, sha256: str) -> tuple[ImageRef, bytes]:
    return await store.sessions.find_image(session, sha256), await store.images.read(sha256)
