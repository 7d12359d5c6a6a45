"""`import visavis.models` is enough for transformers' Auto classes and pipelines, and costs nothing before."""

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import tiny_checkpoint
from transformers import pipeline

from visavis.models.processor import Processor
from visavis.models.training.export import export_checkpoint
from visavis.models.visavis_model import VisavisModel

QUIET = """
import sys
import visavis.models
assert not {"torch", "transformers"} & sys.modules.keys()
"""
LOAD = """
kinds = [getattr(transformers, name).from_pretrained(sys.argv[1]) for name in sys.argv[2:]]
print(*(type(kind).__name__ for kind in kinds))
"""
CLASSES = {"AutoConfig": "VisavisConfig", "AutoProcessor": "VisavisProcessor"}
CLASSES |= {"AutoImageProcessor": "VisavisImageProcessor"}
CLASSES |= {"AutoModelForImageTextToText": "VisavisForConditionalGeneration"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    processor = tiny_checkpoint.tiny_processor()
    folder = tmp_path_factory.mktemp("checkpoint")
    export_checkpoint(tiny_checkpoint.tiny_model(processor), processor, folder)
    return folder


def run(code: str, *arguments: object) -> str:
    command = [sys.executable, "-c", code, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.mark.parametrize("name", CLASSES)
def test_the_package_is_imported_first(folder: Path, name: str) -> None:
    assert run(f"{QUIET}import transformers{LOAD}", folder, name) == CLASSES[name]


def test_the_package_is_imported_last_and_twice(folder: Path) -> None:
    told = "import sys, transformers\nfrom transformers import AutoModelForImageTextToText, AutoProcessor\n"
    told += "import importlib, visavis.models\nimportlib.reload(visavis.models)\n"
    assert run(told + LOAD, folder, *CLASSES) == " ".join(CLASSES.values())


@pytest.fixture(scope="module")
def pipe(folder: Path) -> Any:
    return pipeline("image-text-to-text", model=str(folder))


def chat(file: Path) -> list[dict[str, object]]:
    return [
        {"role": "system", "content": [{"type": "text", "text": "Be brief."}]},
        {"role": "user", "content": [{"type": "image", "path": str(file)}, {"type": "text", "text": "what is it?"}]},
        {"role": "assistant", "content": [{"type": "text", "text": "a dog"}]},
        {"role": "user", "content": "is it the dog?"},
    ]


def test_a_pipeline_answers_questions_and_chats(
    folder: Path, pipe: Any, tiny_model: VisavisModel, tiny_processor: Processor, tmp_path: Path
) -> None:
    picture = tmp_path / "a.png"
    picture.write_bytes(tiny_checkpoint.drawn_picture())
    pixels = tiny_processor.pixel_values(tiny_checkpoint.picture_of(picture.read_bytes()))

    def wanted(question: str, history: Sequence[tuple[str, str]] = ()) -> str:
        ids = pipe.model.generate(**tiny_processor.encode_question(question, history), pixel_values=pixels)
        assert ids.shape[1] == tiny_model.config.decoder.max_positions, "as long as an answer can be"
        return tiny_processor.decode_answer(ids[0])

    told = pipe(images=str(picture), text="what is it?", return_full_text=False)
    assert [one["generated_text"] for one in told] == [wanted("what is it?")]
    told = pipe(images=[str(picture)] * 2, text=["what is it?", "is it the dog?"], return_full_text=False)
    assert [one["generated_text"] for one in told] == [wanted("what is it?"), wanted("is it the dog?")]
    told = pipe(text=chat(picture), return_full_text=False)
    assert [one["generated_text"] for one in told] == [wanted("is it the dog?", [("what is it?", "a dog")])]


def test_a_chat_without_tokens_is_its_questions(folder: Path, pipe: Any) -> None:
    asked = [{"role": "user", "content": "what is it?"}]
    assert pipe.processor.apply_chat_template(asked) == "what is it?"
    assert pipe.processor.apply_chat_template([asked, asked]) == ["what is it?"] * 2
