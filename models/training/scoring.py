"""When an answer counts: exact match for questions, the rules for dialogue turns, and the answer without the picture.

Everything here is a pure function of texts, published so that anybody can score the predictions again. It knows no
model, no file and no picture. The rules:

* **Questions.** Equal after case, articles and punctuation are dropped and number words are written as digits; any
  accepted answer counts.
* **Dialogue turns.** A reply counts by its first 15 words. Where the key answer (`short`) is yes or no, the reply's
  `polarity` has to agree; where it is "unknown" or "no ...", the reply has to deny or decline (`DENIALS`); else every
  word of the key answer has to stand in the reply as a whole word, in any order, plural and articles aside.
"""

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum

COUNTED_WORDS = 15

ARTICLES = frozenset({"a", "an", "the"})
NUMBER_WORDS = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen "
    "seventeen eighteen nineteen twenty"
)
NUMBERS = {word: str(number) for number, word in enumerate(NUMBER_WORDS.split())}
IRREGULAR_PLURALS = {
    "men": "man",
    "women": "woman",
    "children": "child",
    "people": "person",
    "feet": "foot",
    "teeth": "tooth",
    "mice": "mouse",
    "geese": "goose",
    "leaves": "leaf",
    "shelves": "shelf",
    "knives": "knife",
    "wolves": "wolf",
    "scarves": "scarf",
    "hooves": "hoof",
    "buses": "bus",
    "potatoes": "potato",
    "tomatoes": "tomato",
}

YES = re.compile(r"(yes|yeah|yep|yup|sure|certainly|definitely|absolutely|indeed|correct|right|true|exactly)\b")
NO = re.compile(r"(no|nope|nah)\b")
# Elliptical only: "it is, in the grass" affirms; "it is brown" states something, which may contradict the question.
AFFIRMATION = re.compile(
    r"(it|he|she|they|there|that|this|these|those|you|we|i|one|both|all|most|some)( both| all| of them)?"
    r"( is| are| am| was| were| do| does| did| has| have| can| could| may| might| will| would| seems?| looks?)"
    r"( to be| to| so| it| both| all| indeed| likely| probably| mostly)*"
    r"|of course|probably|most likely|(i|you) (think|believe|guess|can say) so"
)
NEGATION = re.compile(r"\b(no|not|none|nobody|nothing|never|neither|nowhere|cannot|without|hardly)\b|\w+n't\b")

# A reply that says "that is not there" or "the picture does not tell". A bare "not" is no denial ("he is not old"):
# each pattern names a thing that is missing, or a seeing and telling that fails.
DENIALS = (
    r"^(no|none|nobody|nothing|neither)\b",
    r"\b(there|here|that|it)( is|'s| are| was| were) (no|none|nobody|nothing|not)\b",
    r"\b(there|here|that) (isn't|aren't)\b",
    r"\b(sees?|shows?|gives?|has|have|wears?|wearing|holds?|holding|carries|carrying|with) (no|none|nobody|nothing)\b",
    r"\b(don't|doesn't|didn't|do not|does not|did not) (\w+ )?(see|show|tell|say|know|reveal|give|have|seem to)\b",
    r"\b(can't|cannot|can not|couldn't|could not)\b",
    r"\b(isn't|aren't|is not|are not) (\w+ )?(shown|visible|seen|clear|known|sure|in the|here|there|any|with)\b",
    r"\bnot (shown|visible|clear|known|sure|in the (photo|picture|image))\b",
    r"\b(unknown|unclear|hidden|invisible|hard to (tell|say|see|read)|(too|so) (small|far|blurry|dark))\b",
    r"\b(no (way to|one|other)|nobody|nothing|only see|see only)\b",
)
DENIAL = re.compile("|".join(DENIALS))


class Polarity(StrEnum):
    YES = "yes"
    NO = "no"


@dataclass(frozen=True)
class TurnScore:
    """One judged dialogue turn: its key answer, its place in the dialogue (0 = first), and whether the reply counts."""

    short: str
    position: int
    counts: bool


def normalise(text: str) -> list[str]:
    """The words of `text` in lower case, without articles and punctuation, number words as digits."""
    words = re.findall(r"[^\W_]+(?:'[^\W_]+)*", _plain(text))
    return [NUMBERS.get(word, word) for word in words if word not in ARTICLES]


def exact_match(reply: str, answers: Iterable[str]) -> bool:
    """Whether `reply` is one of the accepted answers (case, articles, punctuation and number words aside)."""
    words = normalise(reply)
    return bool(words) and any(words == normalise(answer) for answer in answers)


