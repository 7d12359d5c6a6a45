"""Logs as JSON: one object a line, with where an error came through and never with what it quotes."""

import io
import json
import logging
import subprocess
import sys

import pytest

from visavis.models.log_lines import JsonLines

PRIVATE = "my doctor said"


@pytest.fixture
def written() -> tuple[logging.Logger, io.StringIO]:
    stream, logger = io.StringIO(), logging.Logger("visavis.test")
    handler = logging.StreamHandler(stream)
    handler.setFormatter(JsonLines())
    logger.addHandler(handler)
    return logger, stream


def test_an_error_is_told_by_its_kind_and_places_without_its_message(
    written: tuple[logging.Logger, io.StringIO],
) -> None:
    logger, stream = written

    def fail() -> None:
        try:
            raise ValueError(f"cannot read {PRIVATE!r}")
        except ValueError as error:
            raise RuntimeError(PRIVATE) from error

    try:
        fail()
    except RuntimeError:
        logger.exception("turn %s failed", "t1")
    assert PRIVATE not in stream.getvalue()
    line = json.loads(stream.getvalue())
    assert (line["level"], line["logger"], line["message"]) == ("error", "visavis.test", "turn t1 failed")
    assert line["error"]["kind"] == "RuntimeError" and line["error"]["cause"]["kind"] == "ValueError"
    assert line["error"]["stack"][-1].endswith(" fail") and "test_log_lines.py:" in line["error"]["stack"][-1]


def test_lines_stay_lines_whatever_is_logged(written: tuple[logging.Logger, io.StringIO]) -> None:
    logger, stream = written
    logger.warning("two\nlines \ud800 and %s", "x" * 5_000)
    (only,) = stream.getvalue().splitlines()
    assert len(json.loads(only)["message"]) == 2_000


def test_a_process_writes_them_when_it_is_told_to() -> None:
    program = "from visavis.models.log_lines import log_to_stderr as log; import logging; log('info', {form!r}); "
    program += "logging.getLogger('a').info('hello')"
    lines = {
        form: subprocess.run(
            [sys.executable, "-c", program.format(form=form)], capture_output=True, text=True, check=True
        ).stderr
        for form in ("json", "text")
    }
    assert json.loads(lines["json"])["message"] == "hello"
    assert lines["text"].endswith("INFO a: hello\n")
