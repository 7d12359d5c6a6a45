"""How every process of visavis logs: lines for a person, or JSON objects for a collector. Neither holds what people
say: in JSON an exception is its kind and the places it came through, since its message may quote anybody."""

from __future__ import annotations

import json
import logging
import traceback
from datetime import UTC, datetime
from typing import Any

PLAIN = "%(asctime)s %(levelname)s %(name)s: %(message)s"
LONGEST_MESSAGE = 2_000


class JsonLines(logging.Formatter):
    """One object a line: time (UTC), level, logger, message; `error` {kind, stack} where there was one."""

    def format(self, record: logging.LogRecord) -> str:
        """The line, without its end."""
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "process": record.process,
            "message": record.getMessage()[:LONGEST_MESSAGE],
        }
        if record.exc_info and record.exc_info[1] is not None:
            line["error"] = _error(record.exc_info[1])
        return json.dumps(line, default=str)


def _error(error: BaseException) -> dict[str, Any]:
    frames = traceback.extract_tb(error.__traceback__)
    stack = [f"{frame.filename}:{frame.lineno} {frame.name}" for frame in frames]
    cause = {} if error.__cause__ is None else {"cause": _error(error.__cause__)}
    return {"kind": type(error).__name__, "stack": stack, **cause}


def log_to_stderr(level: str, form: str = "text") -> None:
    """Log from `level` on (debug, info, warning, error) in a form (text, json)."""
    logging.basicConfig(level=level.upper(), format=PLAIN)
    if form == "json":
        for handler in logging.getLogger().handlers:
            handler.setFormatter(JsonLines())
