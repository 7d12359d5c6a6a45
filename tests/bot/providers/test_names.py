"""Names of models that somebody else runs."""

import pytest

from visavis.bot.providers.names import BadName, RemoteName, remote_name


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("openai:gpt-5", RemoteName("openai", "gpt-5")),
        ("ollama:llava:7b", RemoteName("ollama", "llava:7b")),
        ("google_genai:gemini-3", RemoteName("google_genai", "gemini-3")),
        ("http://127.0.0.1:8000/v1#org/name", RemoteName("http", "org/name", "http://127.0.0.1:8000/v1")),
        ("embedded", None),
        ("hf:org/name", None),
        ("./folder", None),
        ("/a/folder", None),
    ],
)
def test_what_names_mean(name: str, meant: RemoteName | None) -> None:
    assert remote_name(name) == meant


def test_what_people_read_has_no_address() -> None:
    assert RemoteName("http", "name", "http://10.0.0.1/v1").shown == "name"
    assert RemoteName("openai", "gpt-5").shown == "openai:gpt-5"


@pytest.mark.parametrize(
    "name", ["http://host/v1", "https://#name", "http://me:secret@host/v1#n", "http://h/v1?key=secret#n"]
)
def test_addresses_that_cannot_be_used(name: str) -> None:
    with pytest.raises(BadName) as refused:
        remote_name(name)
    assert "secret" not in str(refused.value)
