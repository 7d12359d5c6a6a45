"""Tensors: the vision-language model, its engine and its training. Imports neither dialogue nor bot.

`register()` makes transformers' Auto classes know a visavis checkpoint; nothing is imported or done before that.
"""

from __future__ import annotations


def register() -> None:
    """Register config, model and processors with the Auto classes. Calling it again changes nothing."""
    from transformers import AutoConfig, AutoImageProcessor, AutoModelForImageTextToText, AutoProcessor

    from visavis.models.config import VisavisConfig
    from visavis.models.image_processor import VisavisImageProcessor
    from visavis.models.processor import VisavisProcessor
    from visavis.models.visavis_model import VisavisForConditionalGeneration

    AutoConfig.register("visavis", VisavisConfig, exist_ok=True)
    AutoModelForImageTextToText.register(VisavisConfig, VisavisForConditionalGeneration, exist_ok=True)
    AutoImageProcessor.register(VisavisConfig, slow_image_processor_class=VisavisImageProcessor, exist_ok=True)
    AutoProcessor.register(VisavisConfig, VisavisProcessor, exist_ok=True)
