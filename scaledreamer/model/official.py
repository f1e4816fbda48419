"""Official checkpoints: their keys and shapes tell the architecture, and their weights load into our generators."""

import re
from typing import Any

import torch
from torch import Tensor

from scaledreamer.errors import ModelFileError
from scaledreamer.model.generators.base import Generator
from scaledreamer.model.generators.triplane_transformer import (
    SeparateHeadsConfig,
    TriplaneTransformer,
    TriplaneTransformerConfig,
)

HEADS = 16  # shapes cannot tell the number of heads
SPACE = "geometry.space_generator."
RENAMES = (
    (r"^pos_embed$", "plane_tokens"),
    (r"^layers\.", "blocks."),
    (r"\.cross_attn\.", ".cross_attention."),
    (r"\.self_attn\.", ".self_attention."),
    (r"\.to_out\.0\.", ".to_out."),
    (r"^deconv\.", "upsample.0."),
    (r"^proj\.", "project."),
)


def from_state_dict(state_dict: dict[str, Tensor], **overrides: Any) -> Generator:
    """A generator from official keys (with or without the `geometry.` prefix).

    Sizes are read from shapes; heads, radius, sphere_bias and color have the official values unless overridden.
    """
    state = {key if key.startswith("geometry.") else f"geometry.{key}": value for key, value in state_dict.items()}
    if SPACE + "pos_embed" not in state:
        raise ModelFileError(
            "these keys are not those of an official Triplane-Transformer (no space_generator.pos_embed); "
            f"found for example {sorted(state_dict)[:3]}"
        )
    return _triplane(state, overrides)


def _triplane(state: dict[str, Tensor], overrides: dict[str, Any]) -> TriplaneTransformer:
    space = {key.removeprefix(SPACE): value for key, value in state.items() if key.startswith(SPACE)}
    tokens, width = space["pos_embed"].shape[1:]
    local = "layers.0.norm1.weight" in space
    up = "mlp.0.weight" if local else "mlp.1.weight"
    text_width = (space["layers.0.cross_attn.to_k.weight"] if local else space["proj.weight"]).shape[1]
    depth = len({key.split(".")[1] for key in space if key.startswith("layers.")})
    sdf = sorted(key for key in state if key.startswith("geometry.sdf_network."))
    config = {
        "width": width,
        "text_width": text_width,
        "text": "local" if local else "global",
        "layers": depth,
        "heads": HEADS,
        "mlp_ratio": space[f"layers.0.{up}"].shape[0] // width,
        "low_res": round((tokens / 3) ** 0.5),
        "plane_channels": space["deconv.weight"].shape[1],
        "decoder": SeparateHeadsConfig(hidden=state[sdf[0]].shape[0], hidden_layers=len(sdf) - 1),
        **overrides,
    }
    generator = TriplaneTransformer(TriplaneTransformerConfig.model_validate(config))
    weights = {_rename(key, local): value for key, value in space.items()}
    weights["plane_tokens"] = weights["plane_tokens"][0]
    for name, ours in (("sdf_network", "sdf_network"), ("feature_network", "rgb_network")):
        prefix = f"geometry.{name}.layers."
        layers = {key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)}
        weights |= {f"decoder.{ours}.{key}": value for key, value in layers.items()}
    expected = generator.state_dict()
    wrong = sorted(expected.keys() ^ weights.keys())
    if wrong:
        raise ModelFileError(f"the checkpoint does not fit a Triplane-Transformer; keys that differ: {wrong[:5]}")
    generator.load_state_dict({key: value.to(torch.float32) for key, value in weights.items()})
    return generator.eval()


def _rename(key: str, local: bool) -> str:
    for pattern, replacement in RENAMES:
        key = re.sub(pattern, replacement, key)
    return re.sub(r"\.mlp\.3\.", ".mlp.2.", key) if local else key
