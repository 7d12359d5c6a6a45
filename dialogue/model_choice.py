"""The chat models that a turn may choose from. Knows no model by name."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from langchain_core.language_models import BaseChatModel

from visavis.dialogue.errors import BadRequest
from visavis.dialogue.limits import ModelCard


@dataclass(frozen=True)
class ModelChoice:
    """Chat models by name, the default one first, and what people are told about each."""

    models: Mapping[str, BaseChatModel]
    cards: Sequence[ModelCard] = field(default=())

    @property
    def default(self) -> str:
        """The name of the one that is asked when nobody chooses."""
        return next(iter(self.models))

    @property
    def offered(self) -> Sequence[ModelCard]:
        """The cards of all."""
        return self.cards or [ModelCard(name) for name in self.models]

    def check(self, name: str) -> str:
        """The name itself; raises BadRequest if no model bears it. Empty stands for the default one."""
        if name and name not in self.models:
            raise BadRequest(f"There is no model {ascii(name)[:60]} here; there is {', '.join(self.models)}.")
        return name

    def find(self, name: str) -> BaseChatModel:
        """The model of that name; one that is not offered any more gives way to the default one."""
        return self.models.get(name) or self.models[self.default]
