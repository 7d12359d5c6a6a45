"""What an evaluation asks, of which picture, and what it makes of the answers; the engine is a scripted stand-in."""

import dataclasses
import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from tiny_checkpoint import set_photo

from visavis.models.errors import ModelError
from visavis.models.generation import Completion, FinishReason, GenerationRequest
from visavis.models.processor import Processor
from visavis.models.prompt import CAPTION_PROMPT
from visavis.models.replies import NOT_A_PHOTO
from visavis.models.training.evaluation import ask_all, collect_items, describe_model, evaluate
from visavis.models.training.evaluation_items import (
    BLANK_QUESTION,
    Blank,
    Item,
    Section,
    blank,
    read_items,
    swap_pictures,
)
from visavis.models.training.evaluation_options import Answer, EvaluationOptions
from visavis.models.training.evaluation_report import evaluate_command, table_of, write_predictions
from visavis.models.training.evaluation_summary import score_answers, summarise
from visavis.models.training.export import export_checkpoint
from visavis.models.visavis_model import VisavisModel

COLORS = {"a.png": "red", "b.png": "green", "c.png": "blue"}


@dataclass
class ScriptedAnswerer:
    """Answers by `reply(question, picture)`; remembers what it was asked. A picture is known by its bytes."""

    reply: Callable[[str, str], str]
    names: dict[str, str]
    requests: list[GenerationRequest] = field(default_factory=list)
    added: list[str] = field(default_factory=list)

    def add_image(self, data: bytes) -> str:
        sha256 = hashlib.sha256(data).hexdigest()
        self.added.append(self.names.get(sha256, "grey"))
        return sha256

    async def generate(self, request: GenerationRequest) -> Completion:
        assert request.image is not None
        self.requests.append(request)
        text = self.reply(request.question, self.names.get(request.image, "grey"))
        return Completion(text, FinishReason.STOP, confidence=0.5, image=request.image)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, color in COLORS.items():
        Image.new("RGB", (4, 4), color).save(tmp_path / name)
    _write(tmp_path / "captions.jsonl", [{"image": n, "captions": [f"a plain {c} square"]} for n, c in COLORS.items()])
    questions = [{"image": n, "question": "what color is it", "answers": [c, "paint"]} for n, c in COLORS.items()]
    _write(tmp_path / "questions.dev.jsonl", questions)
    _write(tmp_path / "questions.train.jsonl", [{"image": "x", "question": "what color is it", "answers": ["blue"]}])
    turns = [
        {"question": "Is it red?", "answer": "Yes, it is.", "short": "yes"},
        {"question": "Is it round?", "answer": "No, it is square.", "short": "no"},
        {"question": "What does it say?", "answer": "It is blank.", "short": "unknown"},
    ]
    _write(tmp_path / "dialogues.jsonl", [{"image": "a.png", "turns": turns}])
    _write(tmp_path / "things.jsonl", [{"image": "b.png", "answers": ["square"]}])
    return tmp_path


@pytest.fixture
def options(folder: Path) -> EvaluationOptions:
    return EvaluationOptions(
        captions=folder / "captions.jsonl",
        questions=folder / "questions.dev.jsonl",
        dialogues=folder / "dialogues.jsonl",
        things=folder / "things.jsonl",
    )


def _write(file: Path, rows: list[dict[str, Any]]) -> None:
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))


def _seeing(question: str, picture: str) -> str:
    color = COLORS.get(picture, "grey")
    if question == "Describe the picture.":
        return f"A plain {color} square."
    if question.startswith("what color"):
        return color
    if question.startswith("What is this"):
        return "A square"
    return "Yes."


async def _run(options: EvaluationOptions, folder: Path) -> tuple[ScriptedAnswerer, list[Answer]]:
    names = {hashlib.sha256((folder / name).read_bytes()).hexdigest(): name for name in COLORS}
    engine = ScriptedAnswerer(_seeing, names)
    items = collect_items(options)
    return engine, score_answers(items, await ask_all(engine, items, lambda done, total: None))


async def test_figures_have_the_published_keys_and_values(options: EvaluationOptions, folder: Path) -> None:
    _, answers = await _run(options, folder)
    figures = summarise(answers, options)
    assert figures["captions"] == {
        **{f"bleu{order}": pytest.approx(1) for order in (1, 2, 3, 4)},
        "rouge_l": pytest.approx(1),
        "cider": pytest.approx(10),
        "n": 3,
    }
    assert figures["questions"] == {"accuracy": 1.0, "prior": pytest.approx(1 / 3), "blind": 0.0, "n": 3}
    assert figures["dialogues"] == {
        "accuracy": pytest.approx(1 / 3),
        "first": 1.0,
        "later": 0.0,
        "first_open": None,
        "later_open": None,
        "yes_no_balanced": 0.5,
        "false_premise": 0.0,
        "n": 3,
        "blind": pytest.approx(1 / 3),
        "gold": pytest.approx(2 / 3),
    }
    assert figures["things"] == {"accuracy": 1.0, "n": 1}
    assert [figures[name] for name in ("nonphotos", "retrieval", "ocr")] == [None] * 3
    assert figures["calibration"]["n"] == 7, "questions, turns and things about real pictures"


