"""Interval arithmetic through small networks: what their outputs can be when every input lies between two values."""

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

SILU_LOWEST, SILU_LEAST = -1.2784645, -0.2784645  # where x sigmoid(x) is least, and what it is there


def linear_bounds(
    low: Float[Tensor, "A C"], high: Float[Tensor, "A C"], layer: nn.Linear
) -> tuple[Float[Tensor, "A D"], Float[Tensor, "A D"]]:
    """Least and greatest output of a linear layer: |W| carries the half widths (Mirman et al., ICML 2018)."""
    middle, half = F.linear((low + high) / 2, layer.weight, layer.bias), F.linear((high - low) / 2, layer.weight.abs())
    return middle - half, middle + half


def silu_bounds(
    low: Float[Tensor, "A C"], high: Float[Tensor, "A C"]
) -> tuple[Float[Tensor, "A C"], Float[Tensor, "A C"]]:
    """Least and greatest x sigmoid(x), which falls until SILU_LOWEST and rises after it."""
    at_low, at_high = F.silu(low), F.silu(high)
    lowest = (low < SILU_LOWEST) & (high > SILU_LOWEST)
    return torch.where(lowest, SILU_LEAST, torch.minimum(at_low, at_high)), torch.maximum(at_low, at_high)


def extent(ends: Float[Tensor, "A 3 2"]) -> tuple[Float[Tensor, "A 3"], Float[Tensor, "A 3"]]:
    """Least and greatest |coordinate| along each side of a block."""
    straddles = (ends[..., 0] <= 0) & (ends[..., 1] >= 0)
    near, far = ends.abs().amin(-1), ends.abs().amax(-1)
    return torch.where(straddles, 0, near), far
