"""The official 3DConv-Net (DF415, AT2520, CP100k)."""

from typing import Any

import torch

from scaledreamer.model.generators.conv3d import COARSEST, Conv3D, Conv3DConfig
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

SPACE = "space_generator."
FIRST, BLOCKS = SPACE + "synthesis.first_block.", SPACE + "synthesis.blocks."
MARK = FIRST + "const"
AVERAGE = SPACE + "mapping.w_avg"  # a buffer that nothing reads or writes
RENAMES: Renames = (
    *network("decoder.sdf_network", "sdf_network"),
    *network("decoder.rgb_network", "feature_network"),
    (r"^mapping\.", SPACE + "mapping."),
    (r"^(first_block|blocks)\.", SPACE + r"synthesis.\1."),
    (r"\.style\.", ".affine."),
    (r"\.to_voxels\.", ".torgb."),
    (r"\.place_bias$", ".const_bias"),
)


def read(state: State, overrides: dict[str, Any]) -> Conv3D:
    """The generator of these keys (without `geometry.`)."""
    steps = len({key.removeprefix(BLOCKS).split(".")[0] for key in state if key.startswith(BLOCKS)})
    biased = sum(f"{BLOCKS}{step}.const_bias" in state for step in range(steps))
    mapping = sum(key.startswith(SPACE + "mapping.layers.") and key.endswith(".weight") for key in state)
    style_width, embedded = state[SPACE + "mapping.embed.weight"].shape
    sizes = {
        "text_width": embedded - style_width,
        "noise_width": state[SPACE + "mapping.layers.0.weight"].shape[1],
        "style_width": style_width,
        "mapping_layers": mapping,
        "channels": (state[MARK].shape[0], *(state[f"{BLOCKS}{i}.conv0.weight"].shape[0] for i in range(steps))),
        "bias_resolution": COARSEST << biased,
        "voxel_channels": state[FIRST + "torgb.weight"].shape[0],
        **mlp_sizes(state, "sdf_network"),
        **radius_of(state),
    }
    config = configure(Conv3DConfig, sizes, overrides)
    with torch.device("meta"):
        generator = Conv3D(config)
    return fill(generator, state, RENAMES, {BBOX, AVERAGE})


def write(generator: Conv3D) -> State:
    """The weights under official names."""
    average = generator.mapping.embed.bias.new_zeros(generator.config.style_width)
    return written(generator, RENAMES) | {AVERAGE: average}
