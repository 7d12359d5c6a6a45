"""Words in pictures: which questions ask for them, and that drawn ones are read where the extra is installed."""

import pytest
from PIL import Image, ImageDraw, ImageFont

from visavis.models.words_in_pictures import WordReader, asks_to_read


@pytest.mark.parametrize(
    ("question", "asks"),
    [
        ("What does the sign say?", True),
        ("Read it to me.", True),
        ("what number is the dog", True),
        ("What is the dog doing?", False),
        ("Is it already dark?", False),
    ],
)
def test_questions_about_words_are_known(question: str, asks: bool) -> None:
    assert asks_to_read(question) is asks


@pytest.mark.skipif(WordReader.find() is None, reason="needs the extra ocr")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_drawn_words_are_read() -> None:
    picture = Image.new("RGB", (224, 224), "seagreen")
    reader = WordReader()
    assert reader.read(picture) == []
    draw = ImageDraw.Draw(picture)
    for line, word in enumerate(("HELLO", "WORLD")):
        draw.text((30, 40 + 90 * line), word, "white", ImageFont.load_default(36))
    assert [word.upper() for word in reader.read(picture)] == ["HELLO", "WORLD"]
