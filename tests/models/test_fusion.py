"""Every fusion encoder keeps the one interface; the fusion vector is that of any two encoders."""

from dataclasses import replace
from pathlib import Path

import pytest
import tiny_checkpoint
import torch
import transformers
from torch import Tensor

from visavis.models.bert import Bert
from visavis.models.config import FUSION_KINDS
from visavis.models.engine import InferenceEngine
from visavis.models.errors import BadRequest
from visavis.models.fusion import create_fusion_vector
from visavis.models.fusion.mmbt import MmbtFusion, load_bert_layers
from visavis.models.fusion.packing import pack, unpack
from visavis.models.generation import GenerationRequest
from visavis.models.image_features import ImageFeatures
from visavis.models.loading import load_model
from visavis.models.processor import Processor
from visavis.models.tower_configs import BertConfig
from visavis.models.training.export import export_checkpoint
from visavis.models.visavis_model import VisavisModel

Asked = tuple[str, tuple[tuple[str, str], ...]]
PIXELS = torch.randn(2, 3, 28, 28, generator=torch.Generator().manual_seed(1))
IDS = torch.tensor([[1, 5, 9]])
SHORT: Asked = ("is it?", ())
LONG: Asked = ("what color is the dog in the picture?", ())


@pytest.fixture(scope="module", params=FUSION_KINDS)
def model(request: pytest.FixtureRequest, tiny_processor: Processor) -> VisavisModel:
    return tiny_checkpoint.tiny_model(tiny_processor, kind=request.param)


def logits(
    model: VisavisModel, processor: Processor, pixels: Tensor, *asked: Asked, patch_mask: Tensor | None = None
) -> Tensor:
    with torch.inference_mode():
        image = model.image_state(model.encode_image(pixels))
        memory = model.fuse(image, **processor.encode_questions(asked), patch_mask=patch_mask)
        return model.decode(IDS.repeat(len(asked), 1), memory)


def test_rows_and_padding_do_not_touch_a_row(model: VisavisModel, tiny_processor: Processor) -> None:
    together = logits(model, tiny_processor, PIXELS, SHORT, LONG)
    for row, asked in enumerate((SHORT, LONG)):
        alone = logits(model, tiny_processor, PIXELS[row : row + 1], asked)
        torch.testing.assert_close(together[row : row + 1], alone, rtol=1e-4, atol=1e-4)


def test_picture_words_and_their_order_matter(model: VisavisModel, tiny_processor: Processor) -> None:
    first = logits(model, tiny_processor, PIXELS[:1], LONG)
    asked = ("what dog is the color in the picture?", ()), ("is it?", (("what is it?", "a dog"), ("is it red?", "no")))
    swapped = ("is it?", (("is it red?", "no"), ("what is it?", "a dog")))
    assert not torch.allclose(first, logits(model, tiny_processor, PIXELS[1:], LONG), atol=1e-3)
    if model.config.fusion.kind != "concat":  # a mean over BERT's states may still tell, but need not by much
        assert not torch.allclose(first, logits(model, tiny_processor, PIXELS[:1], asked[0]), atol=1e-3)
    dialogue = logits(model, tiny_processor, PIXELS[:1], asked[1])
    assert not torch.allclose(dialogue, logits(model, tiny_processor, PIXELS[:1], swapped), atol=1e-4)


def test_what_a_mask_hides_cannot_be_seen(model: VisavisModel, tiny_processor: Processor) -> None:
    with torch.inference_mode():
        features = model.encode_image(PIXELS[:1])
        changed = features.map(lambda part: torch.cat([part[:, :-3], part[:, -3:] + 3], dim=1))
        positions = model.image_state(features).patches.shape[1]
    mask = torch.ones(1, positions, dtype=torch.bool)
    mask[:, -3:] = False
    if features.cells is not None:
        mask[:, features.patches.shape[1] - 3 : features.patches.shape[1]] = False

    def said(seen: ImageFeatures, hidden: Tensor | None) -> Tensor:
        with torch.inference_mode():
            memory = model.fuse(model.image_state(seen), **tiny_processor.encode_questions([LONG]), patch_mask=hidden)
            return model.decode(IDS, memory)

    torch.testing.assert_close(said(features, mask), said(changed, mask))
    assert not torch.allclose(said(features, None), said(changed, None), atol=1e-4)


