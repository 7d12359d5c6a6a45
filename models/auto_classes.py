"""transformers' Auto classes learn of a visavis checkpoint, and what they need for it is imported when they meet one.

`announce` costs nothing and imports nothing: the gateway, which must not load torch, imports this package as well. If
transformers is imported later, it is told then, by an import hook (PEP 302).
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType
from typing import Any

MODEL_TYPE = "visavis"
_AUTO = "transformers.models.auto."
# In each module of the Auto classes, the table to which a class is added by its name alone.
_TABLES: Mapping[str, tuple[str, Any]] = {
    "configuration_auto": ("CONFIG_MAPPING_NAMES", "VisavisConfig"),
    "image_processing_auto": ("IMAGE_PROCESSOR_MAPPING_NAMES", {"pil": "VisavisImageProcessor"}),
    "processing_auto": ("PROCESSOR_MAPPING_NAMES", "VisavisProcessor"),
}


def announce() -> bool:
    """Let the Auto classes find `model_type: visavis`, now or when they are imported; whether any was there already."""
    there = [name for name in _TABLES if _AUTO + name in sys.modules]
    for name in there:
        _tell(sys.modules[_AUTO + name], name)
    if not any(isinstance(finder, _WhenImported) for finder in sys.meta_path):
        sys.meta_path.insert(0, _WhenImported())
    return bool(there)


def register() -> None:
    """Register config, model and processors with the Auto classes at once. Calling it again changes nothing."""
    from transformers import AutoConfig, AutoImageProcessor, AutoModelForImageTextToText, AutoProcessor

    from visavis.models.transformers_classes import VisavisConfig, VisavisForConditionalGeneration
    from visavis.models.transformers_processors import VisavisImageProcessor, VisavisProcessor

    AutoConfig.register(MODEL_TYPE, VisavisConfig, exist_ok=True)
    AutoModelForImageTextToText.register(VisavisConfig, VisavisForConditionalGeneration, exist_ok=True)
    AutoImageProcessor.register(VisavisConfig, slow_image_processor_class=VisavisImageProcessor, exist_ok=True)
    AutoProcessor.register(VisavisConfig, VisavisProcessor, exist_ok=True)


class _WhenImported(MetaPathFinder):
    """Tells modules of the Auto classes as soon as they have been imported; finds nothing itself."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        name = fullname.removeprefix(_AUTO)
        if name == fullname or name not in _TABLES:
            return None
        spec = PathFinder.find_spec(fullname, path, target)
        loader: Any = None if spec is None else spec.loader
        if loader is not None:
            loader.exec_module = partial(_run_and_tell, loader.exec_module, name)
        return spec


class _Classes(ModuleType):
    """Stands where transformers looks for the module of a model type; the first look registers the real classes."""

    def __getattr__(self, name: str) -> Any:
        if not name.startswith("Visavis"):
            raise AttributeError(name)
        from visavis.models import transformers_classes, transformers_processors

        for module in (transformers_classes, transformers_processors):
            vars(self).update({key: value for key, value in vars(module).items() if key.startswith("Visavis")})
        register()
        return object.__getattribute__(self, name)


def _run_and_tell(run: Callable[[ModuleType], None], name: str, module: ModuleType) -> None:
    run(module)
    _tell(module, name)


def _tell(module: ModuleType, name: str) -> None:
    table, names = _TABLES[name]
    getattr(module, table).setdefault(MODEL_TYPE, names)
    place = f"transformers.models.{MODEL_TYPE}"
    sys.modules.setdefault(place, _Classes(place))
