"""The official generators with a hash grid: Hyper-iNGP (MG15) and the prompt-specific iNGP."""

from typing import Any

import torch

from scaledreamer.errors import ModelFileError
from scaledreamer.model.generators.hyper_ingp import HyperNGP, HyperNGPConfig
from scaledreamer.model.generators.prompt_ingp import PromptNGP, PromptNGPConfig
from scaledreamer.model.layers.hash_grid import HashGridConfig
from scaledreamer.model.official.keys import BBOX, GRID, Renames, State, configure, fill, mlp_sizes, network, written

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


def generated_hidden(state: State, grid: HashGridConfig, networks: int, outputs: int) -> int:
    """Width of the one hidden layer of the generated perceptrons, from the number of weights that are written.

    There are (networks x features + outputs) x hidden of them; no shape tells the grid's features, nor deeper layers.
    """
    last = max(int(key.split(".")[2]) for key in state if key.startswith("hypernet.layers."))
    count = state[f"hypernet.layers.{last}.weight"].shape[0]
    hidden, rest = divmod(count, networks * grid.width + outputs)
    if rest:
        raise ModelFileError(
            f"{count} generated weights do not fit a hash grid of {grid.width} features and one hidden layer; "
            "override the sizes: grid=HashGridConfig(...), hidden=..., hidden_layers=..."
        )
    return hidden


def read_hyper(state: State, overrides: dict[str, Any]) -> HyperNGP:
    """The Hyper-iNGP of these keys (without `geometry.`)."""
    config = configure(HyperNGPConfig, hypernet_sizes(state), overrides)
    if "hidden" not in overrides:
        config = config.model_copy(update={"hidden": generated_hidden(state, config.grid, networks=2, outputs=4)})
    with torch.device("meta"):
        generator = HyperNGP(config)
    return fill(generator, state, GRID, {BBOX})


def write_hyper(generator: HyperNGP) -> State:
    """The weights under official names."""
    return written(generator, GRID)


def read_prompt(state: State, overrides: dict[str, Any]) -> PromptNGP:
    """The prompt-specific iNGP of these keys (without `geometry.`)."""
    config = configure(PromptNGPConfig, mlp_sizes(state, "density_network"), overrides)
    with torch.device("meta"):
        generator = PromptNGP(config)
    return fill(generator, state, PROMPT_RENAMES, {BBOX})


def write_prompt(generator: PromptNGP) -> State:
    """The weights under official names."""
    return written(generator, PROMPT_RENAMES)
