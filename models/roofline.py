"""How close the image encoder and the decode step come to what this machine can do at best, measured beside them.

The roofline model (Williams et al. 2009): work takes at least its arithmetic over the rate of a large matrix product,
and at least its bytes over the bandwidth of a long read.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from visavis.models.decode_batch import DecodeBatch
from visavis.models.loading import load_model
from visavis.models.precision import PackedLinear, Precision, serve_with
from visavis.models.visavis_model import VisavisModel

ROWS = 32
TEXT_TOKENS = 24
_SIZE = 1024
_READ = 1 << 26  # floats: far more than any cache holds
_REPEATS = 9


@torch.inference_mode()
def rooflines(folder: Path, threads: int, device_name: str) -> dict[str, float]:
    """`encoder`: share of the matrix product's rate; `decode`: the least time of a step of 32 rows over its own.

    In fp32, with the threads that one of the engine's workers has of `threads`; so are product and read.
    """
    model, processor = load_model(folder, device_name)
    device = model.device
    if device.type == "cpu":
        torch.set_num_threads(max(1, threads // 2))
    pixels = torch.zeros(1, 3, processor.images.size, processor.images.size, device=device)
    plain, _ = _full_batch(model, pixels)
    encoder_flops, step_flops = _flops(lambda: model.encode_image(pixels)), _flops(lambda: plain.step([7] * ROWS))
    serve_with(model, Precision.FP32)
    flops_per_s, bytes_per_s = _product_rate(device), _read_rate(device)
    encoder_s = fastest_s(lambda: model.encode_image(pixels))
    batch, nbytes = _full_batch(model, pixels)
    step_s = fastest_s(lambda: batch.step([7] * ROWS))
    least_s = max(step_flops / flops_per_s, nbytes / bytes_per_s)
    return {"encoder": encoder_flops / encoder_s / flops_per_s, "decode": least_s / step_s}


def _full_batch(model: VisavisModel, pixels: torch.Tensor) -> tuple[DecodeBatch, int]:
    """32 running rows, and the bytes that a step has to read: weights once, and every row's memory."""
    text = torch.ones(1, TEXT_TOKENS, dtype=torch.long, device=pixels.device)
    memory = model.fuse(model.image_state(model.encode_image(pixels)), text, text, text * 0)
    batch = DecodeBatch(model, ROWS)
    for _ in range(ROWS):
        batch.join(memory)
    weights = sum(value.nbytes for value in model.decoder.parameters())
    return batch, weights + ROWS * sum(layer.nbytes for layer in memory.layers)


def _product_rate(device: torch.device) -> float:
    """Of the faster of two libraries' products: a plain one, and one whose weights are packed as when serving."""
    left, right = torch.randn(2, _SIZE, _SIZE, device=device)
    packed = PackedLinear(nn.Linear(_SIZE, _SIZE, bias=False, device=device))
    return 2 * _SIZE**3 / min(fastest_s(lambda: left @ right), fastest_s(lambda: packed(left)))


def _read_rate(device: torch.device) -> float:
    values = torch.ones(_READ, device=device)
    return values.nbytes / fastest_s(values.sum)


def _flops(work: Callable[[], object]) -> int:
    with FlopCounterMode(
        display=False, custom_mapping={torch.ops.aten._embedding_bag_forward_only: _bag_flops}
    ) as counter:
        work()
    return int(counter.get_total_flops())


def _bag_flops(table: torch.Size, indices: torch.Size, *_: object, **__: object) -> int:
    """Of weighted sums of rows: a multiplication and an addition for every number that is read."""
    return 2 * indices[0] * table[1]


def fastest_s(work: Callable[[], object]) -> float:
    """Seconds of the fastest of several runs."""
    times = []
    for _ in range(_REPEATS):
        started = time.perf_counter()
        work()
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        times.append(time.perf_counter() - started)
    return min(times)
