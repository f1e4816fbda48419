"""The renderer of densities (NeRF, arXiv:2003.08934): even steps through the box, empty ones skipped."""

from typing import Literal

import torch
from einops import rearrange
from jaxtyping import Bool, Float
from pydantic import NonNegativeFloat, PositiveInt
from torch import Tensor
from torch.nn import functional as F

from scaledreamer.config import Config
from scaledreamer.model.cameras import Camera, rays
from scaledreamer.model.fields.base import Field
from scaledreamer.model.fields.density import DensityField, density_normal
from scaledreamer.model.rendering.backgrounds import Background
from scaledreamer.model.rendering.compositing import opacity_of, weights_of
from scaledreamer.model.rendering.result import Rendering, Samples

DIAGONAL = 1.732  # of the box, in its sides (official)


class NeRFConfig(Config):
    """The defaults are the official values for Stable Diffusion; for MVDream there are 256 samples."""

    kind: Literal["nerf"] = "nerf"
    samples: PositiveInt = 512  # along the diagonal of the box
    empty: NonNegativeFloat = 0.01  # intervals less opaque than this are skipped
    chunk: PositiveInt = 1 << 20  # points asked at once on the way to know what is empty


def render_nerf(
    field: Field, camera: Camera, background: Background, size: tuple[int, int], config: NeRFConfig,
    rng: torch.Generator | None,
) -> Rendering:  # fmt: skip
    """w_i = T_i (1 - exp(-density_i length)) (Eq. 3), with one random offset a ray in training.

    The official renderer skips what its occupancy grid knows to be empty; here the field itself is asked for every
    density first, without gradient, so nothing is skipped that the grid would have missed.
    Raises ValueError for a field without densities.
    """
    if not isinstance(field, DensityField):
        raise ValueError(f"a {type(field).__name__} stores no density; render it with volsdf or lattice")
    scenes, views = len(field), len(camera) // len(field)
    origins, directions = (rearrange(r, "(B V) H W C -> B (V H W) C", B=scenes) for r in rays(camera, *size))
    distance, length, inside = steps(origins, directions, field.bound, config, rng)
    points = origins[:, :, None] + distance[..., None] * directions[:, :, None]
    kept = inside & (
        opacity_of(known_density(field, points, inside, config.chunk), length, "exponential") > config.empty
    )
    rgb, density, sdf, normal = ask(field, points, kept)
    weights = weights_of(opacity_of(density, length, "exponential"))

    def collect(values: Float[Tensor, "B R S C"]) -> Float[Tensor, "N H W C"]:
        ray = torch.einsum("brs,brsc->brc", weights, values)
        return rearrange(ray, "B (V H W) C -> (B V) H W C", V=views, H=size[0], W=size[1])

    opacity, depth = collect(torch.ones_like(distance)[..., None]), collect(distance[..., None])
    spread = collect((distance - mean_of(weights, distance)).square()[..., None]) / opacity.clamp(min=1e-6)
    facing = opacity * (F.normalize(collect(normal), dim=-1) + 1) / 2
    foreground, behind = collect(rgb), background(rays(camera, *size)[1], rng)
    edges = torch.cat([distance - length / 2, (distance + length / 2)[..., -1:]], -1)
    flat = rearrange(normal, "B R S C -> B (R S) C")
    samples = Samples(sdf.flatten(1)[..., None], torch.zeros_like(flat), flat, weights, edges, directions)
    return Rendering(
        foreground + behind * (1 - opacity), foreground, behind, opacity, depth, facing.detach(), spread, samples
    )


def steps(
    origins: Float[Tensor, "B R 3"], directions: Float[Tensor, "B R 3"], bound: float, config: NeRFConfig,
    rng: torch.Generator | None,
) -> tuple[Float[Tensor, "B R S"], Float[Tensor, "B R S"], Bool[Tensor, "B R S"]]:  # fmt: skip
    """Middles of even intervals from where each ray enters the box, their length, and which lie in the box."""
    length = DIAGONAL * 2 * bound / config.samples
    inverse = 1 / torch.where(directions.abs() < 1e-9, 1e-9, directions)
    one, other = (-bound - origins) * inverse, (bound - origins) * inverse
    enters = torch.minimum(one, other).amax(-1, keepdim=True).clamp(min=0)
    leaves = torch.maximum(one, other).amin(-1, keepdim=True)
    offset = 0.5 if rng is None else torch.rand(*origins.shape[:2], 1, generator=rng).to(origins)
    numbers = torch.arange(config.samples, device=origins.device, dtype=origins.dtype)
    distance = enters + (numbers + offset) * length
    return distance, torch.full_like(distance, length), distance < leaves


@torch.no_grad()
def known_density(
    field: DensityField, points: Float[Tensor, "B R S 3"], inside: Bool[Tensor, "B R S"], chunk: int
) -> Float[Tensor, "B R S"]:
    """The density at the points in the box, zero elsewhere."""
    density = points.new_zeros(points.shape[:-1])
    asked = points[inside]
    if len(asked):
        density[inside] = torch.cat([field[0].density(part[None])[0, :, 0] for part in asked.split(chunk)])
    return density


def ask(
    field: DensityField, points: Float[Tensor, "B R S 3"], kept: Bool[Tensor, "B R S"]
) -> tuple[Float[Tensor, "B R S 3"], Float[Tensor, "B R S"], Float[Tensor, "B R S"], Float[Tensor, "B R S 3"]]:
    """Colour, density, distance and normal at the kept points, with gradient; elsewhere zero, and the distance as far
    as the box is wide. All scenes of the field are one.
    """
    rgb, normal = torch.zeros_like(points), torch.zeros_like(points)
    density = points.new_zeros(points.shape[:-1])
    sdf = torch.full_like(density, 2 * field.bound)
    if not bool(kept.any()):
        return rgb, density, sdf, normal
    asked, one = points[kept][None], field[0]
    sample = one.query(asked)
    assert sample.density is not None
    facing = density_normal(one, asked, sample.density)
    place = kept.nonzero(as_tuple=True)
    return (
        rgb.index_put(place, sample.rgb[0]),
        density.index_put(place, sample.density[0, :, 0]),
        sdf.index_put(place, sample.sdf[0, :, 0]),
        normal.index_put(place, facing[0]),
    )


def mean_of(weights: Float[Tensor, "B R S"], distance: Float[Tensor, "B R S"]) -> Float[Tensor, "B R 1"]:
    """The weighted mean distance of a ray."""
    total = weights.sum(-1, keepdim=True)
    return (weights * distance).sum(-1, keepdim=True) / total.clamp(min=1e-6)
