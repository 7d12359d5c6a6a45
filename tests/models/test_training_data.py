"""Reading training folders, what an epoch learns from a photo, vocabularies."""

import json
import random
from pathlib import Path

import pytest

from visavis.models.prompt import render
from visavis.models.training.data import Photo, Question, examples_of, load_photos, tidy_caption
from visavis.models.training.settings import TrainingSettings
from visavis.models.training.vocabulary import answer_vocabulary, prune_word_pieces, question_vocabulary


def write_lines(file: Path, *rows: object) -> None:
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def test_all_files_of_a_folder_are_joined_by_photo(tmp_path: Path) -> None:
    write_lines(tmp_path / "captions.train.jsonl", {"image": "images/a.jpg", "captions": ["a dog runs ."]})
    write_lines(
        tmp_path / "questions.train.jsonl", {"image": "images/b.jpg", "question": "what", "answers": ["bed", "sofa"]}
    )
    turn = {"question": "What is it?", "answer": "It is a dog.", "short": "dog"}
    write_lines(tmp_path / "dialogues.train.jsonl", {"image": "images/a.jpg", "turns": [turn]})
    first, second = load_photos([tmp_path])
    assert first.path == tmp_path / "images/a.jpg"
    assert first.captions == ["A dog runs."]
    assert first.turns[0].short == "dog"
    assert second.questions == [Question("what", ("bed", "sofa"))]


def test_a_broken_line_is_named_by_its_number(tmp_path: Path) -> None:
    (tmp_path / "captions.train.jsonl").write_text('{"image": "a.jpg", "captions": []}\n[1, 2]\n', encoding="utf-8")
    with pytest.raises(ValueError, match=r"captions.train.jsonl:2: expected a JSON object"):
        load_photos([tmp_path])


def test_a_folder_without_data_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"holds no captions.train.jsonl, questions"):
        load_photos([tmp_path])


@pytest.mark.parametrize(
    ("raw", "tidy"),
    [
        ("A dog runs .", "A dog runs."),
        ("a man 's hat , red", "A man's hat, red."),
        (' "Two  dogs play !" ', "Two dogs play!"),
    ],
)
def test_captions_are_tidied(raw: str, tidy: str) -> None:
    assert tidy_caption(raw) == tidy


def test_turns_carry_the_dialogue_before_them() -> None:
    photo = Photo(Path("a.jpg"), captions=["One.", "Two."])
    photo.turns.extend(load_turns("What is it?", "Is it red?"))
    examples = examples_of(photo, random.Random(0), short_share=1.0)
    assert [item.answer for item in examples] == ["One.", "Two.", "yes, what is it?", "s", "yes, is it red?", "s"]
    assert len({item.question for item in examples[:2]}) == 1, "captions share one request"
    assert examples[2].history == ()
    assert examples[5].history == (("What is it?", "yes, what is it?"),)
    assert examples[5].question == "Is it red? In one word."


def load_turns(*questions: str) -> list:
    from visavis.models.training.data import DialogueTurn

    return [DialogueTurn(question, f"yes, {question.lower()}", "s") for question in questions]


def test_the_newest_exchange_comes_first() -> None:
    assert render(" What color? ", [("a?", "b."), ("c?", "d.")]) == ("What color?", "c? d. | a? b.")


def test_pruned_pieces_keep_characters_used_words_and_the_commonest(tmp_path: Path) -> None:
    pieces = ["[PAD]", "[unused0]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "##a", "猫", "the", "of", "dog", "zebra"]
    (tmp_path / "vocab.txt").write_text("\n".join(pieces), encoding="utf-8")
    kept = prune_word_pieces(tmp_path / "vocab.txt", ["zebra"], size=9)
    assert [pieces[index] for index in kept] == [
        "[PAD]",
        "[UNK]",
        "[CLS]",
        "[SEP]",
        "[MASK]",
        "a",
        "##a",
        "the",
        "zebra",
    ]


def test_answers_are_spelled_back_exactly() -> None:
    tokenizer = answer_vocabulary(["It isn't a red-haired dog."] * 3, 300).tokenizer
    for text in ("It isn't a red-haired dog.", "Ünïcode 猫 🎈, spelled from bytes"):
        assert tokenizer.decode(tokenizer.encode(text).ids).strip() == text


def test_questions_have_two_segments() -> None:
    vocabulary = question_vocabulary(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "b", "##b"])
    encoded = vocabulary.tokenizer.encode("A", "bb")
    assert encoded.ids == [2, 5, 3, 6, 7, 3]
    assert encoded.type_ids == [0, 0, 0, 1, 1, 1]


def test_settings_come_from_file_and_flags(tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text('{"data": ["x"], "epochs": 2}', encoding="utf-8")
    settings = TrainingSettings.load(tmp_path / "run.json", epochs=3.0, seed=None)
    assert (settings.data, settings.epochs, settings.seed) == (("x",), 3.0, TrainingSettings().seed)
    with pytest.raises(ValueError, match="unknown training setting 'epoch'"):
        TrainingSettings.load(epoch=1)
