"""Attention of one query a row: the same for every layout of the keys as torch's own, and read as the layout says."""

import pytest
import torch
import torch.nn.functional as F

from visavis.models.attention import added_mask, one_query, sums_of_rows
from visavis.models.kv_cache import KeyValue, KeyValueRows

ROWS, HEADS, POSITIONS, WIDTH = 3, 2, 5, 4
DEVICE = torch.device("cpu")


def held(turned: bool, dtype: torch.dtype = torch.float32) -> KeyValue:
    rows = KeyValueRows(1, HEADS, WIDTH, dtype=dtype, device=DEVICE, turned=turned)
    rows.grow(ROWS, POSITIONS)
    for row in range(ROWS):
        made = torch.Generator().manual_seed(row)
        key, value = torch.randn(2, 1, HEADS, POSITIONS, WIDTH, generator=made)
        rows.fill(row, [KeyValue(key, value)])
    return rows.view(ROWS, POSITIONS)[0]


@pytest.mark.parametrize("turned", [True, False])
@pytest.mark.parametrize(("dtype", "near"), [(torch.float32, 1e-6), (torch.bfloat16, 0.03)])
def test_it_is_the_attention_of_torch(turned: bool, dtype: torch.dtype, near: float) -> None:
    memory, exact = held(turned, dtype), held(False)
    assert memory.is_turned == turned and memory.is_whole
    query = torch.randn(ROWS, HEADS, 1, WIDTH, generator=torch.Generator().manual_seed(9))
    mask = torch.arange(POSITIONS)[None] < torch.tensor([1, 3, 5])[:, None]
    mixed = one_query(query, memory, mask[:, None, None])
    expected = F.scaled_dot_product_attention(query, exact.key, exact.value, mask[:, None, None])[:, :, 0]
    torch.testing.assert_close(mixed, expected, atol=near, rtol=near)
    assert mixed.dtype == torch.float32
    assert torch.equal(one_query(query, memory, added_mask(mask, dtype)[:, None, None]), mixed)


def test_a_row_that_may_see_nothing_spoils_nobody() -> None:
    mask = torch.tensor([[True], [False], [True]]).expand(ROWS, POSITIONS)[:, None, None]
    mixed = one_query(torch.ones(ROWS, HEADS, 1, WIDTH), held(turned=True), mask)
    assert mixed.isfinite().all()


def test_sums_of_rows_are_products_with_a_single_row() -> None:
    made = torch.Generator().manual_seed(2)
    weights, rows = torch.randn(6, 5, generator=made), torch.randn(6, 5, 7, generator=made)
    torch.testing.assert_close(sums_of_rows(weights, rows), torch.bmm(weights[:, None], rows)[:, 0])


@pytest.mark.parametrize("turned", [True, False])
def test_rows_keep_what_they_hold_and_how_it_lies_while_they_grow_and_shrink(turned: bool) -> None:
    rows = KeyValueRows(1, HEADS, WIDTH, dtype=torch.float32, device=DEVICE, turned=turned)
    rows.grow(2, 3)
    key, value = torch.randn(2, 1, HEADS, 3, WIDTH, generator=torch.Generator().manual_seed(4))
    rows.fill(1, [KeyValue(key, value)])
    rows.grow(4, 6)
    grown = rows.view(4, 6)[0]
    assert grown.is_turned == turned and not grown.key[1, :, 3:].any() and not grown.key[[0, 2, 3]].any()
    rows.move(1, 0)
    rows.shorten(2)
    left = rows.view(1, 2)[0]
    assert left.is_turned == turned
    assert torch.equal(left.key, key[:, :, :2]) and torch.equal(left.value, value[:, :, :2])
