"""Training cameras: V views around one object (MVDream), or single views spread over the batch (Stable Diffusion)."""

import math
from dataclasses import dataclass
from typing import Annotated, Literal

import torch
from jaxtyping import Float, Int
from pydantic import Field
from torch import Tensor

from scaledreamer.config import Config
from scaledreamer.model.cameras import Camera, orbit

Range = tuple[float, float]
# How elevations spread: evenly in the angle, or, for half of the batches, evenly on the sphere (official for Stable
# Diffusion), or evenly in sin(e) between lo/90 and hi/90 (official for MVDream: a slip, kept for parity).
ElevationLaw = Literal["angle", "half-sphere", "half-percent"]


class ViewsConfig(Config):
    """Where training looks from; angles in degrees, distances in object units."""

    views: Annotated[int, Field(ge=1)] = 4
    elevation_deg: Range = (0.0, 30.0)
    distance: Range = (3.0, 3.0)
    fovy_deg: Range = (40.0, 40.0)
    relative_distance: bool = False  # distance is multiplied by 1 / tan(fovy / 2) (MVDream)
    elevation_law: ElevationLaw = "angle"


@dataclass(frozen=True)
class Draws:
    """Uniform numbers in [0, 1), one an object, and whether the batch takes the second elevation law."""

    elevation: Float[Tensor, " B"]
    azimuth: Float[Tensor, " B"]
    fovy: Float[Tensor, " B"]
    distance: Float[Tensor, " B"]
    second_law: bool = False


def sample_views(config: ViewsConfig, objects: int, rng: torch.Generator) -> Camera:
    """Random cameras of objects x views, views contiguous."""
    second = config.elevation_law != "angle" and bool(torch.rand((), generator=rng) < 0.5)
    elevation, azimuth, fovy, distance = (torch.rand(objects, generator=rng) for _ in range(4))
    return place(config, Draws(elevation, azimuth, fovy, distance, second))


def place(config: ViewsConfig, draws: Draws) -> Camera:
    """The cameras for given draws: one elevation, distance and fovy an object; azimuths evenly around it, or, with one
    view, evenly over the objects of the batch.
    """
    objects, views = len(draws.elevation), config.views
    low, high = config.elevation_deg
    if not draws.second_law:
        elevation = torch.deg2rad(between(config.elevation_deg, draws.elevation))
    elif config.elevation_law == "half-percent":
        elevation = torch.asin(between((low / 90, high / 90), draws.elevation))
    else:
        ends = (math.sin(math.radians(low)), math.sin(math.radians(high)))
        elevation = torch.asin(between(ends, draws.elevation))
    fovy = torch.deg2rad(between(config.fovy_deg, draws.fovy))
    distance = between(config.distance, draws.distance)
    if config.relative_distance:
        distance = distance / torch.tan(fovy / 2)
    if views == 1:
        turn = (draws.azimuth + torch.arange(objects)) / objects
    else:
        turn = ((draws.azimuth[:, None] + torch.arange(views)) / views).flatten()
    elevation, distance, fovy = (each.repeat_interleave(views) for each in (elevation, distance, fovy))
    return orbit(elevation, turn * (2 * math.pi) - math.pi, distance, fovy)


def between(ends: Range, u: Float[Tensor, " B"]) -> Float[Tensor, " B"]:
    """Linear from one end to the other."""
    return ends[0] + (ends[1] - ends[0]) * u


SIDE, FRONT, BACK, OVERHEAD = range(4)
MARGIN = 1e-3  # degrees; a camera on a threshold is not beyond it, whatever its position has lost in float32


class SidesConfig(Config):
    """Where the front, the back and the view from above begin, strictly."""

    front_deg: float = 30.0
    back_deg: float = 30.0
    overhead_deg: float = 60.0


OFFICIAL_SIDES = SidesConfig()


def azimuth_deg(camera: Camera) -> Float[Tensor, " B"]:
    """Degrees in [-180, 180], 0 in front."""
    x, y, _ = camera.position.unbind(-1)
    return torch.rad2deg(torch.atan2(y, x))


def direction_of(camera: Camera, sides: SidesConfig = OFFICIAL_SIDES) -> Int[Tensor, " B"]:
    """Which view-dependent text a camera asks for: side, front, back or overhead, the later before the earlier."""
    x, y, z = camera.position.unbind(-1)
    around = azimuth_deg(camera).abs()
    elevation = torch.rad2deg(torch.atan2(z, torch.hypot(x, y)))
    direction = torch.full_like(around, SIDE, dtype=torch.long)
    direction[around < sides.front_deg - MARGIN] = FRONT
    direction[around > 180 - sides.back_deg + MARGIN] = BACK
    direction[elevation > sides.overhead_deg + MARGIN] = OVERHEAD
    return direction
