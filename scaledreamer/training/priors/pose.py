"""A camera as multi-view priors are told it."""

import torch
from jaxtyping import Float
from torch import Tensor

from scaledreamer.model.cameras import Camera, rays


def pose(camera: Camera) -> Float[Tensor, "B 16"]:
    """Camera to world, flattened row by row, the position divided by its length (MVDream, arXiv:2308.16512).

    Distance and field of view are not seen; a camera of zeros stays zero. The caller's camera is not touched.
    """
    c2w = camera.c2w.clone()
    c2w[:, :3, 3] /= c2w[:, :3, 3].norm(dim=-1, keepdim=True) + 1e-8
    return c2w.flatten(1)


def plucker(camera: Camera, side: int) -> Float[Tensor, "B h w 6"]:
    """Rays through the middles of side x side patches: unit direction, and moment origin x direction (object units)."""
    origins, directions = rays(camera, side, side)
    return torch.cat([directions, torch.linalg.cross(origins, directions, dim=-1)], -1)
