"""From opacity along a ray to the weight of every sample."""

from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

Compositing = Literal["linear", "exponential"]


def opacity_of(
    density: Float[Tensor, "*R S"], length: Float[Tensor, "*R S"], kind: Compositing
) -> Float[Tensor, "*R S"]:
    """Opacity of each interval.

    `linear` is the official density x length, which may exceed 1; `exponential` is 1 - exp(-density x length)
    (NeRF, arXiv:2003.08934, Eq. 3).
    """
    match kind:
        case "linear":
            return density * length.abs()
        case "exponential":
            return -torch.expm1(-density * length)


def weights_of(opacity: Float[Tensor, "*R S"]) -> Float[Tensor, "*R S"]:
    """w_i = a_i prod_{j<i} (1 - a_j); nothing is clamped."""
    transmittance = torch.cumprod(1 - opacity, dim=-1)
    before = torch.cat([torch.ones_like(opacity[..., :1]), transmittance[..., :-1]], dim=-1)
    return opacity * before


def unbiased_opacity(sdf: Float[Tensor, "*R E"], sharpness: float) -> Float[Tensor, "*R S"]:
    """Opacity of the interval between neighbouring samples, max((F(s_i) - F(s_i+1)) / F(s_i), 0), F = sigmoid(k s).

    Along a ray the factors telescope, so a silhouette is half opaque exactly on the surface however coarse the samples
    are (NeuS, arXiv:2106.10689, Eq. 13).
    """
    inside = torch.nn.functional.logsigmoid(sdf * sharpness)
    return -torch.expm1((inside[..., 1:] - inside[..., :-1]).clamp(max=0))
