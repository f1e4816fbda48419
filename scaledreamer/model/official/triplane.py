"""The official Triplane-Transformer (DL17k), with local or global text."""

from typing import Any

import torch

from scaledreamer.model.generators.triplane_transformer import (
    SeparateHeadsConfig,
    TriplaneTransformer,
    TriplaneTransformerConfig,
)
from scaledreamer.model.official.keys import (
    BBOX,
    Renames,
    State,
    configure,
    fill,
    mlp_sizes,
    network,
    radius_of,
    written,
)

HEADS = 16  # shapes cannot tell the number of heads
SPACE = "space_generator."
MARK = SPACE + "pos_embed"
RENAMES: Renames = (
    *network("decoder.sdf_network", "sdf_network"),
    *network("decoder.rgb_network", "feature_network"),
    (r"^(plane_tokens|blocks|norm|upsample|project)\b", SPACE + r"\1"),
    (r"plane_tokens$", "pos_embed"),
    (r"\.blocks\.", ".layers."),
    (r"\.cross_attention\.", ".cross_attn."),
    (r"\.self_attention\.", ".self_attn."),
    (r"\.to_out\.", ".to_out.0."),
    (r"\.upsample\.0\.", ".deconv."),
    (r"\.project\.", ".proj."),
)
LOCAL: Renames = ((r"\.mlp\.2\.", ".mlp.3."),)  # theirs has a dropout between the last two layers


def read(state: State, overrides: dict[str, Any]) -> TriplaneTransformer:
    """The generator of these keys (without `geometry.`)."""
    tokens, width = state[MARK].shape[1:]
    local = SPACE + "layers.0.norm1.weight" in state
    up = "mlp.0.weight" if local else "mlp.1.weight"
    text_width = state[SPACE + ("layers.0.cross_attn.to_k.weight" if local else "proj.weight")].shape[1]
    sizes = {
        "width": width,
        "text_width": text_width,
        "text": "local" if local else "global",
        "layers": len({key.split(".")[2] for key in state if key.startswith(SPACE + "layers.")}),
        "heads": HEADS,
        "mlp_ratio": state[f"{SPACE}layers.0.{up}"].shape[0] / width,
        "low_res": round((tokens / 3) ** 0.5),
        "plane_channels": state[SPACE + "deconv.weight"].shape[1],
        "decoder": SeparateHeadsConfig(**mlp_sizes(state, "sdf_network")),
        **radius_of(state),
    }
    config = configure(TriplaneTransformerConfig, sizes, overrides)
    with torch.device("meta"):
        generator = TriplaneTransformer(config)
    return fill(generator, state | {MARK: state[MARK][0]}, _renames(local), {BBOX})


def write(generator: TriplaneTransformer) -> State:
    """The weights under official names."""
    state = written(generator, _renames(generator.config.text == "local"))
    return state | {MARK: state[MARK][None]}


def _renames(local: bool) -> Renames:
    return RENAMES + (LOCAL if local else ())
