"""Words that come fast are handed over together; the first never wait, nor does the end, and nothing is lost."""

import asyncio

import pytest

from visavis.models.errors import ModelError
from visavis.models.generation import Completion, FinishReason, GenerationChunk
from visavis.models.mailbox import Event, Mailbox

END = GenerationChunk("!", Completion("One two three!", FinishReason.STOP))
LONG_S, SHORT_S = 60.0, 0.02


def words(*pieces: str) -> list[GenerationChunk]:
    return [GenerationChunk(piece) for piece in pieces]


async def read(mailbox: Mailbox, count: int) -> list[Event]:
    return [await asyncio.wait_for(mailbox.get(), 5) for _ in range(count)]


async def test_the_end_takes_along_what_was_kept_and_the_first_words_do_not_wait() -> None:
    mailbox = Mailbox(asyncio.get_running_loop(), LONG_S)
    for chunk in (*words("One", " two", " three"), END):
        mailbox.put(chunk)
    assert await read(mailbox, 2) == [GenerationChunk("One"), GenerationChunk(" two three!", END.completion)]
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(mailbox.get(), SHORT_S)


async def test_after_the_pause_they_come_by_themselves() -> None:
    mailbox = Mailbox(asyncio.get_running_loop(), SHORT_S)
    for chunk in words("One", " two", " three"):
        mailbox.put(chunk)
    assert await read(mailbox, 2) == words("One", " two three")
    await asyncio.sleep(2 * SHORT_S)
    mailbox.put(GenerationChunk(" four"))
    assert await read(mailbox, 1) == words(" four"), "long after the last ones: at once"


async def test_without_a_pause_each_piece_comes_by_itself() -> None:
    mailbox = Mailbox(asyncio.get_running_loop(), 0.0)
    for chunk in (*words("One", " two"), END):
        mailbox.put(chunk)
    assert await read(mailbox, 3) == [*words("One", " two"), END]


@pytest.mark.parametrize("other", [ModelError("broken"), GenerationChunk("", position=2)])
async def test_what_are_no_words_comes_at_once_and_behind_those_before_it(other: Event) -> None:
    mailbox = Mailbox(asyncio.get_running_loop(), LONG_S)
    for event in (*words("One", " two"), other):
        mailbox.put(event)
    assert await read(mailbox, 3) == [*words("One", " two"), other]


async def test_a_reader_that_left_gets_nothing_more() -> None:
    mailbox = Mailbox(asyncio.get_running_loop(), SHORT_S)
    for chunk in words("One", " two"):
        mailbox.put(chunk)
    mailbox.close()
    await asyncio.sleep(2 * SHORT_S)
    assert await read(mailbox, 1) == words("One")
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(mailbox.get(), SHORT_S)
