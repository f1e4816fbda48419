"""What a material does to a paint: wood has boards, metal and gloss have highlights, stone a grain.

All of it depends on the point and on how the fixed light meets it, so it is seen alike from every side: a field can
hold it.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from scaledreamer.model.rendering.shading import AMBIENT

WOOD, STEEL, ROCK = (0.45, 0.28, 0.14), (0.62, 0.64, 0.68), (0.55, 0.54, 0.50)
BOARD = 0.17  # height of a board, object units
GAP = 0.2  # of a board, that is dark


def grain(points: Float[Tensor, "*B 3"]) -> Float[Tensor, "*B"]:
    """Speckles between 0 and 1, some 0.25 object units apart."""
    x, y, z = points.unbind(-1)
    waves = [torch.sin(23 * a + 2 * torch.sin(17 * b + 1)) for a, b in ((x, y), (y, z), (z, x))]
    return 0.5 + 0.5 * waves[0] * waves[1] + 0.25 * waves[2] * (1 - (waves[0] * waves[1]).abs())


def appearance(
    material: str,
    color: Float[Tensor, "*B 3"],
    brightness: Float[Tensor, "*B"],
    grain: Float[Tensor, "*B"],
    height: Float[Tensor, "*B"],
) -> Float[Tensor, "*B 3"]:
    """The sRGB colour that is seen of a paint; "any" is dull.

    It is nowhere brighter than a white paint. `brightness` is what the light leaves of a dull one, AMBIENT to 1;
    `grain` and `height` (z, object units) belong to the point.
    """
    lit, speckle = brightness[..., None], grain.clamp(0, 1)[..., None]
    match material:
        case "any":
            return color * lit
        case "wooden":
            place = height[..., None] / BOARD
            gap = ((place - place.floor()) < GAP).to(color.dtype)
            return towards(color, WOOD, 0.3) * lit * (1 - 0.4 * gap) * (1.05 - 0.2 * speckle)
        case "metal":
            contrast = ((lit - AMBIENT) / (1 - AMBIENT)).clamp(0, 1) ** 1.5
            shine = 0.5 * ((lit - 0.85) / 0.15).clamp(0, 1) ** 2
            return torch.minimum(towards(color, STEEL, 0.35) * (0.15 + 0.75 * contrast) + shine, lit)
        case "stone":
            return towards(color, ROCK, 0.4) * lit * (0.65 + 0.5 * speckle).clamp(max=1)
        case "glossy":
            shine = 0.7 * ((lit - 0.86) / 0.14).clamp(0, 1) ** 2
            return torch.minimum(0.8 * color * lit + shine, lit)
        case _:
            raise ValueError(f"unknown material {material!r}; choose any, wooden, metal, stone or glossy")


def towards(color: Float[Tensor, "*B 3"], paint: tuple[float, float, float], share: float) -> Float[Tensor, "*B 3"]:
    """Mixed with the material's own colour."""
    return torch.lerp(color, torch.tensor(paint).to(color), share)
