"""Prompts that name the side a camera sees, and Perp-Neg between them: what a single-view prior needs to be 3D."""

import torch
from jaxtyping import Float
from torch import Tensor

from scaledreamer.model.cameras import Camera
from scaledreamer.training.distillation.base import Negative
from scaledreamer.training.priors.base import Condition, Prior
from scaledreamer.training.views import (
    BACK,
    FRONT,
    MARGIN,
    OFFICIAL_SIDES,
    OVERHEAD,
    SIDE,
    SidesConfig,
    azimuth_deg,
    direction_of,
)

SUFFIXES = ("side view", "front view", "back view", "overhead view")  # in the order of the directions


def from_sides(prompt: str) -> list[str]:
    """The prompt seen from the side, the front, the back and above."""
    return [f"{prompt}, {suffix}" for suffix in SUFFIXES]


def view_texts(prior: Prior, prompts: list[str]) -> Condition:
    """Four rows a prompt: seen from the side, the front, the back and above (DreamFusion, arXiv:2209.14988, 3.2)."""
    return prior.embed([text for prompt in prompts for text in from_sides(prompt)])


def view_dependent(texts: Condition, camera: Camera, sides: SidesConfig = OFFICIAL_SIDES) -> Condition:
    """A row a camera, from `view_texts` of the prompts; cameras are prompts x views, views contiguous."""
    return pick(texts, direction_of(camera, sides))


def perp_neg(
    texts: Condition, uncond: Condition, camera: Camera, strength: float, sides: SidesConfig = OFFICIAL_SIDES
) -> tuple[Condition, list[Negative]]:
    """A text a camera between the two nearest sides, and two negatives that push away from the wrong ones.

    Perp-Neg (arXiv:2304.04968) with threestudio's weights: towards the front (r = 1 - |azimuth| / 90 deg, up to 90) the
    text is r front + (1 - r) side, the negatives are front and side; behind (r = 2 - |azimuth| / 90 deg) it is r side +
    (1 - r) back, the negatives are side and front. From above it is the overhead text alone. `strength` is negative to
    push away: the weights are -strength times those of `weights`. `uncond` is one row, or a row a camera.
    """
    direction = direction_of(camera, sides)
    angle = azimuth_deg(camera).abs()
    towards = angle < 90 - MARGIN
    above = direction == OVERHEAD
    r = torch.where(towards, 1 - angle / 90, 2 - angle / 90)

    def between(ahead: int, behind: int) -> Tensor:
        return torch.where(towards, torch.full_like(direction, ahead), torch.full_like(direction, behind))

    near, far = pick(texts, between(FRONT, SIDE)), pick(texts, between(SIDE, BACK))
    positive = where(above, pick(texts, direction), mix(near, far, r))
    nothing = uncond.repeat(len(camera) // len(uncond))
    negatives = []
    for text, weight in zip((between(FRONT, SIDE), between(SIDE, FRONT)), weights(r, towards), strict=True):
        raw = torch.where(above, torch.zeros_like(weight), weight)
        negatives.append(Negative(where(above, nothing, pick(texts, text)), -strength * raw))
    return positive, negatives


def weights(r: Float[Tensor, " B"], towards: Tensor) -> tuple[Float[Tensor, " B"], Float[Tensor, " B"]]:
    """Of the two negatives, from the share r of the nearer side: each a falling -(A exp(-b r) + c)."""

    def fall(a: float, b: float, c: float, at: Tensor) -> Tensor:
        return -(a * torch.exp(-b * at) + c)

    first = torch.where(towards, fall(4, 0.5, -2.426, r), fall(1, 0.5, -0.606, r))
    second = torch.where(towards, fall(4, 0.5, -2.426, 1 - r), fall(1, 0.5, 0.967, r))
    return first, second


def pick(texts: Condition, direction: Tensor) -> Condition:
    """The row of each camera's own prompt in its direction."""
    prompts = len(texts) // len(SUFFIXES)
    if len(direction) % prompts:
        raise ValueError(f"{len(direction)} cameras do not share out over {prompts} prompts")
    prompt = torch.arange(prompts, device=direction.device).repeat_interleave(len(direction) // prompts)
    return texts[prompt * len(SUFFIXES) + direction]


def mix(a: Condition, b: Condition, share: Float[Tensor, " B"]) -> Condition:
    """share a + (1 - share) b, row by row; a token counts where it counts in either."""
    tokens = b.tokens + share.to(b.tokens)[:, None, None] * (a.tokens - b.tokens)
    pooled, mask = None, None
    if a.pooled is not None and b.pooled is not None:
        pooled = b.pooled + share.to(b.pooled)[:, None] * (a.pooled - b.pooled)
    if a.mask is not None and b.mask is not None:
        mask = a.mask | b.mask
    return Condition(tokens, pooled, mask)


def where(chosen: Tensor, a: Condition, b: Condition) -> Condition:
    """The row of a where chosen, else that of b."""
    rows = torch.arange(len(chosen), device=chosen.device)
    return a.concatenate(b)[torch.where(chosen, rows, rows + len(chosen))]
