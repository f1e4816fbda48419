"""Official checkpoints: their keys and shapes tell the architecture, and their weights load into our generators."""

from typing import Any

import torch

from scaledreamer.errors import ModelFileError, ScaleDreamerError
from scaledreamer.model.generators import Conv3D, Generator, HyperNGP, PromptNGP, TriplaneTransformer
from scaledreamer.model.official import conv3d, hash_grids, triplane
from scaledreamer.model.official.backgrounds import background_from_state_dict, write_background
from scaledreamer.model.official.keys import BBOX, State, parts, refuse_kind
from scaledreamer.model.rendering import Background
from scaledreamer.model.rendering.density import official_sharpness

INVERSE_STD = 0.340119  # the frozen parameter of all official renderers but the prompt-specific one's
VARIANCE = "variance._inv_std"
READERS = {
    triplane.MARK: triplane.read,
    conv3d.MARK: conv3d.read,
    hash_grids.HYPER_MARK: hash_grids.read_hyper,
    hash_grids.PROMPT_MARK: hash_grids.read_prompt,
}  # by a key that no other kind has


def from_state_dict(state_dict: State, **overrides: Any) -> Generator:
    """A generator from official keys (with or without the `geometry.` prefix): the four kinds, in any size.

    Sizes are read from shapes, the radius from the box where there is one. What these cannot tell has the official
    value unless overridden: heads, radius, sphere_bias, color, and the sizes of a hash grid. Background and renderer
    are left to the functions beside this one.
    Raises ModelFileError for keys that are none of these, ConfigError for an override that does not fit.
    """
    geometry, _, _ = parts(state_dict)
    mark = next((mark for mark in READERS if mark in geometry), None)
    if mark is None:
        raise refuse_kind("generator", state_dict, f"none of geometry.{{{', '.join(READERS)}}}")
    try:
        generator: Generator = READERS[mark](geometry, overrides)
    except ScaleDreamerError:
        raise
    except (LookupError, ValueError) as error:  # a size is read from a key that is missing, or has another form
        raise ModelFileError(
            f"geometry.{mark} is there, but not all that belongs to it ({error})"
            "; give a released ScaleDreamer checkpoint"
        ) from error
    return generator


def to_state_dict(generator: Generator, background: Background | None = None) -> State:
    """The official keys of a generator and a background, as the official code loads them (`strict=False`).

    The occupancy grid of the prompt-specific renderer, which rebuilds itself, is left out.
    """
    match generator:
        case TriplaneTransformer():
            geometry, renderer = triplane.write(generator), {VARIANCE: torch.tensor(INVERSE_STD)}
        case Conv3D():
            geometry, renderer = conv3d.write(generator), {VARIANCE: torch.tensor(INVERSE_STD)}
        case HyperNGP():
            geometry, renderer = hash_grids.write_hyper(generator), {VARIANCE: torch.tensor(INVERSE_STD)}
        case PromptNGP():
            geometry, renderer = hash_grids.write_prompt(generator), {}
        case _:
            raise ModelFileError(f"a {type(generator).__name__} has no official form")
    corner = torch.full((3,), generator.config.radius)
    box = torch.stack([-corner, corner])
    behind = {} if background is None else write_background(background)
    sections = {"geometry": {BBOX: box, **geometry}, "background": behind, "renderer": {BBOX: box.clone(), **renderer}}
    return {f"{section}.{key}": value for section, keys in sections.items() for key, value in keys.items()}


def sharpness_from_state_dict(state_dict: State) -> float:
    """VolSDF's sharpness k (30 in all released files), for VolSDFConfig; the prompt-specific renderer has none."""
    _, _, renderer = parts(state_dict)
    if VARIANCE not in renderer:
        raise ModelFileError(
            f"no renderer.{VARIANCE} among {sorted(state_dict)[:3]}...: this renderer has no sharpness"
        )
    return official_sharpness(renderer[VARIANCE])


__all__ = ["background_from_state_dict", "from_state_dict", "sharpness_from_state_dict", "to_state_dict"]
