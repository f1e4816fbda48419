"""Pictures of the ground truth by sphere tracing: part ids and what a paint looks like there, to be painted later."""

from dataclasses import dataclass

import torch
from einops import rearrange
from jaxtyping import Float, UInt8
from torch import Tensor

from scaledreamer.model.cameras import Camera, rays
from scaledreamer.model.rendering.shading import shade
from scaledreamer.training.props.materials import appearance, grain
from scaledreamer.training.props.shapes import Shape

MAX_STEPS = 48
HIT = 1e-3  # a ray this close to the surface has arrived, object units
BALL = 1.05  # every prop lies inside this ball


@dataclass(frozen=True)
class View:
    """Pictures without paint: 0 is nothing, k + 1 is part k; the others in 1/255 of their range."""

    part: UInt8[Tensor, "*B H W"]
    shading: UInt8[Tensor, "*B H W"]  # brightness, 0 to 1
    grain: UInt8[Tensor, "*B H W"]  # of the material, 0 to 1
    height: UInt8[Tensor, "*B H W"]  # z, -1 to 1


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


def picture(shape: Shape, camera: Camera, size: int) -> View:
    """Part ids and brightness of a one-scene shape seen by V cameras at size x size pixels."""
    origins, directions = (rearrange(r, "V H W C -> (V H W) C") for r in rays(camera, size, size))
    distance = trace(shape, origins, directions)
    hit = distance.isfinite()
    points = origins[hit] + distance[hit, None] * directions[hit]
    found = (
        shape.part(points[None])[0] + 1,
        255 * shade(shape.normal(points[None])[0])[:, 0],
        255 * grain(points),
        255 * (points[:, 2] + 1) / 2,
    )
    maps = []
    for values in found:
        flat = torch.zeros(len(distance), dtype=torch.uint8)
        flat[hit] = values.round().clamp(0, 255).to(torch.uint8)
        maps.append(rearrange(flat, "(V H W) -> V H W", V=len(camera), H=size))
    return View(*maps)


def paint(view: View, colors: Float[Tensor, "*B P 3"], material: str, factor: int) -> Float[Tensor, "*B 4 h w"]:
    """RGBA in [0, 1]: colour premultiplied by alpha, both averaged over factor x factor pixels. The first part is of
    the material.
    """
    part = view.part.flatten(-2)[..., None]
    table = torch.cat([torch.zeros_like(colors[..., :1, :]), colors], dim=-2)  # part 0 is nothing
    paints = torch.gather(table, -2, part.long().expand(*part.shape[:-1], 3))
    brightness, speckle, height = (each.flatten(-2) / 255 for each in (view.shading, view.grain, view.height))
    dull = appearance("any", paints, brightness, speckle, 2 * height - 1)
    made = dull if material == "any" else appearance(material, paints, brightness, speckle, 2 * height - 1)
    alpha = (part > 0).to(dull.dtype)
    rgba = torch.cat([torch.where(part == 1, made, dull) * alpha, alpha], -1)
    image = rearrange(rgba, "... (H W) C -> ... C H W", H=view.part.shape[-2])
    return rearrange(image, "... C (h i) (w j) -> ... C h w (i j)", i=factor, j=factor).mean(-1)
