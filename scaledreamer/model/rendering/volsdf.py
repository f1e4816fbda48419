"""The official renderer: proposal and importance samples on every ray, VolSDF density, linear compositing."""

from dataclasses import fields as dataclass_fields
from functools import partial
from typing import Annotated, Any, Literal, Self

import torch
from einops import rearrange
from jaxtyping import Float, Int64
from pydantic import Field as Limits
from pydantic import NonNegativeFloat, NonNegativeInt, PositiveFloat, model_validator
from torch import Tensor
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from scaledreamer.config import Config
from scaledreamer.model.cameras import Camera, rays
from scaledreamer.model.fields.base import FINITE_DIFFERENCE, Field, sdf_gradient
from scaledreamer.model.rendering.backgrounds import Background
from scaledreamer.model.rendering.compositing import Compositing, opacity_of, weights_of
from scaledreamer.model.rendering.density import MAX_SHARPNESS, volsdf_density
from scaledreamer.model.rendering.result import Rendering, Samples
from scaledreamer.model.rendering.sampling import resample


class VolSDFConfig(Config):
    """The defaults are the official values; `exponential` compositing is the standard one."""

    kind: Literal["volsdf"] = "volsdf"
    near: NonNegativeFloat = 0.1
    far: PositiveFloat = 4.0
    proposals: Annotated[int, Limits(ge=2)] = 128
    fine: Annotated[int, Limits(ge=2)] = 64
    sharpness: PositiveFloat = 30.0
    compositing: Compositing = "linear"
    jitter: bool = True  # in training, one uniform draw a ray for each resampling
    slopes: Annotated[float, Limits(gt=0, le=1)] = 1.0  # share of the samples whose slope is asked in training
    chunk: NonNegativeInt = 4096  # rays a scene at once where no gradient is asked for; 0: all
    recompute: NonNegativeInt = 0  # rays a scene at once, computed again in the backward pass to save memory; 0: kept

    @model_validator(mode="after")
    def _near_before_far(self) -> Self:
        if self.near >= self.far:
            raise ValueError(f"near {self.near} is not before far {self.far}")
        return self


def render_volsdf(
    field: Field, camera: Camera, background: Background, size: tuple[int, int], config: VolSDFConfig,
    rng: torch.Generator | None,
) -> Rendering:  # fmt: skip
    """March every ray from near to far. Without `rng` nothing is jittered and every slope is asked.

    With fewer `slopes` the samples whose slope is asked are drawn anew, each as likely as any other, so that a mean
    over them (the eikonal term) keeps its expectation; there is no picture of normals then.
    """
    origins, directions = rays(camera, *size)
    scenes = len(field)
    o, d = (rearrange(r, "(B V) H W C -> B (V H W) C", B=scenes) for r in (origins, directions))
    jitters = [rearrange(j, "(B R) 1 -> B R 1", B=scenes) for j in _jitters(scenes * o.shape[1], config, rng, o)]
    step = config.recompute if torch.is_grad_enabled() else config.chunk
    parts = []
    for a, b, first, second in zip(*(x.split(step or x.shape[1], 1) for x in (o, d, *jitters)), strict=True):
        march = partial(_march, field, a, b, first, second, _asked(a.shape[1], config, rng, o), config)
        if torch.is_grad_enabled() and config.recompute:
            parts.append(checkpoint(march, use_reentrant=False, preserve_rng_state=False))
        else:
            parts.append(march())
    foreground, opacity, depth, normal, z_variance = (torch.cat([p[0][i] for p in parts], 1) for i in range(5))
    samples = _join([p[1] for p in parts])
    behind = background(directions, rng)
    shape = {"B": scenes, "H": size[0], "W": size[1]}
    folded = (
        rearrange(x, "B (V H W) C -> (B V) H W C", **shape) for x in (foreground, opacity, depth, normal, z_variance)
    )
    foreground, opacity, depth, normal, z_variance = folded
    rgb = foreground + behind * (1 - opacity)
    return Rendering(rgb, foreground, behind, opacity, depth, normal, z_variance, samples)