class AnswerPrior:
    """The answer that needs no picture: the commonest training answer to the same question.

    Where the question is new: the commonest to questions that begin with the same three words, else the commonest of
    all. Equal counts are decided by what came first.
    """

    def __init__(self, training: Iterable[tuple[str, Sequence[str]]]) -> None:
        """`training` gives (question, accepted answers); every accepted answer counts once.

        Raises:
            ValueError: there is not one answer.
        """
        self._counts: defaultdict[tuple[str, ...], Counter[str]] = defaultdict(Counter)
        for question, answers in training:
            for key in self._keys(question):
                self._counts[key].update(answers)
        if not self._counts[()]:
            raise ValueError("a prior needs training questions with answers, got none")

    def answer(self, question: str) -> str:
        """The guess for `question`; it never looks at a picture."""
        key = next(key for key in self._keys(question) if key in self._counts)
        return self._counts[key].most_common(1)[0][0]

    @staticmethod
    def _keys(question: str) -> tuple[tuple[str, ...], ...]:
        words = tuple(re.findall(r"\w+", question.lower()))
        return ("question", *words), ("opening", *words[:3]), ()


def is_denial_key(short: str) -> bool:
    """Whether the key answer says that the question cannot be answered: "unknown" or "no ..."."""
    return bool(re.match(r"unknown$|no ", _plain(short)))


def polarity(reply: str) -> Polarity | None:
    """Yes or no by the reply's first clause; None where it says neither.

    A leading yes or no word decides; else a negation anywhere in the clause says no; else a bare "it is", "he does"
    and the like, or a "yes" behind a later comma, says yes.
    """
    head = _head(reply)
    clause = re.split(r"[,;.:!?]|\bbut\b", head, maxsplit=1)[0].strip()
    if YES.match(clause):
        return Polarity.YES
    if NO.match(clause) or NEGATION.search(clause):
        return Polarity.NO
    affirmed = AFFIRMATION.fullmatch(clause) or re.search(r", yes\b", head)
    return Polarity.YES if affirmed else None


def denies(reply: str) -> bool:
    """Whether the reply denies what was asked about, or declines to say."""
    return bool(DENIAL.search(_head(reply)))


def turn_counts(reply: str, short: str) -> bool:
    """Whether `reply` gives the key answer `short` of a dialogue turn (see the module's rules)."""
    key = _plain(short)
    if key in set(Polarity):
        return polarity(reply) == key
    if is_denial_key(key):
        return denies(reply)
    wanted = {_singular(word) for word in normalise(key)}
    return bool(wanted) and wanted <= {_singular(word) for word in normalise(_head(reply))}


def dialogue_scores(turns: Sequence[TurnScore]) -> dict[str, float | int | None]:
    """Shares of turns that count: over all, by place, balanced over yes and no, and where the premise is false.

    Few first turns ask for a yes or no, and such are easier: `first_open` and `later_open` leave these out, and those
    that cannot be answered. A share of no turns at all is None.
    """
    open_turns = [turn for turn in turns if _plain(turn.short) not in set(Polarity) and not is_denial_key(turn.short)]
    yes, no = (share(turn.counts for turn in turns if _plain(turn.short) == side) for side in Polarity)
    return {
        "accuracy": share(turn.counts for turn in turns),
        "first": share(turn.counts for turn in turns if turn.position == 0),
        "later": share(turn.counts for turn in turns if turn.position > 0),
        "first_open": share(turn.counts for turn in open_turns if turn.position == 0),
        "later_open": share(turn.counts for turn in open_turns if turn.position > 0),
        "yes_no_balanced": None if yes is None or no is None else (yes + no) / 2,
        "false_premise": share(turn.counts for turn in turns if is_denial_key(turn.short)),
        "n": len(turns),
    }


def share(judged: Iterable[bool]) -> float | None:
    """The share that is true; None of nothing."""
    counted = list(judged)
    return sum(counted) / len(counted) if counted else None


def _plain(text: str) -> str:
    return text.lower().replace("’", "'").strip()


def _head(reply: str) -> str:
    return " ".join(_plain(reply).split()[:COUNTED_WORDS])


def _singular(word: str) -> str:
    """A crude singular: it has to be the same for both numbers of a word, and no more."""
    if word in IRREGULAR_PLURALS:
        return IRREGULAR_PLURALS[word]
    if len(word) > 3 and word.endswith("s") and not word.endswith(("ss", "us", "is")):
        word = word[:-2] if word.endswith(("sses", "xes", "zzes", "ches", "shes")) else word[:-1]
    return word[:-2] + "y" if word.endswith("ie") else word
