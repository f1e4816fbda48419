"""VoxelField: a grid of feature voxels and a small decoder, 3DConv-Net's output."""

from typing import Self

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from scaledreamer.model.fields.base import Field, FieldSample, scenes
from scaledreamer.model.fields.decoders import Decoder, SeparateHeads
from scaledreamer.model.fields.nodes import Axes, Nodes
from scaledreamer.model.fields.voxel_nodes import VoxelNodes


def sample_voxels(voxels: Float[Tensor, "B C R R R"], points: Float[Tensor, "B N 3"]) -> Float[Tensor, "B C N"]:
    """Read voxels trilinearly at points in [-1, 1]; x runs along the last axis, z along the first; zero outside."""
    places = rearrange(points, "B N xyz -> B N 1 1 xyz")
    read = F.grid_sample(voxels, places, mode="bilinear", padding_mode="zeros", align_corners=False)
    return rearrange(read, "B C N 1 1 -> B C N")


class VoxelField(Field):
    """B scenes as voxels [B, C, R, R, R] over [-bound, bound]^3 and the decoder they share."""

    def __init__(self, voxels: Float[Tensor, "B C R R R"], decoder: Decoder, bound: float) -> None:
        self.voxels, self.decoder, self.bound = voxels, decoder, bound

    @property
    def device(self) -> torch.device:
        return self.voxels.device

    def __len__(self) -> int:
        return len(self.voxels)

    def __getitem__(self, index: int | slice) -> Self:
        return type(self)(self.voxels[scenes(index, len(self))], self.decoder, self.bound)

    def query(self, points: Float[Tensor, "B N 3"]) -> FieldSample:
        return FieldSample(*self.decoder.decode(self._readings(points), points))

    def sdf(self, points: Float[Tensor, "B N 3"]) -> Float[Tensor, "B N 1"]:
        return self.decoder.distance(self._readings(points), points)

    def rgb(self, points: Float[Tensor, "B N 3"]) -> Float[Tensor, "B N 3"]:
        return self.decoder.color_of(self._readings(points))

    def nodes(self, axes: Axes) -> Nodes:
        if not isinstance(self.decoder, SeparateHeads):
            return super().nodes(axes)
        return VoxelNodes(self[0].sdf, axes, self.voxels[0], self.decoder, self.bound)

    def _readings(self, points: Float[Tensor, "B N 3"]) -> Float[Tensor, "B 1 C N"]:
        return sample_voxels(self.voxels, points / self.bound)[:, None]
