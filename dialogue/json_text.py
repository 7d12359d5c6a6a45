"""Values as JSON text, the same for the wire and the store. Knows neither."""

import json
from dataclasses import asdict
from typing import Any

import orjson

_PATIENT = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), default=asdict)


def write_json(value: Any) -> str:
    """Compact, not escaped to ASCII; of a dataclass its fields. What `orjson` refuses (whole numbers beyond 64 bits)
    the slower encoder takes."""
    try:
        return orjson.dumps(value).decode()
    except TypeError:
        return _PATIENT.encode(value)
