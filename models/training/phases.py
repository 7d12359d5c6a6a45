"""Which objectives a run has, with which weights, and when: a schedule of phases.

The names, after MMBT's training by translation between pictures and texts:

    answer        the written answers of captions, questions and dialogues
    i2t, t2i      the text from the picture; the picture's visual words from the text
    i2t_perturbed, t2i_perturbed    the same of a perturbed picture and a perturbed text
    uni           i2t and t2i
    bi            uni and both of the perturbed ones
    itc           pictures and captions in one space, told apart
    self_critical    reinforcement of sampled captions by their CIDEr
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

TRANSLATIONS = ("i2t", "t2i", "i2t_perturbed", "t2i_perturbed")
OBJECTIVES = ("answer", *TRANSLATIONS, "itc", "self_critical")
SUMS = {"uni": TRANSLATIONS[:2], "bi": TRANSLATIONS}


@dataclass(frozen=True)
class Phase:
    """Weights of objectives up to the share `until` of the run."""

    until: float
    weights: Mapping[str, float]

    @classmethod
    def of(cls, entry: Mapping[str, float]) -> Phase:
        """From a setting, {"until": 0.5, "uni": 1.0}; a phase without `until` lasts to the end.

        Raises:
            ValueError: an objective that there is not.
        """
        weights: dict[str, float] = {}
        for name, weight in entry.items():
            if name != "until" and name not in (*OBJECTIVES, *SUMS):
                raise ValueError(f"unknown objective {name!r}; known are {', '.join((*OBJECTIVES, *SUMS))}")
            for part in SUMS.get(name, (name,)):
                weights[part] = weights.get(part, 0.0) + weight
        return cls(weights.pop("until", 1.0), {name: weight for name, weight in weights.items() if weight})


class Phases:
    """One phase after another; the last one lasts to the end.

    Raises:
        ValueError: none, one without objectives, an unknown objective, or phases that do not follow each other.
    """

    def __init__(self, entries: Sequence[Mapping[str, float]]) -> None:
        self.phases = [Phase.of(entry) for entry in entries]
        ends = [phase.until for phase in self.phases]
        if not self.phases or not all(phase.weights for phase in self.phases) or ends != sorted(set(ends)):
            raise ValueError(f"phases need objectives, and each must end after the one before it, not {list(entries)}")

    def at(self, done: float) -> Mapping[str, float]:
        """The weights when the share `done` of the run is over."""
        return next((phase for phase in self.phases if done < phase.until), self.phases[-1]).weights

    def use(self, *names: str) -> bool:
        """Whether any phase has one of these objectives."""
        return any(name in phase.weights for phase in self.phases for name in names)