async def test_short_answers_are_asked_for_and_dialogues_have_their_written_history(
    options: EvaluationOptions, folder: Path
) -> None:
    engine, _ = await _run(options, folder)
    asked = {request.question for request in engine.requests}
    assert asked == {
        "Describe the picture.",
        "what color is it In one word.",
        "What is this? In one word.",
        "Is it red?",
        "Is it round?",
        "What does it say?",
    }
    third = next(request for request in engine.requests if request.question == "What does it say?")
    assert third.history == (("Is it red?", "Yes, it is."), ("Is it round?", "No, it is square."))
    assert all(request.sampling.greedy for request in engine.requests)


async def test_each_picture_is_taken_once_with_all_its_questions(options: EvaluationOptions, folder: Path) -> None:
    engine, answers = await _run(options, folder)
    assert sorted(engine.added) == ["a.png", "b.png", "c.png", "grey"]
    assert len(answers) == len(engine.requests) == 3 + 3 + 3 + 1 + (3 + 3)  # the last two once more, blind


async def test_only_captions_are_searched_for_with_beams(options: EvaluationOptions) -> None:
    engine = ScriptedAnswerer(lambda question, picture: "a dog", {})
    await ask_all(engine, collect_items(options), lambda done, total: None, beams=4)
    searched = {request.question for request in engine.requests if request.sampling.beams == 4}
    assert searched == {CAPTION_PROMPT}
    assert {request.sampling.beams for request in engine.requests} == {1, 4}


async def test_the_first_failure_is_raised_as_it_is(options: EvaluationOptions, folder: Path) -> None:
    def fail(question: str, picture: str) -> str:
        raise ModelError("the model failed on this question")

    with pytest.raises(ModelError, match="failed on this question"):
        await ask_all(ScriptedAnswerer(fail, {}), collect_items(options), lambda done, total: None)


async def test_swapped_and_blanked_runs_have_no_further_blind_figures(options: EvaluationOptions, folder: Path) -> None:
    swapped = EvaluationOptions(questions=options.questions, swap_images=True)
    figures = summarise((await _run(swapped, folder))[1], swapped)
    assert figures["questions"] == {"accuracy": 0.0, "prior": pytest.approx(1 / 3), "blind": None, "n": 3}
    assert figures["captions"] is figures["dialogues"] is None
    blanked = EvaluationOptions(questions=options.questions, blank=Blank.IMAGE)
    engine, answers = await _run(blanked, folder)
    assert engine.added == ["grey"]
    assert summarise(answers, blanked)["questions"]["n"] == 3


def test_swapping_gives_every_item_another_photo(options: EvaluationOptions) -> None:
    assert options.questions is not None
    items = read_items(Section.QUESTIONS, options.questions)
    swapped = swap_pictures(items)
    assert all(before.image != after.image for before, after in zip(items, swapped, strict=True))
    assert {item.image for item in swapped} == {item.image for item in items}
    assert swapped == swap_pictures(items)
    with pytest.raises(ValueError, match="at least two"):
        swap_pictures(items[:1])


def test_a_blank_question_keeps_the_answer_form_and_the_history() -> None:
    item = Item(Section.QUESTIONS, Path("a.png"), "what color", ("red",), history=(("q", "a"),))
    (blanked,) = blank([item], Blank.QUESTION)
    assert blanked.asked == f"{BLANK_QUESTION} In one word."
    assert (blanked.image, blanked.history, blanked.question) == (item.image, item.history, "what color")


def test_limit_counts_items_not_photos(options: EvaluationOptions) -> None:
    assert options.dialogues is not None
    assert len(read_items(Section.DIALOGUES, options.dialogues, limit=2)) == 2


def test_a_prior_without_training_questions_is_none(options: EvaluationOptions, folder: Path) -> None:
    (folder / "questions.train.jsonl").unlink()
    only = EvaluationOptions(questions=options.questions, limit=1)
    answers = [Answer(item, "red", None, True) for item in collect_items(only)]
    assert summarise(answers, only)["questions"] == {"accuracy": 1.0, "prior": None, "blind": 1.0, "n": 1}


@pytest.mark.parametrize(
    ("row", "complaint"),
    [
        ({"image": "none.png", "question": "what", "answers": ["x"]}, r"questions.jsonl:1: there is no picture"),
        ({"image": "a.png", "question": "what"}, r"questions.jsonl:1: expected the fields of questions"),
    ],
)
def test_a_broken_line_is_named(folder: Path, row: dict[str, Any], complaint: str) -> None:
    _write(folder / "questions.jsonl", [row])
    with pytest.raises(ValueError, match=complaint):
        read_items(Section.QUESTIONS, folder / "questions.jsonl")


