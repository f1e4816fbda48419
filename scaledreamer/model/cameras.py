"""Cameras on an orbit, and the rays of their pixels (threestudio's conventions, which are DESIGN's)."""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor


@dataclass(frozen=True)
class Camera:
    """B pinhole cameras. `c2w` has columns right, up, backward, position (OpenGL: the camera looks along -Z)."""

    c2w: Float[Tensor, "B 4 4"]
    fovy: Float[Tensor, " B"]  # vertical field of view, radians

    def __len__(self) -> int:
        return len(self.c2w)

    def __getitem__(self, index: slice | Tensor) -> "Camera":
        return Camera(self.c2w[index], self.fovy[index])

    @property
    def position(self) -> Float[Tensor, "B 3"]:
        """Where the camera stands, object units."""
        return self.c2w[:, :3, 3]

    def to(self, device: torch.device | str) -> "Camera":
        """The same cameras on another device."""
        return Camera(self.c2w.to(device), self.fovy.to(device))


def orbit(
    elevation: Float[Tensor, " B"],
    azimuth: Float[Tensor, " B"],
    distance: Float[Tensor, " B"],
    fovy: Float[Tensor, " B"],
) -> Camera:
    """Cameras that look at the origin with +Z up; azimuth 0 stands on +X, counter-clockwise from above. Radians."""
    around, up_part = torch.cos(elevation), torch.sin(elevation)
    towards = torch.stack([around * torch.cos(azimuth), around * torch.sin(azimuth), up_part], dim=-1)
    return look_at_origin(towards * distance[:, None], fovy)


def look_at_origin(position: Float[Tensor, "B 3"], fovy: Float[Tensor, " B"]) -> Camera:
    """Cameras at `position` that look at the origin with +Z up."""
    look = -torch.nn.functional.normalize(position, dim=-1)
    world_up = torch.tensor([0.0, 0.0, 1.0], dtype=position.dtype, device=position.device).expand_as(look)
    right = torch.nn.functional.normalize(torch.linalg.cross(look, world_up, dim=-1), dim=-1)
    up = torch.nn.functional.normalize(torch.linalg.cross(right, look, dim=-1), dim=-1)
    c2w = torch.zeros(len(position), 4, 4, dtype=position.dtype, device=position.device)
    c2w[:, :3] = torch.stack([right, up, -look, position], dim=-1)
    c2w[:, 3, 3] = 1
    return Camera(c2w, fovy)


def turntable(
    views: int, elevation: float = math.radians(15), distance: float = 3.0, fovy: float = math.radians(40)
) -> Camera:
    """`views` cameras evenly around the object, the first in front (+X). Radians, object units."""
    azimuth = torch.arange(views) * (2 * math.pi / views)
    full = torch.full((views,), 1.0)
    return orbit(full * elevation, azimuth, full * distance, full * fovy)


def rays(camera: Camera, height: int, width: int) -> tuple[Float[Tensor, "B H W 3"], Float[Tensor, "B H W 3"]]:
    """Origins and unit directions through the pixel centres; row 0 is the top of the picture."""
    device, dtype = camera.c2w.device, camera.c2w.dtype
    i = torch.arange(width, device=device, dtype=dtype) + 0.5
    j = torch.arange(height, device=device, dtype=dtype) + 0.5
    focal = 0.5 * height / torch.tan(0.5 * camera.fovy)
    x = (i - width / 2)[None, None, :] / focal[:, None, None]
    y = -(j - height / 2)[None, :, None] / focal[:, None, None]
    shape = (len(camera), height, width)
    local = torch.stack([x.expand(shape), y.expand(shape), -torch.ones(shape, device=device, dtype=dtype)], dim=-1)
    directions = torch.einsum("bij,bhwj->bhwi", camera.c2w[:, :3, :3], local)
    directions = torch.nn.functional.normalize(directions, dim=-1)
    return camera.position[:, None, None, :].expand_as(directions), directions
