"""A field asked at many points, a chunk at a time, and refused where it answers with what is not a number."""

import numpy as np
import torch
from jaxtyping import Float, Float32
from torch import Tensor

from scaledreamer.errors import ExportError
from scaledreamer.model.fields.base import Field


def chunk_points(device: torch.device) -> int:
    """Points a call: what a core's cache holds, or what fills a GPU."""
    return 1 << 13 if device.type == "cpu" else 1 << 20


def refuse_unless_finite(values: Tensor, points: Float[Tensor, "N 3"], what: str) -> None:
    """An error that says where the field gave what is not a number."""
    bad = ~torch.isfinite(values).all(dim=-1)
    if bad.any():
        place = [round(x, 4) for x in points[bad][0].tolist()]
        raise ExportError(f"the field's {what} is {values[bad][0].tolist()} at {place}: cannot extract a mesh from it")


@torch.no_grad()
def sdf_at(field: Field, points: Float[Tensor, "N 3"]) -> Float32[np.ndarray, " N"]:
    """Signed distance of scene 0 at points."""
    values = np.empty(len(points), dtype=np.float32)
    size = chunk_points(field.device)
    for start in range(0, len(points), size):
        chunk = points[start : start + size]
        sdf = field.sdf(chunk[None])[0].float()
        refuse_unless_finite(sdf, chunk, "signed distance")
        values[start : start + size] = sdf[:, 0].cpu().numpy()
    return values


@torch.no_grad()
def colors_at(field: Field, vertices: Float32[np.ndarray, "V 3"]) -> Float32[np.ndarray, "V 3"]:
    """sRGB colour of scene 0 at points, in [0, 1]."""
    points = torch.from_numpy(vertices).to(field.device)
    colors = np.empty_like(vertices)
    size = chunk_points(field.device)
    for start in range(0, len(points), size):
        chunk = points[start : start + size]
        rgb = field.rgb(chunk[None])[0].float()
        refuse_unless_finite(rgb, chunk, "colour")
        colors[start : start + size] = rgb.clamp(0, 1).cpu().numpy()
    return colors
