"""Exact signed distances to simple solids (after Inigo Quilez's derivations; formulas, not code).

Points are [S, N, 3] in object units, sizes are tensors that broadcast against [S, N] (one scene a row). Every distance
is exact inside and outside its own solid; a union by minimum stays exact outside and on the surface, and inside it
never claims more depth than there is.
"""

import torch
from jaxtyping import Float
from torch import Tensor

Points = Float[Tensor, "S N 3"]
Distance = Float[Tensor, "S N"]
Profile = list[tuple[Tensor, Tensor]]  # corners of a polygon, each number [S, 1]


def _join(a: Distance, b: Distance) -> Distance:
    """Exact distance of a product of two sets from the distances to each (a box corner, a capped prism)."""
    outside, inside = torch.hypot(a.clamp(min=0), b.clamp(min=0)), torch.maximum(a, b).clamp(max=0)
    return outside + inside


def box(points: Points, half: tuple[Tensor, Tensor, Tensor]) -> Distance:
    """Box with the given half sizes at the origin."""
    x, y, z = (points[..., i].abs() - half[i] for i in range(3))
    outside = torch.sqrt(x.clamp(min=0) ** 2 + y.clamp(min=0) ** 2 + z.clamp(min=0) ** 2)
    return outside + torch.maximum(torch.maximum(x, y), z).clamp(max=0)


def cylinder(points: Points, radius: Tensor, half_height: Tensor) -> Distance:
    """Capped cylinder around z."""
    return _join(torch.hypot(points[..., 0], points[..., 1]) - radius, points[..., 2].abs() - half_height)


def polygon(u: Distance, v: Distance, corners: Profile) -> Distance:
    """Distance in the plane to a simple polygon; the sign comes from the winding of its edges around the point."""
    nearest: Tensor | None = None
    inside = torch.zeros_like(u, dtype=torch.bool)
    for (u0, v0), (u1, v1) in zip(corners, corners[1:] + corners[:1], strict=True):
        du, dv = u1 - u0, v1 - v0
        pu, pv = u - u0, v - v0
        along = ((pu * du + pv * dv) / (du * du + dv * dv).clamp(min=1e-12)).clamp(0, 1)
        squared = (pu - along * du) ** 2 + (pv - along * dv) ** 2
        nearest = squared if nearest is None else torch.minimum(nearest, squared)
        crosses = (v0 > v) != (v1 > v)
        inside ^= crosses & ((pu * dv - pv * du) * dv.sign() < 0)
    assert nearest is not None
    return nearest.sqrt() * torch.where(inside, -1.0, 1.0)


def revolve(points: Points, profile: Profile) -> Distance:
    """Turn a profile of (radius, z) corners, from the bottom of the axis to its top, around z.

    The profile is closed by its mirror image, so the axis is no surface, and ends off the axis make flat ends.
    """
    mirrored = [(-radius, z) for radius, z in reversed(profile)]
    return polygon(torch.hypot(points[..., 0], points[..., 1]), points[..., 2], [*profile, *mirrored])


def ring(points: Points, outline: Profile) -> Distance:
    """Turn a closed outline of (radius, z) corners that stays off the axis around z."""
    return polygon(torch.hypot(points[..., 0], points[..., 1]), points[..., 2], outline)


def extrude(u: Distance, v: Distance, w: Distance, corners: Profile, half: Tensor) -> Distance:
    """Prism over a polygon in (u, v), from -half to +half along w."""
    return _join(polygon(u, v, corners), w.abs() - half)


def sphere(points: Points, radius: Tensor) -> Distance:
    """Ball at the origin."""
    distance: Distance = points.norm(dim=-1) - radius
    return distance


def capsule(
    points: Points, start: tuple[Tensor, Tensor, Tensor], end: tuple[Tensor, Tensor, Tensor], radius: Tensor
) -> Distance:
    """Everything within `radius` of the segment between two points."""
    a, b = (torch.stack([each.expand(points.shape[0], 1) for each in at], -1) for at in (start, end))
    along = b - a
    share = (((points - a) * along).sum(-1) / along.square().sum(-1)).clamp(0, 1)
    distance: Distance = (points - a - share[..., None] * along).norm(dim=-1) - radius
    return distance
