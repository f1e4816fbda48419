"""What rendering gives back."""

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor


@dataclass(frozen=True)
class Samples:
    """What was asked of the field on the way, for regularisers. For a lattice the samples are its nodes."""

    sdf: Float[Tensor, "B N 1"]
    sdf_gradient: Float[Tensor, "B M 3"]  # of all samples, or of those that were asked for it
    normal: Float[Tensor, "B M 3"]
    weights: Float[Tensor, "B R S"] | None = None  # of every sample of every ray
    edges: Float[Tensor, "B R E"] | None = None  # distances where the ray's intervals begin and end
    directions: Float[Tensor, "B R 3"] | None = None
    nodes: tuple[int, int, int] | None = None  # of a lattice, z fastest


@dataclass(frozen=True)
class Rendering:
    """Pictures of B x V cameras, scenes' views contiguous; [B V, H, W, channels]."""

    rgb: Float[Tensor, "B H W 3"]  # foreground + background (1 - opacity)
    foreground: Float[Tensor, "B H W 3"]  # premultiplied by opacity
    background: Float[Tensor, "B H W 3"]
    opacity: Float[Tensor, "B H W 1"]
    depth: Float[Tensor, "B H W 1"]  # sum of weight x distance, not divided by opacity
    normal: Float[Tensor, "B H W 3"]  # opacity (n + 1) / 2
    z_variance: Float[Tensor, "B H W 1"]
    samples: Samples