def _march(
    field: Field, origins: Float[Tensor, "B R 3"], directions: Float[Tensor, "B R 3"],
    jitter_proposal: Float[Tensor, "B R 1"], jitter_fine: Float[Tensor, "B R 1"], asked: Int64[Tensor, " M"] | None,
    config: VolSDFConfig,
) -> tuple[tuple[Tensor, Tensor, Tensor, Tensor, Tensor], Samples]:  # fmt: skip
    count = origins.shape[1]
    edges = sample_edges(field, origins, directions, config, jitter_proposal.flatten(0, 1), jitter_fine.flatten(0, 1))
    distance, length = (edges[..., 1:] + edges[..., :-1]) / 2, edges[..., 1:] - edges[..., :-1]
    points = along(origins, directions, distance)
    sample = field.query(points)
    if asked is None:
        gradient = sdf_gradient(field, points, sample.sdf, FINITE_DIFFERENCE)
    else:
        gradient = sdf_gradient(field, points[:, asked], sample.sdf[:, asked], FINITE_DIFFERENCE)
    unit = F.normalize(gradient, dim=-1)
    density = volsdf_density(rearrange(sample.sdf, "B (R S) 1 -> B R S", R=count), min(config.sharpness, MAX_SHARPNESS))
    weights = weights_of(opacity_of(density, length, config.compositing))

    def collect(values: Float[Tensor, "B N C"]) -> Float[Tensor, "B R C"]:
        return torch.einsum("brs,brsc->brc", weights, rearrange(values, "B (R S) C -> B R S C", R=count))

    opacity = weights.sum(-1, keepdim=True)
    depth = (weights * distance).sum(-1, keepdim=True)
    z_variance = (weights * (distance - depth).square()).sum(-1, keepdim=True)
    facing = collect(unit) if asked is None else torch.zeros_like(directions)
    normal = opacity * (F.normalize(facing, dim=-1) + 1) / 2
    samples = Samples(sample.sdf, gradient, unit, weights, edges, directions)
    return (collect(sample.rgb), opacity, depth, normal.detach(), z_variance), samples


def along(
    origins: Float[Tensor, "B R 3"], directions: Float[Tensor, "B R 3"], distance: Float[Tensor, "B R S"]
) -> Float[Tensor, "B N 3"]:
    """The points at the given distances, rays in order."""
    return (origins[:, :, None] + distance[..., None] * directions[:, :, None]).flatten(1, 2)


def _jitters(
    count: int, config: VolSDFConfig, rng: torch.Generator | None, like: Tensor
) -> tuple[Float[Tensor, "R 1"], Float[Tensor, "R 1"]]:
    """The place within its share, one a ray for the proposals and one for the fine samples."""
    if rng is None or not config.jitter:
        middle = torch.full((count, 1), 0.5, device=like.device, dtype=like.dtype)
        return middle, middle
    first, second = (1 - torch.rand(count, 1, generator=rng) for _ in range(2))  # (0, 1]
    return first.to(like), second.to(like)


def _asked(count: int, config: VolSDFConfig, rng: torch.Generator | None, like: Tensor) -> Int64[Tensor, " M"] | None:
    """Which of so many rays' samples are asked for their slope, drawn with replacement; None: all."""
    if rng is None or config.slopes == 1:
        return None
    samples = count * (config.proposals + config.fine + 1)
    return torch.randint(samples, (max(1, round(config.slopes * samples)),), generator=rng).to(like.device)


@torch.no_grad()
def sample_edges(
    field: Field,
    origins: Float[Tensor, "B R 3"],
    directions: Float[Tensor, "B R 3"],
    config: VolSDFConfig,
    jitter_proposal: Float[Tensor, "N 1"],
    jitter_fine: Float[Tensor, "N 1"],
) -> Float[Tensor, "B R E"]:
    """Distances that bound the intervals of every ray: evenly spread proposals, then samples where they absorb, sorted.

    The cdf ends at 1, so what the proposals leave unabsorbed sends fine samples into the last interval.
    """
    scenes, count, _ = origins.shape
    unit = torch.tensor([[0.0, 1.0]], device=origins.device, dtype=origins.dtype).expand(scenes * count, 2)
    proposals = resample(unit, unit, config.proposals, jitter_proposal)

    def to_distance(s: Tensor) -> Tensor:
        return config.far * s + config.near * (1 - s)

    edges = to_distance(proposals).reshape(scenes, count, -1)
    middle, length = (edges[..., 1:] + edges[..., :-1]) / 2, edges[..., 1:] - edges[..., :-1]
    sdf = field.sdf(along(origins, directions, middle)).reshape(middle.shape)
    absorbed = torch.cumsum(volsdf_density(sdf, min(config.sharpness, MAX_SHARPNESS)) * length, dim=-1)
    reaching = torch.cat([torch.ones_like(absorbed[..., :1]), torch.exp(-absorbed[..., :-1])], dim=-1)
    cdf = torch.cat([1 - reaching, torch.ones_like(reaching[..., :1])], dim=-1)
    fine = resample(proposals, cdf.flatten(0, 1), config.fine, jitter_fine)
    both = torch.cat([edges, to_distance(fine).reshape(scenes, count, -1)], dim=-1)
    return both.sort(dim=-1).values


def _join(parts: list[Samples]) -> Samples:
    columns: dict[str, Any] = {}
    for column in dataclass_fields(Samples):
        values = [getattr(part, column.name) for part in parts]
        columns[column.name] = None if values[0] is None else torch.cat(values, 1)
    return Samples(**columns)
