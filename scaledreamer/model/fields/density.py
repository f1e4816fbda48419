"""DensityField: a NeRF (arXiv:2003.08934) of one prompt, a hash grid and two perceptrons of its own.

A renderer of densities asks for `density`. Everything else in the house asks a Field for a distance, so this one gives
the number whose level sets are those of the density, in units of length: the amount by which the raw density misses its
value on the surface, over the slope of the blob that every such field starts from. For the blob alone it is exactly the
distance to a sphere; where the network has had its say only the sign and the zero level are to be trusted.
"""

import math
from typing import Self

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from scaledreamer.model.fields.base import FINITE_DIFFERENCE, Field, FieldSample, scenes
from scaledreamer.model.fields.color import ColorActivation, activate_color
from scaledreamer.model.fields.decoders import ball_distance
from scaledreamer.model.layers.hash_grid import HashGrid


class DensityNetworks(nn.Module):
    """What the field stores: the grid and its two bias-free MLPs, to raw density and raw colour."""

    def __init__(self, grid: HashGrid, density_network: nn.Sequential, rgb_network: nn.Sequential) -> None:
        super().__init__()
        self.grid, self.density_network, self.rgb_network = grid, density_network, rgb_network


class DensityField(Field):
    """The same scene `scenes` times in [-bound, bound]^3.

    density = softplus(network + blob (1 - |p| / blob_radius)) (Magic3D, arXiv:2211.10440), per object unit;
    sdf = (raw density at `level` - raw density) blob_radius / blob.
    """

    def __init__(
        self, networks: DensityNetworks, scenes: int, bound: float, blob: float, blob_radius: float, level: float,
        color: ColorActivation,
    ) -> None:  # fmt: skip
        self.networks, self.scenes, self.bound, self.color = networks, scenes, bound, color
        self.blob, self.blob_radius, self.level = blob, blob_radius, level

    @property
    def device(self) -> torch.device:
        return self.networks.grid.params.device

    def __len__(self) -> int:
        return self.scenes

    def __getitem__(self, index: int | slice) -> Self:
        some = range(self.scenes)[scenes(index, self.scenes)]
        return type(self)(
            self.networks, len(some), self.bound, self.blob, self.blob_radius, self.level, self.color
        )  # fmt: skip

    def query(self, points: Float[Tensor, "B N 3"]) -> FieldSample:
        features = self._features(points)
        raw = self._raw_density(features, points)
        rgb = activate_color(self.networks.rgb_network(features), self.color)
        return FieldSample(self._distance(raw), rgb, F.softplus(raw))

    def sdf(self, points: Float[Tensor, "B N 3"]) -> Float[Tensor, "B N 1"]:
        return self._distance(self._raw_density(self._features(points), points))

    def density(self, points: Float[Tensor, "B N 3"]) -> Float[Tensor, "B N 1"]:
        """Volume density alone, per object unit."""
        return F.softplus(self._raw_density(self._features(points), points))

    def _features(self, points: Float[Tensor, "B N 3"]) -> Float[Tensor, "B N C"]:
        features: Tensor = self.networks.grid((points + self.bound) / (2 * self.bound))
        return features

    def _raw_density(self, features: Float[Tensor, "B N C"], points: Float[Tensor, "B N 3"]) -> Float[Tensor, "B N 1"]:
        said: Tensor = self.networks.density_network(features)
        return said - ball_distance(points, self.blob_radius) * (self.blob / self.blob_radius)

    def _distance(self, raw: Float[Tensor, "B N 1"]) -> Float[Tensor, "B N 1"]:
        on_surface = self.level + math.log(-math.expm1(-self.level))  # softplus takes this to the level
        return (on_surface - raw) * (self.blob_radius / self.blob)


def density_normal(
    field: DensityField,
    points: Float[Tensor, "B N 3"],
    density: Float[Tensor, "B N 1"],
    step: float = FINITE_DIFFERENCE,
) -> Float[Tensor, "B N 3"]:
    """Unit vectors against forward differences of the density; only the shifted point is clamped to the box."""
    shifted = points[:, :, None, :] + step * torch.eye(3, device=points.device, dtype=points.dtype)
    moved = field.density(shifted.clamp(-field.bound, field.bound).flatten(1, 2))
    return F.normalize(-(moved.reshape(points.shape) - density) / step, dim=-1)
