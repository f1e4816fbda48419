"""Distances between a field and the true one: volume, surface, silhouette, colour."""

from dataclasses import dataclass

import numpy as np
import torch
from einops import rearrange
from jaxtyping import Bool, Float
from scipy.spatial import cKDTree
from torch import Tensor

from scaledreamer.errors import EmptySurfaceError
from scaledreamer.export.cleanup import keep_large_parts
from scaledreamer.export.isosurface import extract_mesh
from scaledreamer.export.mesh import Mesh
from scaledreamer.model.cameras import turntable
from scaledreamer.model.fields.base import Field
from scaledreamer.model.rendering import LatticeConfig, render

VOXELS = 64  # cells along the box for volumetric IoU
MESH = 80  # lattice points of the meshes whose surfaces are compared
SURFACE_POINTS = 4000
CLOSE = 0.04  # object units: within this a surface point counts as found (F-score), or as matched (colour)
SILHOUETTE = LatticeConfig(nodes=80, samples=96, sharpness=400.0, shaded=False)
SILHOUETTE_PIXELS = 96
VIEWS = turntable(4, elevation=0.35)


@dataclass(frozen=True)
class Measured:
    """What of a field is compared: its occupied cells, its silhouettes, and points on its surface with colours."""

    occupied: Bool[Tensor, "X Y Z"]
    silhouette: Bool[Tensor, "V H W"]
    points: Float[np.ndarray, "N 3"]
    colors: Float[np.ndarray, "N 3"]


@torch.no_grad()
def measure(field: Field, seed: int = 0) -> Measured:
    """Look at scene 0 of a field. A field without a surface has no points."""
    axis = (torch.arange(VOXELS) + 0.5) * (2 * field.bound / VOXELS) - field.bound
    sdf = field[0].lattice(axis, axis, axis).sdf[0, :, 0]
    occupied = rearrange(sdf < 0, "(X Y Z) -> X Y Z", X=VOXELS, Y=VOXELS)
    seen = render(field[0], VIEWS, None, SILHOUETTE_PIXELS, SILHOUETTE).opacity[..., 0] > 0.5
    try:
        mesh = keep_large_parts(extract_mesh(field[0], MESH))
    except EmptySurfaceError:
        return Measured(occupied, seen, np.zeros((0, 3), np.float32), np.zeros((0, 3), np.float32))
    points = surface_points(mesh, SURFACE_POINTS, np.random.default_rng(seed))
    return Measured(occupied, seen, points, colors_at(field, points))


@torch.no_grad()
def colors_at(field: Field, points: Float[np.ndarray, "N 3"]) -> Float[np.ndarray, "N 3"]:
    """The colours of scene 0, sRGB."""
    rgb: Float[np.ndarray, "N 3"] = field[0].query(torch.from_numpy(points)[None]).rgb[0].clamp(0, 1).numpy()
    return rgb


def surface_points(mesh: Mesh, count: int, rng: np.random.Generator) -> Float[np.ndarray, "N 3"]:
    """Points spread evenly over the area of a mesh."""
    corners = mesh.vertices[mesh.faces]
    area = np.linalg.norm(np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]), axis=1)
    chosen = corners[rng.choice(len(area), count, p=area / area.sum())]
    u, v = rng.random((2, count, 1))
    flip = u + v > 1
    u, v = np.where(flip, 1 - u, u), np.where(flip, 1 - v, v)
    moved = chosen[:, 0] + u * (chosen[:, 1] - chosen[:, 0]) + v * (chosen[:, 2] - chosen[:, 0])
    points: Float[np.ndarray, "N 3"] = moved.astype(np.float32)
    return points


def iou(a: Bool[Tensor, "*S"], b: Bool[Tensor, "*S"]) -> float:
    """Intersection over union."""
    return float((a & b).sum() / (a | b).sum().clamp(min=1))


def compare(found: Measured, true: Measured) -> dict[str, float]:
    """All distances; a found field without a surface scores zero and the worst colour."""
    scores = {
        "volumetric_iou": iou(found.occupied, true.occupied),
        "silhouette_iou": float(np.mean([iou(a, b) for a, b in zip(found.silhouette, true.silhouette, strict=True)])),
    }
    if len(found.points) == 0:
        return scores | {"f_score": 0.0, "chamfer": 1.0, "color_error": 1.0}
    to_true, nearest_true = cKDTree(true.points).query(found.points)
    to_found, nearest_found = cKDTree(found.points).query(true.points)
    precision, recall = float((to_true < CLOSE).mean()), float((to_found < CLOSE).mean())
    return scores | {
        "f_score": 2 * precision * recall / max(1e-9, precision + recall),
        "chamfer": float(to_true.mean() + to_found.mean()) / 2,
        "color_error": color_error(
            (found.colors, true.colors[nearest_true], to_true), (found.colors[nearest_found], true.colors, to_found)
        ),
    }


def color_error(*pairs: tuple[np.ndarray, np.ndarray, np.ndarray]) -> float:
    """Mean absolute sRGB difference of matched points, those that are close; of all where none is."""
    errors = []
    for ours, theirs, distance in pairs:
        close = distance < CLOSE
        matched = close if close.any() else np.ones_like(close)
        errors.append(np.abs(ours[matched] - theirs[matched]).mean())
    return float(np.mean(errors))