def test_texts_of_one_row_get_what_they_would_get_alone(model: VisavisModel, tiny_processor: Processor) -> None:
    encoded = [tiny_processor.encode_questions([asked]) for asked in (SHORT, LONG)]
    with torch.inference_mode():
        image = model.image_state(model.encode_image(PIXELS[:1]))
        states = [model.encoder.read(**item) for item in encoded]
        segments = torch.cat([torch.full(item.shape[:2], n) for n, item in enumerate(states, 1)], dim=1)
        fused = model.encoder.fuse(image, torch.cat(states, dim=1), segments)
        for number, item in enumerate(states, 1):
            alone = model.encoder.fuse(image, item, torch.ones(item.shape[:2], dtype=torch.long)).states
            torch.testing.assert_close(fused.states[fused.segments == number], alone[0], rtol=1e-4, atol=1e-4)


def test_gradients_reach_every_trained_part(model: VisavisModel, tiny_processor: Processor) -> None:
    image = model.image_state(model.encode_image(PIXELS))
    memory = model.fuse(image, **tiny_processor.encode_questions([SHORT, LONG]))
    model.decode(IDS.repeat(2, 1), memory).logsumexp(-1).sum().backward()
    trained = {n: p for n, p in model.named_parameters() if not n.startswith(("encoder.vision.", "decoder.position"))}
    untouched = {name for name, value in trained.items() if value.grad is None or not value.grad.any()}
    model.zero_grad(set_to_none=True)
    patches_of_cnn = model.config.fusion.kind == "birnn_cnn"  # it looks at the cells of its own network alone
    assert untouched == {n for n in trained if patches_of_cnn and n.startswith("encoder.image_projection.patches.")}


def test_a_saved_checkpoint_says_the_same(model: VisavisModel, tiny_processor: Processor, tmp_path: Path) -> None:
    export_checkpoint(model, tiny_processor, tmp_path / "first")
    loaded, processor = load_model(tmp_path / "first", "cpu")
    assert loaded.config.fusion == model.config.fusion
    first, second = (logits(item, processor, PIXELS[:1], LONG) for item in (model, loaded))
    assert torch.cosine_similarity(first.flatten(), second.flatten(), dim=0) > 0.999  # stored in 8 and 16 bits
    export_checkpoint(loaded, processor, tmp_path / "second")
    again, _ = load_model(tmp_path / "second", "cpu")
    assert torch.equal(logits(again, processor, PIXELS[:1], LONG), second)


async def test_the_engine_serves_what_generate_says(model: VisavisModel, tiny_processor: Processor) -> None:
    picture = tiny_checkpoint.drawn_picture("blue")
    with InferenceEngine(model, tiny_processor, max_new_tokens=8) as engine:
        request = GenerationRequest(question="what color is it?", image=engine.add_image(picture))
        said = await engine.generate(request)
        assert engine.counters.fusion_forwards == 1
        if model.encoder.fusion.shown == slice(0, 0):
            with pytest.raises(BadRequest, match="cannot be explained"):
                await engine.explain(request, said.text)
        else:
            side = 2 if model.config.objects else 4
            for word in await engine.explain(request, said.text):
                assert (len(word.rows), len(word.rows[0])) == (side, side)
    pixels = tiny_processor.pixel_values(tiny_checkpoint.picture_of(picture))
    inputs = tiny_processor.encode_question("what color is it?")
    ids = tiny_checkpoint.with_generate(model).generate(**inputs, pixel_values=pixels, max_new_tokens=8)
    assert tiny_processor.decode_answer(ids[0]) == said.text


@pytest.mark.parametrize(
    ("kind", "places"), [("cross_attention", 17 + 4), ("mmbt", 0), ("concat", 0), ("birnn_cnn", 4)]
)
async def test_object_tags_are_shown_by_every_kind(tiny_processor: Processor, kind: str, places: int) -> None:
    objects = {"resolution": 64, "kinds": 10, "tags": 2, "tag_tokens": 2, "read_tokens": 1}
    model = tiny_checkpoint.tiny_model(tiny_processor, kind=kind, objects=objects)
    with torch.inference_mode():
        features = model.encode_image(PIXELS[:1])
        assert model.image_state(features).shown == places + 5
        words = torch.full((1, 1), 7)
        first, second = (
            model.decode(IDS, model.fuse(model.image_state(seen), **tiny_processor.encode_questions([LONG])))
            for seen in (features, replace(features, read=words))
        )
    assert not torch.allclose(first, second, atol=1e-4)
    with InferenceEngine(model, tiny_processor, max_new_tokens=4) as engine:
        request = GenerationRequest(question="is it?", image=engine.add_image(tiny_checkpoint.drawn_picture()))
        if places:
            assert await engine.explain(request, "a red dog")
        else:
            with pytest.raises(BadRequest, match="cannot be explained"):
                await engine.explain(request, "a red dog")


