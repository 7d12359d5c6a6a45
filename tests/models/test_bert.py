"""Our BERT gives what transformers' gives, with either form of mask."""

import pytest
import torch
from torch import Tensor, nn
from transformers import BertConfig as TheirConfig
from transformers import BertModel

from visavis.models.bert import Bert
from visavis.models.tower_configs import BertConfig

SIZES = {"hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 3, "intermediate_size": 40, "vocab_size": 50}
IDS = torch.randint(1, 50, (2, 7), generator=torch.Generator().manual_seed(3))
SEGMENTS = torch.tensor([[0, 0, 0, 1, 1, 1, 1], [0, 1, 1, 1, 0, 0, 0]])
PADDED = torch.tensor([[1, 1, 1, 1, 1, 1, 1], [1, 1, 1, 1, 0, 0, 0]])
WINDOW = (torch.arange(7)[:, None] - torch.arange(7)).abs() < 3


@pytest.fixture(scope="module")
def both() -> tuple[Bert, BertModel]:
    torch.manual_seed(1)
    theirs = BertModel(TheirConfig(**SIZES), add_pooling_layer=False).eval()
    for parameter in theirs.parameters():
        nn.init.normal_(parameter, std=0.3)
    config = BertConfig.from_options(theirs.config.to_dict())
    assert config is not None
    ours = Bert(config).eval()
    ours.load_state_dict(theirs.state_dict())
    return ours, theirs


@pytest.mark.parametrize("segments", [None, SEGMENTS], ids=["one segment", "two"])
@pytest.mark.parametrize("mask", [torch.ones_like(PADDED), PADDED, WINDOW.expand(2, -1, -1)], ids=["all", "2d", "3d"])
@torch.no_grad()
def test_the_same_states(both: tuple[Bert, BertModel], mask: Tensor, segments: Tensor | None) -> None:
    ours, theirs = both
    their_mask = mask[:, None] if mask.dim() == 3 else mask
    wanted = theirs(IDS, attention_mask=their_mask, token_type_ids=segments).last_hidden_state
    read = PADDED.bool() if mask is PADDED else torch.ones_like(PADDED).bool()
    torch.testing.assert_close(ours(IDS, mask, segments)[read], wanted[read], rtol=0, atol=1e-5)


@torch.no_grad()
def test_each_token_attends_only_where_it_may(both: tuple[Bert, BertModel]) -> None:
    ours, _ = both
    alone = torch.eye(7, dtype=torch.bool).expand(2, -1, -1)
    changed = IDS.clone()
    changed[:, 4] = (changed[:, 4] + 1) % 50
    same = (ours(IDS, alone) == ours(changed, alone)).all(dim=2)[0]
    assert same.tolist() == [True] * 4 + [False] + [True] * 2


def test_dropout_belongs_to_training_only(both: tuple[Bert, BertModel]) -> None:
    ours, _ = both
    mask = torch.ones_like(IDS)
    assert torch.equal(ours(IDS, mask), ours(IDS, mask))
    ours.train()
    assert not torch.equal(ours(IDS, mask), ours(IDS, mask))
    ours.eval()


def test_defaults_are_theirs_and_what_is_not_ours_is_refused() -> None:
    assert BertConfig.from_options(TheirConfig().to_dict()) == BertConfig.from_options({}) == BertConfig()
    for lacking in ({"is_decoder": True}, {"hidden_act": "relu"}, {"add_cross_attention": True}):
        assert BertConfig.from_options(lacking) is None
