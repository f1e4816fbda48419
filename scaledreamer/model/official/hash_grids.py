"""The official generators with a hash grid: Hyper-iNGP (MG15) and the prompt-specific iNGP."""

from typing import Any

import torch

from scaledreamer.errors import ModelFileError
from scaledreamer.model.generators.hyper_ingp import HyperNGP, HyperNGPConfig
from scaledreamer.model.generators.prompt_ingp import PromptNGP, PromptNGPConfig
from scaledreamer.model.layers.hash_grid import HashGridConfig
from scaledreamer.model.official.keys import (
    BBOX,
    GRID,
    Renames,
    State,
    configure,
    fill,
    mlp_sizes,
    network,
    radius_of,
    written,
)

HYPER_MARK, PROMPT_MARK = "hypernet.layers.0.weight", "density_network.layers.0.weight"
PROMPT_RENAMES: Renames = (
    (r"^networks\.", ""),
    *network("density_network", "density_network"),
    *network("rgb_network", "feature_network"),
    *GRID,
)


def hypernet_sizes(state: State) -> dict[str, int]:
    """What the hypernetwork's own shapes tell."""
    linear = [key for key, value in state.items() if key.startswith("hypernet.layers.") and value.ndim == 2]
    width, text_width = state[HYPER_MARK].shape
    return {"text_width": text_width, "width": width, "layers": len(linear) - 1}


def generated_hidden(state: State, grid: HashGridConfig, layers: int, networks: int, outputs: int) -> int:
    """Width of the hidden layers of the generated perceptrons, from the number of weights that are written.

    There are (networks features + outputs) h + networks (layers - 1) h^2; no shape tells the grid's features, nor how
    many layers there are.
    """
    last = max(int(key.split(".")[2]) for key in state if key.startswith("hypernet.layers."))
    count = state[f"hypernet.layers.{last}.weight"].shape[0]
    linear, square = networks * grid.width + outputs, networks * (layers - 1)
    for hidden in range(1, count // linear + 1):
        if linear * hidden + square * hidden**2 == count:
            return hidden
    raise ModelFileError(
        f"{count} generated weights do not fit a hash grid of {grid.width} features and {layers} hidden layer(s) of "
        "one width; override the sizes: grid=HashGridConfig(...), hidden=..., hidden_layers=..., sdf_hidden, rgb_hidden"
    )


def read_hyper(state: State, overrides: dict[str, Any]) -> HyperNGP:
    """The Hyper-iNGP of these keys (without `geometry.`)."""
    config = configure(HyperNGPConfig, {**hypernet_sizes(state), **radius_of(state)}, overrides)
    if not overrides.keys() & {"hidden", "sdf_hidden", "rgb_hidden"}:
        hidden = generated_hidden(state, config.grid, config.hidden_layers, networks=2, outputs=4)
        config = config.model_copy(update={"hidden": hidden})
    with torch.device("meta"):
        generator = HyperNGP(config)
    return fill(generator, state, GRID, {BBOX})


def write_hyper(generator: HyperNGP) -> State:
    """The weights under official names."""
    return written(generator, GRID)


def read_prompt(state: State, overrides: dict[str, Any]) -> PromptNGP:
    """The prompt-specific iNGP of these keys (without `geometry.`)."""
    config = configure(PromptNGPConfig, {**mlp_sizes(state, "density_network"), **radius_of(state)}, overrides)
    with torch.device("meta"):
        generator = PromptNGP(config)
    return fill(generator, state, PROMPT_RENAMES, {BBOX})


def write_prompt(generator: PromptNGP) -> State:
    """The weights under official names."""
    return written(generator, PROMPT_RENAMES)
