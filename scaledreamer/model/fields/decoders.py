"""What a field stores, read at a point, becomes distance and colour there."""

from abc import abstractmethod
from collections.abc import Sequence

import torch
from einops import rearrange
from jaxtyping import Float
from pydantic import NonNegativeFloat, PositiveFloat
from torch import Tensor, nn
from torch.nn import functional as F

from scaledreamer.model.fields.color import ColorActivation, activate_color
from scaledreamer.model.layers.mlp import bias_free

# What an untrained field shows: a ball of this radius, or an ellipsoid with these half axes, in object units.
Bias = NonNegativeFloat | tuple[PositiveFloat, PositiveFloat, PositiveFloat]


def ball_distance(points: Float[Tensor, "*B 3"], bias: Bias) -> Float[Tensor, "*B 1"]:
    """|p| - radius, or |p / half axes| - 1: the distance that every official field starts from."""
    if isinstance(bias, tuple):
        stretched: Tensor = (points / torch.tensor(bias).to(points)).norm(dim=-1, keepdim=True) - 1
        return stretched
    distance: Tensor = points.norm(dim=-1, keepdim=True) - bias
    return distance


class Decoder(nn.Module):
    """Readings of P places (three planes, or one grid of voxels) and a point to distance and raw colour."""

    @abstractmethod
    def decode(
        self, readings: Float[Tensor, "B P C N"], points: Float[Tensor, "B N 3"]
    ) -> tuple[Float[Tensor, "B N 1"], Float[Tensor, "B N 3"]]:
        """Signed distance in object units and sRGB colour."""

    @abstractmethod
    def distance(self, readings: Float[Tensor, "B P C N"], points: Float[Tensor, "B N 3"]) -> Float[Tensor, "B N 1"]:
        """Signed distance alone."""


class SeparateHeads(Decoder):
    """The official decoder: concatenated readings into one bias-free MLP for distance and one for colour.

    The distance is what the MLP says plus that of a sphere, |p| - sphere_bias.
    """

    def __init__(
        self, sdf_sizes: Sequence[int], rgb_sizes: Sequence[int], sphere_bias: Bias, color: ColorActivation
    ) -> None:
        super().__init__()
        self.sdf_network, self.rgb_network = bias_free(sdf_sizes), bias_free(rgb_sizes)
        self.sphere_bias, self.color = sphere_bias, color

    def distance(self, readings: Float[Tensor, "B P C N"], points: Float[Tensor, "B N 3"]) -> Float[Tensor, "B N 1"]:
        features = rearrange(readings, "B P C N -> B N (P C)")
        sdf: Tensor = self.sdf_network(features)
        return sdf + ball_distance(points, self.sphere_bias)

    def decode(
        self, readings: Float[Tensor, "B P C N"], points: Float[Tensor, "B N 3"]
    ) -> tuple[Float[Tensor, "B N 1"], Float[Tensor, "B N 3"]]:
        raw = self.rgb_network(rearrange(readings, "B P C N -> B N (P C)"))
        return self.distance(readings, points), activate_color(raw, self.color)


class SummedPlanes(Decoder):
    """The props decoder: the sum of the three readings is the first hidden layer, so a lattice costs no gather.

    One more hidden layer, then distance (plus |p| - sphere_bias, cut by the ball `ball`) and colour.
    """

    def __init__(self, channels: int, hidden: int, sphere_bias: Bias, ball: float, color: ColorActivation) -> None:
        super().__init__()
        self.hidden = nn.Linear(channels, hidden)
        self.out = nn.Linear(hidden, 4)
        nn.init.normal_(self.out.weight, std=0.02)
        nn.init.zeros_(self.out.bias)
        self.sphere_bias, self.ball, self.color = sphere_bias, ball, color

    def heads(
        self, summed: Float[Tensor, "*B C"], points: Float[Tensor, "*#B 3"]
    ) -> tuple[Float[Tensor, "*B 1"], Float[Tensor, "*B 3"]]:
        """Summed readings to distance and colour."""
        raw = self.out(F.silu(self.hidden(F.silu(summed))))
        sdf = torch.maximum(raw[..., :1] + ball_distance(points, self.sphere_bias), ball_distance(points, self.ball))
        return sdf, activate_color(raw[..., 1:], self.color)

    def decode(
        self, readings: Float[Tensor, "B P C N"], points: Float[Tensor, "B N 3"]
    ) -> tuple[Float[Tensor, "B N 1"], Float[Tensor, "B N 3"]]:
        return self.heads(rearrange(readings.sum(1), "B C N -> B N C"), points)

    def distance(self, readings: Float[Tensor, "B P C N"], points: Float[Tensor, "B N 3"]) -> Float[Tensor, "B N 1"]:
        return self.decode(readings, points)[0]
