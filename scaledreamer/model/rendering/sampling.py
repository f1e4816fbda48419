"""Where along a ray to look: inverse-transform sampling as nerfacc's importance sampler does it."""

import torch
from jaxtyping import Float
from torch import Tensor

FLAT = 1e-10  # a step of the cdf below this is taken as flat


def resample(
    edges: Float[Tensor, "R E"], cdf: Float[Tensor, "R E"], count: int, jitter: Float[Tensor, "R 1"]
) -> Float[Tensor, "R F"]:
    """Edges of `count` intervals drawn from the distribution with this cdf over the given edges.

    `jitter` in (0, 1] places the samples within their equal shares of the cdf; 0.5 is the middle. The new edges are the
    midpoints between neighbouring samples, the outermost ones mirrored and kept inside the old range.
    """
    shares = torch.arange(count, device=edges.device, dtype=edges.dtype) + jitter
    first, last = cdf[:, :1], cdf[:, -1:]
    wanted = first + shares * (last - first) / count
    right = torch.searchsorted(cdf[:, :-1].contiguous(), wanted.contiguous(), right=True)
    left = (right - 1).clamp(0, edges.shape[1] - 1)
    right = right.clamp(0, edges.shape[1] - 1)
    cdf_left, cdf_right = cdf.gather(1, left), cdf.gather(1, right)
    edge_left, edge_right = edges.gather(1, left), edges.gather(1, right)
    rise = cdf_right - cdf_left
    slope = (wanted - cdf_left) / torch.where(rise < FLAT, torch.ones_like(rise), rise)
    drawn = torch.where(rise < FLAT, (edge_left + edge_right) / 2, edge_left + slope * (edge_right - edge_left))
    middle = (drawn[:, 1:] + drawn[:, :-1]) / 2
    start = torch.maximum(drawn[:, :1] - (drawn[:, 1:2] - drawn[:, :1]) / 2, edges[:, :1])
    end = torch.minimum(drawn[:, -1:] + (drawn[:, -1:] - drawn[:, -2:-1]) / 2, edges[:, -1:])
    return torch.cat([start, middle, end], dim=1)
