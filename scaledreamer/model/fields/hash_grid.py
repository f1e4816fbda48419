"""HashGridField: one hash grid for all scenes, read by perceptrons whose weights each prompt brings along."""

from typing import Self

import torch
from jaxtyping import Float
from torch import Tensor

from scaledreamer.model.fields.base import Field, FieldSample, scenes
from scaledreamer.model.fields.color import ColorActivation, activate_color
from scaledreamer.model.fields.decoders import Bias, ball_distance
from scaledreamer.model.layers.hash_grid import HashGrid
from scaledreamer.model.layers.mlp import generated_mlp

Weights = list[Float[Tensor, "B _ _"]]  # the [in, out] matrices of a bias-free MLP, a set a scene


class HashGridField(Field):
    """B scenes as the weights of two MLPs each. Beyond [-bound, bound]^3 the grid repeats itself."""

    def __init__(
        self, grid: HashGrid, sdf_weights: Weights, rgb_weights: Weights, bound: float, sphere_bias: Bias,
        color: ColorActivation,
    ) -> None:  # fmt: skip
        self.grid, self.sdf_weights, self.rgb_weights = grid, sdf_weights, rgb_weights
        self.bound, self.sphere_bias, self.color = bound, sphere_bias, color

    @property
    def device(self) -> torch.device:
        return self.sdf_weights[0].device

    def __len__(self) -> int:
        return len(self.sdf_weights[0])

    def __getitem__(self, index: int | slice) -> Self:
        some = scenes(index, len(self))
        sdf, rgb = ([weight[some] for weight in weights] for weights in (self.sdf_weights, self.rgb_weights))
        return type(self)(self.grid, sdf, rgb, self.bound, self.sphere_bias, self.color)

    def query(self, points: Float[Tensor, "B N 3"]) -> FieldSample:
        features = self._features(points)
        rgb = activate_color(generated_mlp(features, self.rgb_weights), self.color)
        return FieldSample(self._distance(features, points), rgb)

    def sdf(self, points: Float[Tensor, "B N 3"]) -> Float[Tensor, "B N 1"]:
        return self._distance(self._features(points), points)

    def lattice(self, x: Float[Tensor, " X"], y: Float[Tensor, " Y"], z: Float[Tensor, " Z"]) -> FieldSample:
        """Every node at once; the grid is read once for all scenes."""
        nodes = torch.stack(torch.meshgrid(x, y, z, indexing="ij"), dim=-1).reshape(1, -1, 3)
        return self.query(nodes)

    def _features(self, points: Float[Tensor, "#B N 3"]) -> Float[Tensor, "#B N C"]:
        features: Tensor = self.grid((points + self.bound) / (2 * self.bound))
        return features

    def _distance(self, features: Float[Tensor, "#B N C"], points: Float[Tensor, "#B N 3"]) -> Float[Tensor, "B N 1"]:
        return generated_mlp(features, self.sdf_weights) + ball_distance(points, self.sphere_bias)