def test_an_empty_file_is_refused(folder: Path) -> None:
    _write(folder / "captions.jsonl", [])
    with pytest.raises(ValueError, match="holds no captions"):
        read_items(Section.CAPTIONS, folder / "captions.jsonl")


async def test_predictions_can_be_scored_again(options: EvaluationOptions, folder: Path) -> None:
    _, answers = await _run(options, folder)
    write_predictions(folder / "said.jsonl", answers)
    rows = [json.loads(line) for line in (folder / "said.jsonl").read_text().splitlines()]
    assert len(rows) == len(answers)
    assert rows[3] == {
        "section": "questions",
        "image": f"{folder.name}/a.png",
        "history": [],
        "asked": "what color is it In one word.",
        "expected": ["red", "paint"],
        "written": None,
        "said": "red",
        "scored": True,
        "confidence": 0.5,
    }
    assert [row["image"] for row in rows[-6:]] == [None] * 6


def test_a_model_is_described_by_all_its_shards(tmp_path: Path) -> None:
    (tmp_path / "b.safetensors").write_bytes(b"world")
    (tmp_path / "a.safetensors").write_bytes(b"hello ")
    (tmp_path / "old.safetensors").write_bytes(b"not named by the index")
    index = {"weight_map": {"second": "b.safetensors", "first": "a.safetensors", "third": "b.safetensors"}}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    assert describe_model(tmp_path) == {
        "name": tmp_path.name,
        "bytes": 11,
        "sha256": hashlib.sha256(b"hello world").hexdigest(),
    }


def test_the_table_leaves_out_what_was_not_measured() -> None:
    table = table_of({"captions": None, "questions": {"accuracy": 0.25, "prior": None, "n": 4}})
    assert [list(column.cells) for column in table.columns] == [
        ["questions"] * 3,
        ["accuracy", "prior", "n"],
        ["0.2500", "-", "4"],
    ]


def test_the_command_evaluates_a_checkpoint_through_the_engine(
    options: EvaluationOptions,
    tmp_path: Path,
    tiny_model: VisavisModel,
    tiny_processor: Processor,
    capsys: pytest.CaptureFixture[str],
) -> None:
    export_checkpoint(tiny_model, tiny_processor, tmp_path / "tiny")
    capsys.readouterr()
    asked = dataclasses.replace(options, predictions=tmp_path / "said.jsonl", limit=2)
    evaluate_command(tmp_path / "tiny", dataclasses.replace(asked, retrieval=True), as_json=True, device="cpu")
    said, told = capsys.readouterr()
    assert "it cannot search; train one with itc: retrieval is null" in " ".join(told.split())
    assert said.count("\n") == 1
    figures = json.loads(said)
    assert set(figures) == {*Section, "nonphotos", "retrieval", "calibration", "ocr", "speed", "model"}
    assert figures["model"]["name"] == "tiny"
    assert figures["speed"]["followup_encoder_forwards"] == 0
    assert [figures[section]["n"] for section in Section] == [2, 2, 2, 1]
    assert figures["questions"]["prior"] is not None
    assert len((tmp_path / "said.jsonl").read_text().splitlines()) == 2 + 2 + 2 + 1 + (2 + 2)


def test_blanked_pictures_are_answered_by_a_model_that_refuses_what_is_no_photo(
    options: EvaluationOptions, tmp_path: Path, tagging_model: VisavisModel, tiny_processor: Processor
) -> None:
    set_photo(tagging_model, False)
    export_checkpoint(tagging_model, tiny_processor, tmp_path / "tiny")
    _, answers = evaluate(tmp_path / "tiny", EvaluationOptions(questions=options.questions), device="cpu")
    refused = {answer.item.image is None: answer.said in NOT_A_PHOTO for answer in answers}
    assert refused == {False: True, True: False}


def test_predictions_that_cannot_be_written_are_refused_before_the_run(
    options: EvaluationOptions, folder: Path
) -> None:
    with pytest.raises(OSError, match="nowhere"):
        evaluate_command(folder, dataclasses.replace(options, predictions=folder / "nowhere" / "said.jsonl"))


def test_a_turn_without_a_short_form_is_said_but_not_scored(tmp_path: Path) -> None:
    file = tmp_path / "dialogues.dev.jsonl"
    (tmp_path / "a.png").write_bytes(b"only looked up")
    turns = [{"question": "Is it?", "answer": "It is."}, {"question": "What?", "answer": "A dog.", "short": "dog"}]
    file.write_text(json.dumps({"image": "a.png", "turns": turns}) + "\n", encoding="utf-8")
    (item,) = read_items(Section.DIALOGUES, file)
    assert item.question == "What?" and item.history == (("Is it?", "It is."),)
