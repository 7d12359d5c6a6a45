"""What the names of models mean."""

import json
from pathlib import Path

import pytest

from visavis.bot.chat_models import ModelNotFound, model_place, shown_name


@pytest.fixture
def foreign(tmp_path: Path) -> Path:
    (tmp_path / "tiny-llava").mkdir()
    (tmp_path / "tiny-llava" / "config.json").write_text(json.dumps({"model_type": "llava"}))
    return tmp_path / "tiny-llava"


def test_a_folder_of_somebody_elses_is_named_with_hf(foreign: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(foreign.parent)
    assert model_place("hf:tiny-llava") == model_place(f"hf:{foreign}") == f"hf:{foreign}"
    assert model_place("hf:tiny-llava#4bit") == f"hf:{foreign}#4bit"
    assert shown_name(f"hf:{foreign}#8bit") == "tiny-llava#8bit"
    assert shown_name("hf:org/name") == "name"


def test_a_repository_is_left_to_transformers() -> None:
    assert model_place("hf:org/some-model.v1") == "hf:org/some-model.v1"


@pytest.mark.parametrize("name", ["hf:", "hf:/nowhere", "hf:./nowhere", "hf:a b/c", "hf:../x/y"])
def test_what_is_no_checkpoint_is_told(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ModelNotFound, match=r"config\.json"):
        model_place(name)


def test_the_embedded_model_is_a_folder() -> None:
    assert Path(model_place("embedded"), "config.json").is_file()
    with pytest.raises(ModelNotFound, match="embedded"):
        model_place("nothing")
