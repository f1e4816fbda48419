"""VolSDF density: how opaque space is at a signed distance."""

import torch
from jaxtyping import Float
from torch import Tensor

MAX_SHARPNESS = 80.0


def official_sharpness(inverse_std: float | Tensor) -> float:
    """Sharpness k = exp(10 inverse_std), clamped to at most 80, from the official frozen parameter (0.340119 -> 30)."""
    return float(
        torch.as_tensor(inverse_std, dtype=torch.float32).mul(10).exp().clamp(1e-6, 1e6).clamp(0, MAX_SHARPNESS)
    )


def volsdf_density(sdf: Float[Tensor, "*B"], sharpness: float) -> Float[Tensor, "*B"]:
    """k (1/2 - 1/2 sign(s) (1 - exp(-k |s|))) (VolSDF, arXiv:2106.12052, Eq. 2-3, with alpha = 1/beta = k).

    k deep inside, k/2 on the surface, 0 far outside; per object unit.
    """
    return sharpness * (0.5 + 0.5 * sdf.sign() * torch.expm1(-sdf.abs() * sharpness))
