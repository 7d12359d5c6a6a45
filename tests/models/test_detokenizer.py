"""Streamed words against the whole text: pieces join, no broken characters, no half words."""

from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st
from tiny_checkpoint import tiny_processor

from visavis.models.detokenizer import StreamingDetokenizer

PROCESSOR = tiny_processor()
TOKENS = st.lists(st.integers(0, len(PROCESSOR.answers) - 1), max_size=30)


def decode_bytes(token_ids: Sequence[int]) -> str:
    return bytes(token_ids).decode(errors="replace")


def pieces_of(detokenizer: StreamingDetokenizer, token_ids: Sequence[int]) -> list[str]:
    pieces = []
    for token_id in token_ids:
        pieces.append(detokenizer.add(token_id))
        if detokenizer.stopped:
            break
    return [*pieces, detokenizer.finish()]


@given(TOKENS)
def test_pieces_of_any_tokens_join_to_the_text(token_ids: list[int]) -> None:
    detokenizer = StreamingDetokenizer(PROCESSOR.decode_answer)
    assert "".join(pieces_of(detokenizer, token_ids)) == detokenizer.text
    assert detokenizer.text == PROCESSOR.decode_answer(token_ids).replace("\ufffd", "").strip()


@given(st.text(alphabet="aé猫🙂 \n.", max_size=20))
def test_only_whole_words_are_shown_before_the_end(text: str) -> None:
    detokenizer = StreamingDetokenizer(decode_bytes)
    shown = ""
    for byte in text.encode():
        shown += detokenizer.add(byte)
        assert "\ufffd" not in shown
        assert text.split()[: len(shown.split())] == shown.split()
    assert shown + detokenizer.finish() == text.strip()


@given(st.text(alphabet="ab \n", max_size=20), st.lists(st.text(alphabet="ab \n", min_size=1, max_size=3), max_size=3))
def test_stop_strings_are_never_shown(text: str, stop: list[str]) -> None:
    detokenizer = StreamingDetokenizer(decode_bytes, stop)
    said = "".join(pieces_of(detokenizer, text.encode()))
    bare = text.lstrip()
    ends = [bare.find(string) for string in stop if string in bare]
    assert detokenizer.stopped == bool(ends)
    assert not any(string in said for string in stop)
    assert bare.startswith(said)
    assert ends or said == bare.rstrip()
