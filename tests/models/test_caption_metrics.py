"""Caption scores on cases small enough to work out by hand."""

import math

import pytest

from visavis.models.training.caption_metrics import score_captions, tokenize


@pytest.mark.parametrize(
    ("caption", "tokens"),
    [
        ("A Dog runs .", "a dog runs"),
        ("The dog's t-shirt isn't red, it’s 3.5 ft!", "the dog 's t-shirt is n't red it 's 3.5 ft"),
        ('Two (very) "big" dogs... can\'t', "two very big dogs ca n't"),
        ("...", ""),
    ],
)
def test_tokenize(caption: str, tokens: str) -> None:
    assert tokenize(caption) == tokens


def test_scores_by_hand(capsys: pytest.CaptureFixture[str]) -> None:
    scores = score_captions(["A dog runs fast.", "two men"], [["a dog runs slowly"], ["two men sit"]])
    # 5 of 6 words and 3 of 4 pairs are right; 6 words stand for 7
    brevity = math.exp(1 - 7 / 6)
    assert scores.bleu[0] == pytest.approx(brevity * 5 / 6)
    assert scores.bleu[1] == pytest.approx(brevity * math.sqrt(5 / 6 * 3 / 4))
    # longest common subsequences: 3 of 4 and 4; 2 of 2 and 3 (beta 1.2)
    second = (1 + 1.44) * 1 * (2 / 3) / (2 / 3 + 1.44)
    assert scores.rouge_l == pytest.approx((0.75 + second) / 2)
    assert scores.cider == pytest.approx(sum(scores.each_cider) / 2)
    assert capsys.readouterr().out == ""


def test_a_perfect_caption_has_full_cider_and_an_empty_one_none() -> None:
    references = [["a brown dog runs fast"], ["two men sit outside"]]
    assert score_captions([captions[0] for captions in references], references).cider == pytest.approx(10)
    assert score_captions(["", "two men sit outside"], references).each_cider[0] == 0


@pytest.mark.parametrize(("replies", "references"), [([], []), (["a"], []), (["a"], [[]])])
def test_replies_and_references_must_pair_up(replies: list[str], references: list[list[str]]) -> None:
    with pytest.raises(ValueError, match="expected one reply"):
        score_captions(replies, references)
