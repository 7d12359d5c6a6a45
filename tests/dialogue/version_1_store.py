"""A conversation as visavis kept it before branches came (schema 1), as commit 888ce98 left one in Redis.

Five turns of which the first two have left by age, the fourth failed; one that a process runs, one that waits.
"""

import json
from typing import Any

from redis.asyncio import Redis

RED, BLUE = "af87446e" * 8, "2b54fd7c" * 8
TURNS = [f"00000000-0000-4000-8000-{number:012}" for number in range(1, 8)]
RUNS, WAITS = TURNS[5:]
AT = 1700000000.123456
TTL_S = 2_592_000


def _text(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def _question(turn: str, text: str, status: str, images: tuple[str, ...] = (), region: Any = None) -> str:
    return f"{turn} " + _text({"text": text, "images": images, "at": AT, "region": region, "status": status})


def _answer(session: str, turn: str, **final: Any) -> str:
    head = {"type": "turn.completed", "session": session, "turn": turn, "attempt": 1, "seq": 5}
    return f"{turn} " + _text({"at": AT + 1.5, "final": head | final})


def _completed(session: str, turn: str) -> str:
    said = {"text": "A red ball.", "html": "<p>A red ball.</p>", "image": BLUE, "left_out": []}
    counted = {"usage": {"input_tokens": 7, "output_tokens": 3, "image_tokens": 4}}
    counted |= {"timings": {"queue_ms": 22, "first_ms": 9, "total_ms": 32}}
    return _answer(session, turn, **said, **counted, confidence=0.5, suggestions=[])


async def write(redis: Redis, session: str, *, holder: str = "n0nce", images: tuple[str, ...] = ()) -> None:
    """Keep the conversation; its third turn showed `images`, if any, the first ones two."""

    def key(name: str) -> str:
        return f"visavis:{{{session}}}:{name}"

    failed = {"type": "turn.failed", "code": "model_error", "message": "Please try again."}
    newest = {"newest": _text(images or [RED, BLUE]), "count": 10, "created": "1795813916.7056189"}
    held = {"attempt": 1, "running": RUNS, "holder": holder, "fence": 6}
    await redis.hset(key("meta"), mapping={"schema": 1} | newest | held)
    await redis.rpush(
        key("turns"),
        *(_question(TURNS[2], "And what \u201ccolour\u201d 🙂?", "completed", images), _completed(session, TURNS[2])),
        *(_question(TURNS[3], "fails", "failed"), _answer(session, TURNS[3], **failed)),
        *(_question(TURNS[4], "The last?", "completed"), _completed(session, TURNS[4])),
    )
    await redis.hset(key("index"), mapping={TURNS[2]: 4, TURNS[3]: 6, TURNS[4]: 8})
    for image in (RED, BLUE):
        ref = {"sha256": image, "width": 4, "height": 3, "mime": "image/png", "bytes": 77}
        await redis.hset(key("images"), image, _text(ref))
        await redis.hset(
            f"visavis:image:{image}", mapping={"data": b"\x89PNG", "ref": _text(ref), f"session:{session}": 1}
        )
    region = {"image": RED, "x": 0.25, "y": 0.5, "w": 0.125, "h": 0.25}
    await redis.rpush(key("queue"), "0 " + _question(RUNS, "Who runs?", "waiting", (RED,), region))
    await redis.rpush(key("queue"), "1 " + _question(WAITS, "Who waits?", "waiting"))
    for name in ("meta", "turns", "index", "images", "queue"):
        await redis.expire(key(name), TTL_S)
    await redis.set(key("lease"), holder, px=3_600_000)
    delta = {"type": "turn.delta", "session": session, "turn": RUNS, "attempt": 1, "seq": 1, "text": "A "}
    await redis.xadd(key("live"), {"turn": RUNS, "events": _text([delta])}, id="6-1")
    await redis.expire(key("live"), 120)
    await redis.zadd("visavis:active", {session: AT})
