"""Fields to pictures."""

from typing import Annotated, assert_never

import torch
from pydantic import Field as Limits

from scaledreamer.model.cameras import Camera
from scaledreamer.model.fields.base import Field
from scaledreamer.model.rendering.backgrounds import (
    Background,
    HarmonicBackground,
    HarmonicBackgroundConfig,
    PlainBackground,
    PlainBackgroundConfig,
)
from scaledreamer.model.rendering.grid_backgrounds import (
    HashGridBackground,
    HashGridBackgroundConfig,
    HyperBackground,
    HyperBackgroundConfig,
)
from scaledreamer.model.rendering.lattice import LatticeConfig, render_lattice
from scaledreamer.model.rendering.nerf import NeRFConfig, render_nerf
from scaledreamer.model.rendering.result import Rendering, Samples
from scaledreamer.model.rendering.volsdf import VolSDFConfig, render_volsdf

RenderConfig = Annotated[VolSDFConfig | LatticeConfig | NeRFConfig, Limits(discriminator="kind")]
AnyBackgroundConfig = (
    PlainBackgroundConfig | HarmonicBackgroundConfig | HashGridBackgroundConfig | HyperBackgroundConfig
)
BackgroundConfig = Annotated[AnyBackgroundConfig, Limits(discriminator="kind")]


def build_background(config: AnyBackgroundConfig) -> Background:
    """The background a config names."""
    match config:
        case PlainBackgroundConfig(color=color, random_color=share):
            return PlainBackground(color, share)
        case HarmonicBackgroundConfig(color=activation, random_color=share):
            return HarmonicBackground(activation, share, (config.hidden,) * config.hidden_layers)
        case HashGridBackgroundConfig():
            return HashGridBackground(config)
        case HyperBackgroundConfig():
            return HyperBackground(config)
        case never:
            assert_never(never)


def render(
    field: Field,
    camera: Camera,
    background: Background | None = None,
    size: int | tuple[int, int] = 64,
    config: VolSDFConfig | LatticeConfig | NeRFConfig | None = None,
    rng: torch.Generator | None = None,
) -> Rendering:
    """Pictures [B V, H, W, .] of B scenes from B x V cameras, scenes' views contiguous.

    `config` defaults to the official renderer; `background` to plain mid-grey (one that is generated from text comes as
    `background.for_text(text)`). With `rng` samples are jittered
    (training), without it the result is deterministic. Raises ValueError where cameras and scenes do not match.
    """
    if len(camera) % len(field):
        raise ValueError(f"{len(camera)} cameras do not share out over {len(field)} scenes; give each the same number")
    background = background or PlainBackground()
    pixels = (size, size) if isinstance(size, int) else size
    match config or VolSDFConfig():
        case VolSDFConfig() as volsdf:
            return render_volsdf(field, camera, background, pixels, volsdf, rng)
        case LatticeConfig() as lattice:
            return render_lattice(field, camera, background, pixels, lattice, rng)
        case NeRFConfig() as nerf:
            return render_nerf(field, camera, background, pixels, nerf, rng)
        case never:
            assert_never(never)


__all__ = [
    "AnyBackgroundConfig",
    "Background",
    "BackgroundConfig",
    "HarmonicBackground",
    "HarmonicBackgroundConfig",
    "HashGridBackground",
    "HashGridBackgroundConfig",
    "HyperBackground",
    "HyperBackgroundConfig",
    "LatticeConfig",
    "NeRFConfig",
    "PlainBackground",
    "PlainBackgroundConfig",
    "RenderConfig",
    "Rendering",
    "Samples",
    "VolSDFConfig",
    "build_background",
    "render",
]
