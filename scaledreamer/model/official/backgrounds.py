"""The official backgrounds: spherical harmonics (Triplane, 3DConv), and hash grids (Hyper-iNGP, prompt-specific)."""

from typing import Any

import torch

from scaledreamer.model.official import triplane
from scaledreamer.model.official.hash_grids import HYPER_MARK, generated_hidden, hypernet_sizes
from scaledreamer.model.official.keys import (
    GRID,
    Renames,
    State,
    configure,
    fill,
    mlp_sizes,
    network,
    parts,
    refuse_kind,
    written,
)
from scaledreamer.model.rendering import (
    Background,
    HarmonicBackground,
    HarmonicBackgroundConfig,
    HashGridBackground,
    HashGridBackgroundConfig,
    HyperBackground,
    HyperBackgroundConfig,
    PlainBackground,
    build_background,
)

MARK = "network.layers.0.weight"
HARMONICS = 9
ENCODING = GRID[0][1]  # the harmonics have no parameters, but an empty key
RENAMES: Renames = (*GRID, *network("network", "network"))


def background_from_state_dict(state_dict: State, **overrides: Any) -> Background:
    """The background in an official checkpoint (keys `background.*`), ready to use.

    The colour activation and the share of random colours are those of the geometry that lies beside it, and a hash grid
    has the official sizes, unless overridden. Raises ModelFileError where there is none that we know.
    """
    geometry, state, _ = parts(state_dict)
    if HYPER_MARK in state:
        return _hyper(state, overrides)
    if MARK not in state:
        raise refuse_kind("background", state_dict, f"neither background.{HYPER_MARK} nor background.{MARK}")
    if state[MARK].shape[1] == HARMONICS:
        beside = {} if triplane.MARK in geometry else {"color": "sigmoid", "random_color": 0.5}
        config = configure(HarmonicBackgroundConfig, {**mlp_sizes(state, "network"), **beside}, overrides)
        with torch.device("meta"):
            background = build_background(config)
        return fill(background, state, RENAMES, {ENCODING})
    return _hash_grid(state, overrides)


def _hyper(state: State, overrides: dict[str, Any]) -> HyperBackground:
    config = configure(HyperBackgroundConfig, hypernet_sizes(state), overrides)
    if "hidden" not in overrides:
        config = config.model_copy(
            update={"hidden": generated_hidden(state, config.grid, config.hidden_layers, networks=1, outputs=3)}
        )
    with torch.device("meta"):
        background = HyperBackground(config)
    return fill(background, state, GRID)


def _hash_grid(state: State, overrides: dict[str, Any]) -> HashGridBackground:
    config = configure(HashGridBackgroundConfig, mlp_sizes(state, "network"), overrides)
    with torch.device("meta"):
        background = HashGridBackground(config)
    return fill(background, state, RENAMES)


def write_background(background: Background) -> State:
    """The weights under official names, without `background.`; a plain colour has none."""
    match background:
        case PlainBackground():
            return {}
        case HarmonicBackground():
            empty = next(background.parameters()).new_zeros(0)
            return written(background, RENAMES) | {ENCODING: empty}
        case HyperBackground() | HashGridBackground():
            return written(background, RENAMES)
    raise TypeError(f"a {type(background).__name__} has no official form")
