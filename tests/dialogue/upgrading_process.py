"""Opens a store (address, first argument) and says how many conversations it upgraded.

With a second argument it is killed when it has read that many of them, in the middle of the last one.
"""

import asyncio
import os
import signal
import sys
from typing import Any

from visavis.dialogue import store_upgrade
from visavis.dialogue.store import open_store


def die_in_the_middle(after: int) -> None:
    read: list[int] = []
    plain = store_upgrade._commands

    def dying(*args: Any) -> Any:
        read.append(1)
        if len(read) == after:
            os.kill(os.getpid(), signal.SIGKILL)
        return plain(*args)

    store_upgrade._commands = dying


async def main() -> None:
    store = open_store(sys.argv[1])
    print(await store.open(), flush=True)
    await store.aclose()


if __name__ == "__main__":
    if len(sys.argv) > 2:
        die_in_the_middle(int(sys.argv[2]))
    asyncio.run(main())
