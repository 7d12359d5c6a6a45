"""From replies to figures: every reply judged by the rules of its section, every section summed up."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from visavis.models.generation import Completion
from visavis.models.training.caption_metrics import score_captions
from visavis.models.training.evaluation_items import Item, Section, read_training_answers
from visavis.models.training.evaluation_options import Answer, EvaluationOptions, Figures
from visavis.models.training.evaluation_probes import calibration_of
from visavis.models.training.scoring import AnswerPrior, TurnScore, dialogue_scores, exact_match, share, turn_counts

TRAINING_QUESTIONS = "questions.train.jsonl"
PROBES = ("nonphotos", "retrieval", "calibration", "ocr")


def score_answers(items: Sequence[Item], replies: Sequence[Completion]) -> list[Answer]:
    """Judge each reply by the rules of its section."""
    captions = [index for index, item in enumerate(items) if item.section is Section.CAPTIONS]
    cider: Mapping[int, float] = {}
    if captions:
        scores = score_captions([replies[i].text for i in captions], [items[i].expected for i in captions])
        cider = dict(zip(captions, scores.each_cider, strict=True))
    return [
        Answer(item, reply.text, reply.confidence, cider[index] if index in cider else _counts(item, reply.text))
        for index, (item, reply) in enumerate(zip(items, replies, strict=True))
    ]


def summarise(answers: Sequence[Answer], options: EvaluationOptions) -> Figures:
    """The figures of every section; None for what was not asked."""
    figures: Figures = dict.fromkeys([*(section.value for section in Section), *PROBES])
    for section in options.files:
        part = [answer for answer in answers if answer.item.section is section]
        plain = part if options.is_probe else [answer for answer in part if answer.item.image is not None]
        blind = None if options.is_probe else _accuracy([answer for answer in part if answer.item.image is None])
        figures[section] = _SUMMARIES[section](plain, blind, options)
    figures["calibration"] = calibration_of(
        [
            (answer.confidence, bool(answer.scored))
            for answer in answers
            if answer.item.image is not None and answer.item.section is not Section.CAPTIONS
        ]
    )
    return figures


def _summarise_captions(answers: Sequence[Answer], _: float | None, __: EvaluationOptions) -> Figures:
    scores = score_captions([answer.said for answer in answers], [answer.item.expected for answer in answers])
    bleu = {f"bleu{order}": value for order, value in enumerate(scores.bleu, 1)}
    return {**bleu, "rouge_l": scores.rouge_l, "cider": scores.cider, "n": len(answers)}


def _summarise_questions(answers: Sequence[Answer], blind: float | None, options: EvaluationOptions) -> Figures:
    training = options.questions.with_name(TRAINING_QUESTIONS) if options.questions else None
    prior = None
    if training is not None and training.is_file():
        guess = AnswerPrior(read_training_answers(training)).answer
        prior = share(exact_match(guess(answer.item.question), answer.item.expected) for answer in answers)
    return {"accuracy": _accuracy(answers), "prior": prior, "blind": blind, "n": len(answers)}


def _summarise_dialogues(answers: Sequence[Answer], blind: float | None, _: EvaluationOptions) -> Figures:
    items = [answer.item for answer in answers]
    turns = [TurnScore(a.item.expected[0], a.item.position, bool(a.scored)) for a in answers]
    gold = share(turn_counts(item.written or "", item.expected[0]) for item in items)
    return {**dialogue_scores(turns), "blind": blind, "gold": gold}


def _summarise_things(answers: Sequence[Answer], _: float | None, __: EvaluationOptions) -> Figures:
    return {"accuracy": _accuracy(answers), "n": len(answers)}


_SUMMARIES: Mapping[Section, Callable[[Sequence[Answer], float | None, EvaluationOptions], Figures]] = {
    Section.CAPTIONS: _summarise_captions,
    Section.QUESTIONS: _summarise_questions,
    Section.DIALOGUES: _summarise_dialogues,
    Section.THINGS: _summarise_things,
}


def _accuracy(answers: Sequence[Answer]) -> float | None:
    return share(bool(answer.scored) for answer in answers)


def _counts(item: Item, said: str) -> bool:
    if item.section is Section.DIALOGUES:
        return turn_counts(said, item.expected[0])
    return exact_match(said, item.expected)
