"""The same weights behind LitServe with dynamic batching, as a process: `python -m visavis.models.litserve_rival`.

For comparison only (`visavis bench`); needs the extra `bench`. A batch ends when its longest answer ends, and nothing
is known of earlier turns.
"""

from __future__ import annotations

import argparse
import base64
from pathlib import Path
from typing import Any

import litserve

from visavis.models.rivals import GenerateRival, Turn

BATCH_TIMEOUT_S = 0.05


class GenerateApi(litserve.LitAPI):  # type: ignore[misc, unused-ignore]
    """One turn a request: base64 of a picture, a question, the history and the length of the answer."""

    def __init__(self, folder: Path, threads: int, device: str, **options: Any) -> None:
        super().__init__(**options)
        self._given = folder, threads, device

    def setup(self, device: Any) -> None:
        """Load the weights in the worker."""
        self.rival = GenerateRival(*self._given)

    def decode_request(self, request):  # type: ignore[no-untyped-def]  # an annotation would be taken for the form
        """JSON to a turn."""
        history = tuple((asked, answered) for asked, answered in request["history"])
        return base64.b64decode(request["picture"]), request["question"], history, request["length"]

    def batch(self, inputs: list[Turn]) -> list[Turn]:
        """As they are."""
        return list(inputs)

    def predict(self, inputs: list[Turn]) -> list[str]:
        """One static batch."""
        return self.rival.answer(inputs)

    def unbatch(self, output: list[str]) -> list[str]:
        """As they are."""
        return output

    def encode_response(self, output):  # type: ignore[no-untyped-def]  # likewise
        """JSON again."""
        return {"text": output}


def main() -> None:
    """Serve until the process is ended."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--threads", type=int, required=True)
    parser.add_argument("--batch", type=int, required=True)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()
    given = options.model, options.threads, options.device
    api = GenerateApi(*given, max_batch_size=options.batch, batch_timeout=BATCH_TIMEOUT_S)
    server = litserve.LitServer(api, accelerator="cpu", workers_per_device=1, timeout=600, track_requests=False)
    server.run(host="127.0.0.1", port=options.port, num_api_servers=1, generate_client_file=False, log_level="error")


if __name__ == "__main__":
    main()
