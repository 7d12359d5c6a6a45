"""The Chinese README says what the English one says: the same links, settings and commands."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FACTS = {
    "links": r"\]\(((?!README)[^)]+)\)",
    "settings": r"`(VISAVIS_\w+)`",
    "commands": r"^(?:\.venv/bin/|make )[^#\n]*[^#\s]",
}


@pytest.mark.parametrize("kind", FACTS)
def test_both_tell_of_the_same(kind: str) -> None:
    english, chinese = (
        set(re.findall(FACTS[kind], (ROOT / name).read_text("utf-8"), re.MULTILINE))
        for name in ("README.md", "README.zh-CN.md")
    )
    assert english == chinese and len(english) > 1
