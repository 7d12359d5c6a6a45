"""Tensors: the vision-language model, its engine and its training. Imports neither dialogue nor bot.

`register()` makes transformers' Auto classes know a visavis checkpoint; nothing is imported or done before that.
"""

from __future__ import annotations


def register() -> None:
    """Register config, model and processors with the Auto classes. Calling it again changes nothing."""
    from transformers import AutoConfig, AutoImageProcessor, AutoModelForImageTextToText, AutoProcessor

    from visavis.models.transformers_classes import (
        VisavisConfig,
        VisavisForConditionalGeneration,
        VisavisImageProcessor,
        VisavisProcessor,
    )

    AutoConfig.register("visavis", VisavisConfig, exist_ok=True)
    AutoModelForImageTextToText.register(VisavisConfig, VisavisForConditionalGeneration, exist_ok=True)
    AutoImageProcessor.register(VisavisConfig, slow_image_processor_class=VisavisImageProcessor, exist_ok=True)
    AutoProcessor.register(VisavisConfig, VisavisProcessor, exist_ok=True)
