"""A gateway whose model is a scripted engine behind `VisavisChatModel`, for the tests of the API."""

import base64
import io

from PIL import Image
from scripted_engine import ScriptedEngine

from visavis.models.chat_model import ImageSource, VisavisChatModel


def chat_model(engine: ScriptedEngine, image_source: ImageSource | None = None) -> VisavisChatModel:
    return VisavisChatModel(engine=engine, image_source=image_source)


def picture(color: str = "red", format: str = "PNG") -> bytes:
    data = io.BytesIO()
    Image.new("RGB", (64, 48), color).save(data, format)
    return data.getvalue()


def data_url(data: bytes, mime: str = "image/png") -> str:
    return f"data:{mime};base64,{base64.b64encode(data).decode()}"


def showing(url: str, text: str = "What is this?") -> dict[str, object]:
    return {
        "role": "user",
        "content": [{"type": "text", "text": text}, {"type": "image_url", "image_url": {"url": url}}],
    }
