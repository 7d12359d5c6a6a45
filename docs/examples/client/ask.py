"""Ask a running server about a picture, word by word, with visavis' own client; a lost connection is made again.

visavis serve
python ask.py http://127.0.0.1:8080 photo.jpg "What is the dog doing?" "What color is it?"
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from visavis.bot.client import ChatClient, ServerRefused, ServerUnreachable
from visavis.dialogue.events import TextDelta, TurnCompleted, TurnFailed, TurnRestarted


async def ask(url: str, photo: bytes, questions: list[str]) -> None:
    """One conversation: the picture comes with the first question, the server remembers the rest."""
    async with ChatClient(url) as client:
        images = [await client.add_image(photo)]
        for question in questions:
            print(f"> {question}")
            async for event in client.ask(question, images):
                match event:
                    case TextDelta():
                        print(event.text, end="", flush=True)
                    case TurnRestarted():  # a server died; what it said is void
                        print("\n(once more) ", end="")
                    case TurnFailed():
                        print(event.message)
                    case TurnCompleted() if event.confidence is not None:
                        print(f"  ({event.confidence:.0%} sure)")
            images = []


def main() -> int:
    url, photo, *questions = sys.argv[1:]
    try:
        asyncio.run(ask(url, Path(photo).read_bytes(), questions))
    except (ServerRefused, ServerUnreachable, OSError) as error:
        print(f"{error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
