"""Training cameras: V views around one object, by DESIGN's props ranges or by the official samplers."""

import math
from typing import Annotated

import torch
from pydantic import Field

from scaledreamer.config import Config
from scaledreamer.model.cameras import Camera, orbit

Range = tuple[float, float]


class ViewsConfig(Config):
    """Where training looks from; angles in degrees, distances in object units."""

    views: Annotated[int, Field(ge=1)] = 4
    elevation_deg: Range = (0.0, 30.0)
    distance: Range = (3.0, 3.0)
    fovy_deg: Range = (40.0, 40.0)
    relative_distance: bool = False  # distance is multiplied by 1/tan(fovy/2) (MVDream)


def uniform(low: float, high: float, count: int, rng: torch.Generator) -> torch.Tensor:
    """`count` uniform numbers in [low, high)."""
    return low + (high - low) * torch.rand(count, generator=rng)


def sample_views(config: ViewsConfig, objects: int, rng: torch.Generator) -> Camera:
    """Cameras of objects x views, views contiguous: one elevation, distance and fovy an object, azimuths evenly
    spread from a random start (MVDream, arXiv:2308.16512)."""
    elevation = torch.deg2rad(uniform(*config.elevation_deg, objects, rng))
    start = torch.rand(objects, generator=rng)
    fovy = torch.deg2rad(uniform(*config.fovy_deg, objects, rng))
    distance = uniform(*config.distance, objects, rng)
    if config.relative_distance:
        distance = distance / torch.tan(fovy / 2)
    steps = torch.arange(config.views) / config.views
    azimuth = (start[:, None] / config.views + steps) * (2 * math.pi) - math.pi
    each = (value.repeat_interleave(config.views) for value in (elevation, distance, fovy))
    elevation, distance, fovy = each
    return orbit(elevation, azimuth.flatten(), distance, fovy)
