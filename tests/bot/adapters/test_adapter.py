"""The core of the platform adapters on a real store with a fake platform and a scripted model."""

import asyncio
from dataclasses import replace
from typing import Any

import pytest
from fake_platform import FakePlatform, message, running, settled
from scripted_chat_model import ScriptedChatModel

from visavis.bot.adapters.platform import (
    Ending,
    FileLink,
    Limited,
    PlatformError,
    Refused,
    incoming_from_json,
    incoming_to_json,
)
from visavis.bot.settings import Settings, load_settings
from visavis.dialogue.errors import StoreUnavailable


def shown_images(model: ScriptedChatModel, call: int = -1) -> list[str]:
    return [
        block["file_id"]
        for one in model.asked[call]
        for block in one.content
        if isinstance(block, dict) and block.get("type") == "image"
    ]


async def test_a_message_with_a_picture_is_answered_in_parts_that_end(
    settings: Settings, platform: FakePlatform, photo: bytes
) -> None:
    model = ScriptedChatModel(answer="word " * 100)
    platform.files["f"] = photo
    async with running(settings, platform, model) as (adapter, _):
        assert await adapter.accept(message(files=(FileLink("f", "image/png", len(photo)),)))
        text = await platform.answered("m1")
    assert text.split() == ["word"] * 100
    assert [outcome.ending for outcome in platform.endings.values()] == [Ending.ANSWERED]
    assert len(shown_images(model)) == 1
    assert len(platform.messages) > 2


async def test_a_conversation_goes_on_in_its_place_and_nowhere_else(settings: Settings, platform: FakePlatform) -> None:
    model = ScriptedChatModel()
    async with running(settings, platform, model) as (adapter, _):
        for number, place in enumerate(["here", "here", "there"]):
            await adapter.accept(message(f"m{number}", place=place))
            await platform.answered(f"m{number}")
    assert [len(asked) for asked in model.asked] == [1, 3, 1]


async def test_repeats_are_dropped_by_any_of_their_ids_and_in_any_process(
    settings: Settings, platform: FakePlatform
) -> None:
    model = ScriptedChatModel()
    first, second = message("m1", events=("e1", "m1")), message("m1", events=("e2", "m1"))
    async with running(settings, platform, model) as (one, _), running(settings, platform, model) as (other, _):
        taken = await asyncio.gather(*(adapter.accept(first) for adapter in [one, other] * 5))
        assert sum(taken) == 1
        assert not await other.accept(second)
        await platform.answered("m1")
        assert not await one.accept(first)
        assert await one.accept(message("m2"))
        await platform.answered("m2")
    assert len(model.asked) == 2


async def test_accepting_waits_for_no_model_and_no_picture(
    settings: Settings, platform: FakePlatform, photo: bytes
) -> None:
    platform.files["f"], platform.fetch_pause_s["f"] = photo, 3600
    model = ScriptedChatModel(pause_s=3600)
    async with asyncio.timeout(60), running(settings, platform, model) as (adapter, _):
        for number in range(20):
            files = (FileLink("f"),) if number % 2 else ()
            assert await adapter.accept(message(f"m{number}", place=f"p{number}", files=files))


async def test_a_store_that_is_away_means_not_taken(settings: Settings, platform: FakePlatform) -> None:
    gone = settings.model_copy(update={"redis_url": "redis://127.0.0.1:1"})
    async with running(gone, platform) as (adapter, _):
        with pytest.raises(StoreUnavailable):
            await adapter.accept(message())


async def test_drafts_are_coalesced_and_the_final_text_is_never_left_out(
    settings: Settings, platform: FakePlatform
) -> None:
    platform.edit_interval_s = 0.2
    model = ScriptedChatModel(answer=" ".join(f"w{number}" for number in range(30)), pause_s=0.01)
    async with running(settings, platform, model) as (adapter, _):
        await adapter.accept(message())
        assert (await platform.answered("m1")).split()[-1] == "w29"
    assert len(platform.puts) < 10
    assert [final for _, final in platform.puts].count(True) == 1
    assert platform.puts[-1][1]


async def test_a_storm_of_limits_is_waited_for_as_long_as_the_platform_says(
    settings: Settings, platform: FakePlatform
) -> None:
    platform.faults = [Limited(0.3) for _ in range(5)]
    async with running(settings, platform) as (adapter, _):
        await adapter.accept(message())
        await platform.answered("m1")
    assert not platform.faults
    assert platform.too_early == 0


async def test_an_outage_of_the_platform_delays_the_final_text_only(settings: Settings, platform: FakePlatform) -> None:
    platform.faults = [PlatformError("away") for _ in range(2)]
    async with running(settings, platform) as (adapter, _):
        await adapter.accept(message())
        assert await platform.answered("m1") == "a red square on white"