def test_mmbt_that_sees_no_region_is_the_text_tower(tiny_processor: Processor) -> None:
    model = tiny_checkpoint.tiny_model(tiny_processor, kind="mmbt")
    sizes = BertConfig(len_hidden := 24, 2, 2, len(tiny_processor.questions), 32, 0.0, 0.0, 130)
    bert = Bert(sizes).eval()
    bert.embeddings.load_state_dict(model.encoder.text.tower.embeddings.state_dict())
    fusion = model.encoder.fusion
    assert isinstance(fusion, MmbtFusion)
    load_bert_layers(fusion, bert.state_dict())
    inputs = tiny_processor.encode_questions([SHORT, LONG])
    with torch.inference_mode():
        image = model.image_state(model.encode_image(PIXELS))
        hidden = torch.zeros(image.patches.shape[:2], dtype=torch.bool)
        fused = model.encoder.fuse(image, model.encoder.read(**inputs), inputs["attention_mask"], hidden)
        expected = bert(**inputs)[inputs["attention_mask"].bool()]
    assert fused.states.shape[2] == len_hidden
    torch.testing.assert_close(fused.states[fused.segments > 0], expected, rtol=1e-4, atol=1e-4)


def test_mmbt_is_made_of_bert_layers_only() -> None:
    fusion = MmbtFusion(2, 24, 2, 32, 0.0, grid=2, cells=0)
    with pytest.raises(ValueError, match="layer 1 of the text tower is none of BERT's"):
        load_bert_layers(
            fusion, {f"encoder.{n}": v for n, v in Bert(BertConfig(24, 1, 2, 9, 32)).encoder.state_dict().items()}
        )


def test_texts_taken_apart_and_put_together() -> None:
    states = torch.arange(10.0).view(2, 5, 1)
    segments = torch.tensor([[1, 1, 2, 0, 0], [1, 2, 2, 2, 0]])
    texts = unpack(states, segments)
    assert texts.states[:, :, 0].tolist() == [[0, 1, 0], [2, 0, 0], [5, 0, 0], [6, 7, 8]]
    assert (texts.row.tolist(), texts.segment.tolist()) == ([0, 0, 1, 1], [1, 2, 1, 2])
    again = pack(texts, texts.states, texts.mask, 2)
    assert again.segments.tolist() == [[1, 1, 2, 0], [1, 2, 2, 2]]
    assert again.states[:, :, 0].tolist() == [[0, 1, 2, 0], [5, 6, 7, 8]]


def test_a_fusion_vector_by_hand() -> None:
    images, texts = torch.tensor([[[1.0], [3.0]]]), torch.tensor([[[1.0, 2.0], [3.0, 6.0], [100.0, 100.0]]])
    vector = create_fusion_vector(images, texts, text_mask=torch.tensor([[1, 1, 0]]))
    assert vector.tolist() == [[2.0, 2.0, 4.0]]
    assert create_fusion_vector(images, texts, torch.zeros(1, 2))[0, 0] == 0
    with pytest.raises(ValueError, match="as many pictures as texts are needed, not 1 and 2"):
        create_fusion_vector(images, texts.repeat(2, 1, 1))


def test_a_fusion_vector_of_transformers_vit_and_bert() -> None:
    sizes = {"num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
    vit = transformers.ViTModel(transformers.ViTConfig(hidden_size=24, image_size=28, patch_size=7, **sizes)).eval()
    bert = transformers.BertModel(transformers.BertConfig(hidden_size=16, vocab_size=40, **sizes)).eval()
    ids, mask = torch.tensor([[2, 7, 9, 3], [2, 8, 3, 0]]), torch.tensor([[1, 1, 1, 1], [1, 1, 1, 0]])
    with torch.inference_mode():
        seen, read = vit(PIXELS), bert(ids, mask)
        vector = create_fusion_vector(seen, read, text_mask=mask)
        alone = create_fusion_vector(vit(PIXELS[1:]), bert(ids[1:, :3]))
    assert vector.shape == (2, 24 + 16)
    torch.testing.assert_close(vector[:1, 24:], read.last_hidden_state[:1].mean(dim=1))
    torch.testing.assert_close(vector[1:], alone, rtol=1e-4, atol=1e-5)


def test_a_fusion_vector_of_our_own_towers(tiny_model: VisavisModel, tiny_processor: Processor) -> None:
    inputs = tiny_processor.encode_questions([SHORT, LONG])
    with torch.inference_mode():
        vector = create_fusion_vector(
            tiny_model.encode_image(PIXELS), tiny_model.encoder.read(**inputs), text_mask=inputs["attention_mask"]
        )
        alone = tiny_processor.encode_question(*SHORT)
        first = create_fusion_vector(tiny_model.encode_image(PIXELS[:1]), tiny_model.encoder.read(**alone))
    assert vector.shape == (2, 48)
    torch.testing.assert_close(vector[:1], first, rtol=1e-4, atol=1e-4)
