"""The colours of a coloured mesh as a field, for meshes that come without the field they were made from."""

from typing import Self

import numpy as np
import torch
from jaxtyping import Float
from scipy.spatial import cKDTree
from torch import Tensor

from scaledreamer.export.mesh import Mesh
from scaledreamer.model.fields.base import Field, FieldSample

NEAREST = 3


class SurfaceColors(Field):
    """One scene: a point has the colours of the nearest vertices, weighted by nearness, and is never inside."""

    def __init__(self, mesh: Mesh) -> None:
        self.tree, self.colors = cKDTree(mesh.vertices), mesh.colors
        self.bound = float(np.abs(mesh.vertices).max(initial=1e-6))

    def query(self, points: Float[Tensor, "B N 3"]) -> FieldSample:
        near = min(NEAREST, len(self.colors))
        apart, number = self.tree.query(points.reshape(-1, 3).cpu().numpy(), k=[*range(1, near + 1)])
        weights = 1 / (apart + 1e-9 * self.bound)
        mixed = (self.colors[number] * weights[..., None]).sum(axis=1) / weights.sum(axis=1, keepdims=True)
        sdf, rgb = torch.from_numpy(apart[:, :1]), torch.from_numpy(mixed)
        return FieldSample(sdf.to(points).reshape(*points.shape[:2], 1), rgb.to(points).reshape(points.shape))

    def sdf(self, points: Float[Tensor, "B N 3"]) -> Float[Tensor, "B N 1"]:
        return self.query(points).sdf

    def __len__(self) -> int:
        return 1

    def __getitem__(self, index: int | slice) -> Self:
        return self