async def test_what_a_platform_does_not_want_is_not_tried_again(settings: Settings, platform: FakePlatform) -> None:
    platform.faults = [Refused("the channel is archived") for _ in range(20)]
    async with running(settings, platform) as (adapter, conversations):
        await adapter.accept(message())
        await settled(adapter)
        assert await conversations.store.channel(platform.name).adopt(1) == []
    assert platform.endings == {}


@pytest.mark.parametrize(
    ("file", "said"),
    [
        (FileLink("f", "application/pdf"), "application/pdf files are not read"),
        (FileLink("f", "image/png", 10**9), "at most 20 MiB"),
        (FileLink("gone", "image/png"), "could not be fetched"),
        (FileLink("text", "image/png"), "not a picture"),
    ],
)
async def test_a_bad_file_is_answered_with_a_sentence_and_costs_nothing_else(
    settings: Settings, platform: FakePlatform, photo: bytes, file: FileLink, said: str
) -> None:
    model = ScriptedChatModel()
    platform.files |= {"f": photo, "text": b"hello" * 100}
    async with running(settings, platform, model) as (adapter, _):
        await adapter.accept(message(files=(file,)))
        assert said in await platform.answered("m1")
        assert platform.endings["m1"].ending is Ending.FAILED
        await adapter.accept(message("m2"))
        await platform.answered("m2")
    assert len(model.asked) == 1


async def test_earlier_pictures_of_a_thread_come_first_and_bad_ones_are_passed_over(
    settings: Settings, platform: FakePlatform, photo: bytes
) -> None:
    model = ScriptedChatModel()
    platform.files["good"] = photo
    platform.earlier = [FileLink("gone"), FileLink("good")]
    async with running(settings, platform, model) as (adapter, _):
        await adapter.accept(message())
        await platform.answered("m1")
    assert len(shown_images(model)) == 1


async def test_too_many_pictures_and_too_much_text_are_refused_as_on_the_web(
    settings: Settings, platform: FakePlatform, photo: bytes
) -> None:
    platform.files["f"] = photo
    async with running(settings, platform) as (adapter, _):
        await adapter.accept(message("m1", files=(FileLink("f"),) * 9))
        assert await platform.answered("m1") == "A message may show at most 8 pictures; this one has 9."
        await adapter.accept(message("m2", "x" * 4_001))
        assert "at most 4,000 characters" in await platform.answered("m2")
        await adapter.accept(message("m3", "half \ud83d"))
        assert "surrogate" in await platform.answered("m3")


async def test_a_person_who_asks_too_often_is_told_so(store_url: str, platform: FakePlatform) -> None:
    async with running(load_settings(redis_url=store_url, turns_per_minute=1), platform) as (adapter, _):
        await adapter.accept(message("m1"))
        await platform.answered("m1")
        await adapter.accept(message("m2"))
        assert "please wait" in await platform.answered("m2")
        await adapter.accept(message("m3", person="fake:bob"))
        assert await platform.answered("m3") == "a red square on white"


async def test_the_model_pings_nobody_and_loads_nothing(settings: Settings, platform: FakePlatform) -> None:
    hostile = "<!channel> <@U1> @everyone ![x](http://evil.example/leak) \u202eevil"
    async with running(settings, platform, ScriptedChatModel(answer=hostile)) as (adapter, _):
        await adapter.accept(message())
        text = await platform.answered("m1")
    for active in ("<!channel", "<@U1", "@everyone", "![", "\u202e"):
        assert active not in text


async def test_of_many_earlier_pictures_only_as_many_are_fetched_as_may_be_shown(
    settings: Settings, platform: FakePlatform, photo: bytes
) -> None:
    platform.files["own"] = photo
    platform.earlier = [FileLink(f"gone{number}") for number in range(50)]
    fetched = []
    fetch = platform.fetch

    async def counting(file: FileLink, limits: Any) -> bytes:
        fetched.append(file.url)
        return await fetch(file, limits)

    platform.fetch = counting  # type: ignore[method-assign]
    async with running(settings, platform) as (adapter, _):
        await adapter.accept(message(files=(FileLink("own"),)))
        await platform.answered("m1")
    assert fetched == [*(f"gone{number}" for number in range(43, 50)), "own"]


async def test_a_message_survives_its_way_through_the_store() -> None:
    incoming = message(files=(FileLink("u", "image/png", 5, "F1"),), events=("e", "m"), address={"a": "\u202e<b>"})
    assert incoming_from_json(incoming_to_json(replace(incoming, state={"0": "1.2"}))).state == {"0": "1.2"}
    assert incoming_from_json(incoming_to_json(incoming)) == incoming
