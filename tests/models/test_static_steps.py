"""What a GPU will need of a decode step, held without one: static shapes, no look at values, one graph."""

import copy
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from visavis.models.cuda_graph import GraphedStep
from visavis.models.decode_batch import DecodeBatch, decode_rows
from visavis.models.processor import Processor
from visavis.models.visavis_model import Memory, VisavisModel

WAITING = {"_local_scalar_dense", "nonzero", "masked_select", "is_nonzero", "equal", "item"}
ROWS = 4


class Recorder(TorchDispatchMode):
    """Names of operators with the shapes that they give."""

    def __init__(self) -> None:
        super().__init__()
        self.steps: list[tuple[str, tuple[int, ...]]] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        name = func.overloadpacket.__name__
        self.steps.append((name, tuple(result.shape) if isinstance(result, Tensor) else ()))
        return result


@pytest.fixture(scope="module")
def memories(tiny_model: VisavisModel, tiny_processor: Processor) -> tuple[Memory, ...]:
    pixels = torch.randn(1, 3, 28, 28, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        state = tiny_model.image_state(tiny_model.encode_image(pixels))
        questions = ("is it?", "what color is the dog in the picture?")
        return tuple(tiny_model.fuse(state, **tiny_processor.encode_question(question)) for question in questions)


def step_inputs(batch: DecodeBatch, tokens: list[int]) -> tuple[Any, ...]:
    """What `DecodeBatch.step` hands over when it is static."""
    ids = torch.tensor([*tokens, *[0] * (batch.max_rows - len(tokens))])
    seen, said = batch._may_see.shape[1], batch._decoder.max_positions
    memory, own = batch._memory.view(batch.max_rows, seen), batch._own.view(batch.max_rows, said)
    return batch._decoder, ids, batch._positions, memory, batch._may_see, own


@torch.inference_mode()
def test_static_rows_give_what_dynamic_rows_give(tiny_model: VisavisModel, memories: tuple[Memory, ...]) -> None:
    static, dynamic = (DecodeBatch(tiny_model, ROWS, static=kind) for kind in (True, False))
    for joining, tokens in ((memories[0], [1]), (memories[1], [5, 1]), (memories[0], [7, 6, 1])):
        for batch in (static, dynamic):
            batch.join(joining)
        torch.testing.assert_close(static.step(tokens), dynamic.step(tokens))
    for batch in (static, dynamic):
        batch.leave(0)
    torch.testing.assert_close(static.step([9, 8]), dynamic.step([9, 8]))


@torch.inference_mode()
def test_steps_wait_for_no_value_and_keep_their_shapes(tiny_model: VisavisModel, memories: tuple[Memory, ...]) -> None:
    batch = DecodeBatch(tiny_model, ROWS, static=True)
    batch.join(memories[1])
    recorded = []
    for tokens in ([1], [5], [7, 1]):
        if len(tokens) > len(batch):
            batch.join(memories[0])
        with Recorder() as recorder:
            decode_rows(*step_inputs(batch, tokens))
        batch.step(tokens)
        recorded.append(recorder.steps)
    assert recorded[0] == recorded[1] == recorded[2]
    assert not WAITING & {name for name, _ in recorded[0]}
    assert len(recorded[0]) > 20


@torch.no_grad()
@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")  # of torch's own compiler
@pytest.mark.parametrize("backend", ["eager", pytest.param("inductor", marks=pytest.mark.slow)])
def test_a_step_is_one_graph(tiny_model: VisavisModel, memories: tuple[Memory, ...], backend: str) -> None:
    batch = DecodeBatch(tiny_model, ROWS, static=True)
    memory = [
        Memory(tuple(type(one)(one.key.clone(), one.value.clone()) for one in part.layers), None) for part in memories
    ]
    for part in memory:
        batch.join(part)
    compiled = torch.compile(decode_rows, fullgraph=True, backend=backend)
    expected = decode_rows(*step_inputs(batch, [5, 7]))
    torch.testing.assert_close(compiled(*step_inputs(batch, [5, 7])), expected)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@torch.inference_mode()
def test_a_cuda_graph_gives_what_single_kernels_give(tiny_model: VisavisModel, tiny_processor: Processor) -> None:
    model, graphed = copy.deepcopy(tiny_model).cuda(), GraphedStep()
    batches = [DecodeBatch(model, ROWS, decode=decode) for decode in (decode_rows, graphed)]
    state = model.image_state(model.encode_image(torch.randn(1, 3, 28, 28).cuda()))
    question = {name: ids.cuda() for name, ids in tiny_processor.encode_question("what is it?").items()}
    for tokens in ([1], [5, 1], [7, 6, 1]):
        for batch in batches:
            batch.join(model.fuse(state, **question))
        torch.testing.assert_close(batches[1].step(tokens), batches[0].step(tokens))
    assert graphed.recordings == 1
