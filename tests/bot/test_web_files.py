"""The files of the page: what they weigh, that every language says everything, that the types hold."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from scripted_chat_model import ScriptedChatModel
from starlette.testclient import TestClient

from visavis.bot.app import create_app
from visavis.bot.settings import Settings
from visavis.bot.web_files import without_comments

WEB = Path(__file__).parents[2] / "bot" / "web"
LIMIT = 50_000
LANGUAGES = sorted(path.name.split(".")[1] for path in WEB.glob("strings.*.json"))


def words(language: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((WEB / f"strings.{language}.json").read_text("utf-8"))
    return found | {f"errors.{code}": sentence for code, sentence in found.pop("errors").items()}


def test_a_browser_loads_less_than_50_kb(settings: Settings) -> None:
    client = TestClient(create_app(settings, chat_model=ScriptedChatModel()), base_url="http://127.0.0.1:8080")
    names = [*(path.name for path in WEB.glob("*.js")), "widget.css", "strings.en.json", ""]
    answers = [client.get(f"/{name}", headers={"Accept-Encoding": "gzip"}) for name in names]
    assert all(answer.headers["content-encoding"] == "gzip" for answer in answers)
    assert sum(int(answer.headers["content-length"]) for answer in answers) < LIMIT
    for accepted, coding in (("gzip", "gzip"), ("identity", None)):
        answer = client.get("/widget.js", headers={"Accept-Encoding": accepted})
        assert answer.headers.get("content-encoding") == coding
        assert answer.text == without_comments((WEB / "widget.js").read_bytes()).decode()


def test_comments_are_not_sent_and_nothing_else_is_missing() -> None:
    script = b"/** Head.\n * More. */\nconst a = 1; // 2\n  /** @type {X} */ #b = /* c */ `/*`;\nlet d = `*/`;\n"
    assert without_comments(script) == b"\n\nconst a = 1; // 2\n#b = /* c */ `/*`;\nlet d = `*/`;\n"
    for path in [*WEB.glob("*.js"), *WEB.rglob("*.css")]:
        whole, sent = path.read_text("utf-8"), without_comments(path.read_bytes()).decode()
        left = iter(sent.split("\n"))
        for line in whole.split("\n"):
            assert line.endswith(next(left).strip()), path
        assert not re.search(r"^\s*(/\*|\* )", sent, re.MULTILINE), path


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_language_says_everything(language: str) -> None:
    english, own = words("en"), words(language)
    assert own.keys() == english.keys()
    for key, sentence in english.items():
        assert own[key].strip() and re.findall(r"\{\w+\}", own[key]) == re.findall(r"\{\w+\}", sentence), key


def test_the_script_knows_every_language() -> None:
    (listed,) = re.findall(r"LANGUAGES = (\[.*\])", (WEB / "strings.js").read_text("utf-8"))
    assert sorted(json.loads(listed)) == LANGUAGES


def test_every_word_is_used() -> None:
    scripts = "".join(path.read_text("utf-8") for path in WEB.glob("*.js"))
    assert [key for key in words("en") if "." not in key and not re.search(rf"\b{key}\b", scripts)] == []


def test_no_script_makes_html_from_text() -> None:
    for path in WEB.glob("*.js"):
        assert not re.search(r"innerHTML|insertAdjacentHTML|document\.write|\beval\(", path.read_text("utf-8")), path


def test_the_types_hold() -> None:
    """By TypeScript's own checker, through JSDoc; `npm install --no-save typescript` brings it."""
    local = WEB.parents[1] / "node_modules" / ".bin" / "tsc"
    tsc = shutil.which("tsc") or (str(local) if local.exists() else None)
    if tsc is None:
        pytest.skip("no TypeScript here (npm install --no-save typescript)")
    flags = "--noEmit --allowJs --checkJs --strict --target es2022 --module esnext --moduleResolution bundler"
    libraries = "--lib es2022,dom,dom.iterable --resolveJsonModule"
    command = [tsc, *flags.split(), *libraries.split(), str(WEB / "widget.js")]
    checked = subprocess.run(command, capture_output=True, text=True, timeout=100)
    assert checked.returncode == 0, checked.stdout
