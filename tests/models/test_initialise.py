"""New models over towers of many kinds: built from folders, trained by the command, served, saved and loaded."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import tiny_checkpoint
import torch
from safetensors.torch import save_file
from tiny_towers import save_pair

from visavis.models.config import ModelConfig
from visavis.models.efficientnet_lite import EfficientNetLite
from visavis.models.engine import InferenceEngine
from visavis.models.fusion.mmbt import MmbtFusion
from visavis.models.generation import GenerationRequest
from visavis.models.loading import load_model
from visavis.models.processor import Processor
from visavis.models.training.data import load_photos
from visavis.models.training.initialise import new_model
from visavis.models.training.settings import TrainingSettings
from visavis.models.training.train_command import train_command
from visavis.models.transformers_towers import pretrained_tower


@pytest.fixture
def settings(tmp_path: Path) -> TrainingSettings:
    rows = []
    for color in ("red", "blue"):
        (tmp_path / f"{color}.png").write_bytes(tiny_checkpoint.drawn_picture(color))
        turns = [{"question": "what color is it?", "answer": f"it is {color}", "short": color}]
        rows.append({"image": f"{color}.png", "captions": [f"a {color} dog ."], "turns": turns})
    lines = "".join(json.dumps(row) + "\n" for row in rows)
    (tmp_path / "captions.train.jsonl").write_text(lines, encoding="utf-8")
    return TrainingSettings(
        data=(str(tmp_path),), output=str(tmp_path / "run"), epochs=2, batch_photos=2, threads=1, precision="fp32"
    )


@pytest.mark.parametrize("kind", ["vit", "dinov2", "clip", "siglip"])
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
async def test_any_pair_of_towers_is_trained_saved_and_served(
    settings: TrainingSettings, tmp_path: Path, kind: str
) -> None:
    named = save_pair(tmp_path / "towers", kind)
    fusion = {"hidden_size": 24, "num_attention_heads": 2, "num_hidden_layers": 1}
    model, processor = load_model(train_command(replace(settings, **named, fusion=fusion)), "cpu")
    tower = pretrained_tower(Path(named.get("vision", tmp_path / "towers/vision")), "vision").eval()
    pixels = torch.randn(1, 3, 28, 28)
    with torch.inference_mode():
        expected = tower(pixel_values=pixels).last_hidden_state
        torch.testing.assert_close(model.encode_image(pixels).patches, expected, rtol=0.1, atol=0.1)  # 8 bits
    if kind in ("clip", "siglip"):
        assert processor.images.size == 28 and list(processor.images.image_mean) == [0.5, 0.5, 0.5]
        assert processor.encode_question("what color is it " * 30)["input_ids"].shape == (1, 20)
    with InferenceEngine(model, processor, max_new_tokens=4) as engine:
        image = engine.add_image(tiny_checkpoint.drawn_picture("red"))
        said = await engine.generate(GenerationRequest(question="what color is it?", image=image))
    assert said.output_tokens


def test_a_configuration_may_be_a_folder(tmp_path: Path) -> None:
    named = save_pair(tmp_path, "siglip")
    sizes = {"hidden_size": 24, "num_attention_heads": 2}
    config = ModelConfig(named["vision"], named["text"], fusion=sizes, decoder=sizes)
    assert (config.vision.model_type, config.text.model_type) == ("siglip_vision_model", "siglip_text_model")
    own = save_pair(tmp_path / "own", "dinov2")["towers"]
    assert ModelConfig(f"{own}/vision", f"{own}/text", fusion=sizes, decoder=sizes).text.num_hidden_layers == 2


def test_mmbt_takes_the_layers_of_bert_over(settings: TrainingSettings, tmp_path: Path) -> None:
    named = save_pair(tmp_path / "towers", "dinov2")
    mmbt = replace(settings, **named, fusion={"kind": "mmbt", "region_grid": 2})
    model, _ = new_model(mmbt, load_photos([tmp_path]))
    bert = pretrained_tower(tmp_path / "towers/text", "text").state_dict()
    fusion = model.encoder.fusion
    assert isinstance(fusion, MmbtFusion)
    assert model.config.text.num_hidden_layers == 0
    for number, layer in enumerate(fusion.bert):
        for name, value in layer.state_dict().items():
            assert torch.equal(value, bert[f"encoder.layer.{number}.{name}"]), name


async def test_birnn_and_cnn_are_trained_and_served(settings: TrainingSettings, tmp_path: Path) -> None:
    named = save_pair(tmp_path / "towers", "dinov2")
    (tmp_path / "towers/objects").mkdir()
    network = {f"network.{name}": value for name, value in EfficientNetLite().state_dict().items()}
    head = {"head.weight": torch.randn(1280, 352), "head.bias": torch.zeros(1280)}
    save_file(network | head, tmp_path / "towers/objects/model.safetensors")
    kind = {"kind": "birnn_cnn", "hidden_size": 24, "num_attention_heads": 2, "num_hidden_layers": 1}
    model, processor = load_model(train_command(replace(settings, **named, fusion=kind)), "cpu")
    assert model.config.object_cells == 49
    with InferenceEngine(model, processor, max_new_tokens=4) as engine:
        image = engine.add_image(tiny_checkpoint.drawn_picture("red"))
        assert (await engine.generate(GenerationRequest(question="what color is it?", image=image))).output_tokens


def test_a_missing_tower_and_other_layers_are_told(settings: TrainingSettings, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"there is no pretrained tower in .*vision"):
        new_model(replace(settings, towers=str(tmp_path)), load_photos([tmp_path]))
    named = save_pair(tmp_path, "clip")
    with pytest.raises(ValueError, match="none of BERT's, which mmbt is made of"):
        new_model(replace(settings, **named, fusion={"kind": "mmbt"}), load_photos([tmp_path]))


def test_an_untouched_processor_reads_up_to_its_own_limit(tiny_processor: Processor) -> None:
    assert tiny_processor.encode_question("what " * 200)["input_ids"].shape == (1, 128)
