"""Pictures of the ground truth by sphere tracing: part ids and shading, so that colour can be chosen later."""

from dataclasses import dataclass

import torch
from einops import rearrange
from jaxtyping import Float, UInt8
from torch import Tensor

from scaledreamer.model.cameras import Camera, rays
from scaledreamer.model.rendering.shading import shade
from scaledreamer.training.props.shapes import Shape

MAX_STEPS = 48
HIT = 1e-3  # a ray this close to the surface has arrived, object units
BALL = 1.05  # every prop lies inside this ball


@dataclass(frozen=True)
class View:
    """V pictures of one shape: 0 is nothing, k + 1 is part k; brightness in 1/255."""

    part: UInt8[Tensor, "V H W"]
    shading: UInt8[Tensor, "V H W"]


def trace(shape: Shape, origins: Float[Tensor, "N 3"], directions: Float[Tensor, "N 3"]) -> Float[Tensor, " N"]:
    """Distance along each unit ray to the surface of a one-scene shape, infinity where it misses."""
    middle = -(origins * directions).sum(-1)
    chord = BALL**2 - (origins.square().sum(-1) - middle.square())
    distance = torch.full_like(middle, torch.inf)
    active = (chord > 0).nonzero()[:, 0]
    reach = chord[active].sqrt()
    along, end = middle[active] - reach, middle[active] + reach
    for _ in range(MAX_STEPS):
        if len(active) == 0:
            break
        gap = shape.sdf((origins[active] + along[:, None] * directions[active])[None])[0]
        arrived = gap < HIT
        distance[active[arrived]] = along[arrived]
        along = along + gap
        going = ~arrived & (along < end)
        active, along, end = active[going], along[going], end[going]
    return distance


def normals(shape: Shape, points: Float[Tensor, "N 3"], eps: float = 2e-3) -> Float[Tensor, "N 3"]:
    """Unit outward normals by central differences over a tetrahedron."""
    corners = torch.tensor([[1.0, -1, -1], [-1, -1, 1], [-1, 1, -1], [1, 1, 1]])
    stencil = rearrange(points[:, None] + eps * corners, "N K C -> 1 (N K) C")
    around = rearrange(shape.sdf(stencil)[0], "(N K) -> N K", K=4)
    return torch.nn.functional.normalize(around @ corners, dim=-1)


def picture(shape: Shape, camera: Camera, size: int) -> View:
    """Part ids and brightness of a one-scene shape seen by V cameras at size x size pixels."""
    origins, directions = (rearrange(r, "V H W C -> (V H W) C") for r in rays(camera, size, size))
    distance = trace(shape, origins, directions)
    hit = distance.isfinite()
    points = origins[hit] + distance[hit, None] * directions[hit]
    part = torch.zeros(len(distance), dtype=torch.uint8)
    shading = torch.zeros(len(distance), dtype=torch.uint8)
    part[hit] = (shape.part(points[None])[0] + 1).to(torch.uint8)
    shading[hit] = (shade(normals(shape, points))[:, 0] * 255).round().to(torch.uint8)
    folded = {"V": len(camera), "H": size, "W": size}
    return View(rearrange(part, "(V H W) -> V H W", **folded), rearrange(shading, "(V H W) -> V H W", **folded))


def paint(
    part: UInt8[Tensor, "*B H W"], shading: UInt8[Tensor, "*B H W"], colors: Float[Tensor, "*B P 3"], factor: int
) -> Float[Tensor, "*B 4 h w"]:
    """RGBA in [0, 1]: colour premultiplied by alpha, both averaged over factor x factor pixels."""
    nothing = torch.zeros_like(colors[..., :1, :])
    table = torch.cat([nothing, colors], dim=-2)  # part 0 is nothing
    index = part.long().flatten(-2)[..., None].expand(*part.shape[:-2], -1, 3)
    rgb = torch.gather(table, -2, index) * (shading.flatten(-2)[..., None] / 255)
    alpha = (part > 0).flatten(-2)[..., None].to(rgb.dtype)
    image = rearrange(torch.cat([rgb, alpha], -1), "... (H W) C -> ... C H W", H=part.shape[-2])
    return rearrange(image, "... C (h i) (w j) -> ... C h w (i j)", i=factor, j=factor).mean(-1)
