"""Our dropout against its definition: what share is dropped, what is kept, and when nothing happens."""

import pytest
import torch

from visavis.models.dropout import Dropout


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_share_is_dropped_and_the_rest_grows(dtype: torch.dtype) -> None:
    torch.manual_seed(1)
    values = torch.ones(301, 333, dtype=dtype, requires_grad=True)
    out = Dropout(0.25)(values)
    assert set(out.unique().tolist()) == {0.0, torch.tensor(4 / 3, dtype=dtype).item()}
    assert (out == 0).float().mean().item() == pytest.approx(0.25, abs=0.01)
    out.sum().backward()
    assert torch.equal(values.grad == 0, out == 0)  # type: ignore[operator]


def test_seeds_repeat_and_rows_differ() -> None:
    drop, values = Dropout(0.5), torch.ones(4, 64)
    torch.manual_seed(3)
    first = drop(values)
    torch.manual_seed(3)
    assert torch.equal(first, drop(values)) and not torch.equal(first, drop(values))
    assert len({tuple(row) for row in first.tolist()}) == 4


@pytest.mark.parametrize("share", [0.0, 0.001, 1.0])
def test_the_ends_are_exact(share: float) -> None:
    values = torch.ones(100)
    assert Dropout(share)(values).sum() == (0 if share == 1 else 100) or share == 0.001
    assert torch.equal(Dropout(share).eval()(values), values)
