"""People as Locust plays them, over the real wire (docs/protocol.md), against any deployment:

    pip install locust
    locust -f tests/load/locustfile.py --headless --host http://127.0.0.1:8080 --users 20 --spawn-rate 5 --run-time 60s

Each shows a picture, asks about it, thinks, and asks again. A turn that fails, comes twice or does not come makes the
exit code 1. Always give a run time: there is no other bound. Aim it only at servers that are yours.
"""

import base64
import json
import time
import uuid
from typing import Any

from locust import User, between, events, task
from websockets.sync.client import connect

PICTURE = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAgAAAAGCAIAAABxZ0isAAAAEUlEQVR4nGP8z4AdMOEQH6QSAD2RAQv63jDMAAAAAElFTkSuQmCC"
)
FINAL = ("turn.completed", "turn.failed", "turn.cancelled")
PATIENCE_S = 60


class Person(User):
    """One tab with one conversation."""

    wait_time = between(0.5, 2.0)

    def on_start(self) -> None:
        address = self.host.replace("http", "ws", 1) + "/chat"
        self.socket = connect(address, compression=None, max_size=2**24, proxy=None)
        self.send(type="hello", version=1)
        self.until("ready")
        self.ended: set[str] = set()
        image = str(uuid.uuid4())
        self.send(type="image", id=image, mime="image/png", bytes=len(PICTURE))
        self.socket.send(PICTURE)
        self.images = [self.until("image.stored")["image"]]

    def on_stop(self) -> None:
        self.socket.close()

    @task
    def ask(self) -> None:
        """One turn; its first words and its end are told to Locust."""
        turn, started, first, problem = str(uuid.uuid4()), time.perf_counter(), None, None
        self.send(type="turn", id=turn, text="what is in the picture?", images=self.images)
        self.images = []
        text = ""
        while True:
            frame = self.receive()
            if frame.get("turn") != turn:
                problem = problem or (f"unexpected {frame['type']}" if frame["type"] != "turn.queued" else None)
                continue
            if frame["type"] == "turn.delta":
                first = first or time.perf_counter() - started
                text += frame["text"]
            if frame["type"] in FINAL:
                break
        if frame["type"] != "turn.completed" or frame["text"] != text or turn in self.ended:
            problem = f"{frame['type']} {frame.get('code', '')}"
        self.ended.add(turn)
        self.tell("first words", first or 0.0, problem)
        self.tell("turn", time.perf_counter() - started, problem)

    def tell(self, name: str, seconds: float, problem: str | None) -> None:
        error = RuntimeError(problem) if problem else None
        self.environment.events.request.fire(
            request_type="ws", name=name, response_time=1000 * seconds, response_length=0, exception=error, context={}
        )

    def send(self, **frame: Any) -> None:
        self.socket.send(json.dumps(frame))

    def receive(self) -> dict[str, Any]:
        frame: dict[str, Any] = json.loads(self.socket.recv(timeout=PATIENCE_S))
        if frame["type"] == "error":
            raise RuntimeError(f"{frame['code']}: {frame['message']}")
        return frame

    def until(self, name: str) -> dict[str, Any]:
        while (frame := self.receive())["type"] != name:
            pass
        return frame


@events.quitting.add_listener
def judge(environment: Any, **_: Any) -> None:
    """Nothing may fail, and something has to have been asked."""
    total = environment.stats.total
    raised = bool(environment.runner and environment.runner.exceptions)
    environment.process_exit_code = int(raised or total.num_failures > 0 or total.num_requests == 0)
