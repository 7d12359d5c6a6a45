"""A whole model with random weights, small enough for a unit test, and pictures to show it."""

import asyncio
import io
from collections.abc import Callable
from typing import Any

import torch
from PIL import Image

from visavis.models.confidence import Calibration
from visavis.models.config import READERS_OF_WORDS, ModelConfig, ObjectConfig
from visavis.models.image_processor import ImageProcessor
from visavis.models.processor import Processor
from visavis.models.training.vocabulary import SPECIAL_PIECES, answer_vocabulary, question_vocabulary
from visavis.models.transformers_classes import VisavisConfig, VisavisForConditionalGeneration
from visavis.models.visavis_model import VisavisModel

ANSWER_TEXTS = [
    "a red dog runs over the wet grass .",
    "two people sit on a bench",
    "yes , it is .",
    "naïve café 猫",
] * 3


def tiny_processor() -> Processor:
    letters = "abcdefghijklmnopqrstuvwxyz0123456789?.,!'"
    words = ["what", "color", "is", "the", "dog", "it", "describe", "picture", "in", "one", "word"]
    pieces = [*SPECIAL_PIECES, *letters, *(f"##{letter}" for letter in letters), *words]
    return Processor(ImageProcessor(size=28), question_vocabulary(pieces), answer_vocabulary(ANSWER_TEXTS, 300))


def tiny_model(processor: Processor, seed: int = 0, kind: str = "cross_attention", **parts: Any) -> VisavisModel:
    """Gates are opened, so that picture and text both matter. `birnn_cnn` gets an object tower of four cells."""
    sizes = {"hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2}
    config = ModelConfig(
        vision={**sizes, "model_type": "dinov2", "image_size": 28, "patch_size": 7, "mlp_ratio": 2},
        text={
            **sizes,
            "num_hidden_layers": 0 if kind in READERS_OF_WORDS else 2,
            "model_type": "bert",
            "vocab_size": len(processor.questions),
            "intermediate_size": 32,
            "max_position_embeddings": 130,
        },
        fusion={**sizes, "intermediate_size": 32, "kind": kind, "region_grid": 2},
        decoder={
            **sizes,
            "intermediate_size": 32,
            "vocab_size": len(processor.answers),
            "max_positions": 24,
        },
        **{"objects": {"resolution": 64} if kind == "birnn_cnn" else None, **parts},
    )
    torch.manual_seed(seed)
    model = VisavisModel(config)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if ".objects.network." in name and parameter.dim() > 1:
                torch.nn.init.kaiming_normal_(parameter)
            elif parameter.dim() > 1 or "gate" in name:
                parameter.copy_(torch.randn_like(parameter) * 0.5)
        model.decoder.position_embedding.weight *= 3  # no babbling of one token
        for token in range(len(processor.answers)):
            if not processor.decode_answer([token]).isalnum():
                model.decoder.token_embedding.weight[token] *= (
                    0.1  # bytes that are no letters are rare, as in real answers
                )
    return model.eval()


def with_generate(model: VisavisModel) -> VisavisForConditionalGeneration:
    """The same weights in the class that has transformers' `generate`."""
    with torch.random.fork_rng():
        made = VisavisForConditionalGeneration(VisavisConfig.of(model.config))
    made.load_state_dict(model.state_dict())
    return made.eval()


def drawn_picture(color: str = "red", size: tuple[int, int] = (40, 30), kind: str = "PNG") -> bytes:
    data = io.BytesIO()
    picture = Image.new("RGB", size, color)
    picture.paste("white", (0, 0, size[0] // 2, size[1] // 3))
    picture.save(data, kind)
    return data.getvalue()


async def until(condition: Callable[[], bool], timeout_s: float = 20) -> None:
    """Wait for what another thread or process does."""
    async with asyncio.timeout(timeout_s):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.005)


def picture_of(data: bytes) -> Image.Image:
    return Image.open(io.BytesIO(data)).convert("RGB")


def tagging_model(processor: Processor) -> VisavisModel:
    """One that knows five kinds of things, reads words, and takes everything for a photo."""
    tiny = tiny_model(processor).config
    torch.manual_seed(3)
    model = VisavisModel(
        ModelConfig(
            tiny.vision,
            tiny.text,
            ObjectConfig(resolution=64, head_size=16, kinds=5, read_tokens=8),
            tiny.fusion,
            tiny.decoder,
            Calibration(1.0, 0.5, 0.0, 0.0, 0.25),
            photo_head=True,
        )
    )
    with torch.no_grad():
        for parameter in model.decoder.parameters():
            if parameter.dim() > 1:
                parameter.mul_(20)
    set_photo(model, True)
    return model.eval()


def set_photo(model: VisavisModel, is_photo: bool) -> None:
    """Let the photo head say the same of every picture."""
    head = model.encoder.photo_head
    assert head is not None
    with torch.no_grad():
        head.linear.weight.zero_()
        head.linear.bias.fill_(5 if is_photo else -5)
