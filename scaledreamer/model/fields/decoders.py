"""What a field stores, read at a point, becomes distance and colour there."""

from abc import abstractmethod
from collections.abc import Sequence
from copy import deepcopy

import torch
from einops import rearrange
from jaxtyping import Float
from pydantic import NonNegativeFloat, PositiveFloat
from torch import Tensor, nn
from torch.nn import functional as F

from scaledreamer.model.fields.color import ColorActivation, activate_color
from scaledreamer.model.fields.intervals import linear_bounds, silu_bounds
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


def ball_at(
    x: Float[Tensor, "*#S"], y: Float[Tensor, "*#S"], z: Float[Tensor, "*#S"], bias: Bias
) -> Float[Tensor, "*S"]:
    """The same distance from coordinates that broadcast, so that squares are taken before they are laid out."""
    if isinstance(bias, tuple):
        x, y, z = x / bias[0], y / bias[1], z / bias[2]
        return (x * x + y * y + z * z).sqrt_() - 1
    return (x * x + y * y + z * z).sqrt_() - bias


class Decoder(nn.Module):
    """Readings of P places (three planes, or one grid of voxels) and a point to distance and raw colour."""

    @abstractmethod
    def decode(
        self, readings: Float[Tensor, "B P C N"], points: Float[Tensor, "B N 3"]
    ) -> tuple[Float[Tensor, "B N 1"], Float[Tensor, "B N K"]]:
        """Signed distance in object units and sRGB colour (the shares of K colours where there is a palette)."""

    @abstractmethod
    def distance(self, readings: Float[Tensor, "B P C N"], points: Float[Tensor, "B N 3"]) -> Float[Tensor, "B N 1"]:
        """Signed distance alone."""

    @abstractmethod
    def color_of(self, readings: Float[Tensor, "B P C N"]) -> Float[Tensor, "B N K"]:
        """Colour alone, as `decode` has it."""

    @abstractmethod
    def moved_outwards(self, by: float) -> "Decoder":
        """A copy that says a distance less by `by` object units everywhere (but for an ellipsoid, see there)."""

    @abstractmethod
    def first_layer(self, planes: Float[Tensor, "P C *S"]) -> Float[Tensor, "P H *S"]:
        """What each of the P places adds to the first hidden layer of the distance, from what is stored there."""

    @abstractmethod
    def distance_of_sum(
        self, summed: Float[Tensor, "*S H"], x: Float[Tensor, "*#S"], y: Float[Tensor, "*#S"], z: Float[Tensor, "*#S"]
    ) -> Float[Tensor, "*S"]:
        """Signed distance from the first hidden layer (which is overwritten) and coordinates that broadcast."""

    @abstractmethod
    def distance_bounds(
        self,
        low: Float[Tensor, "A H"], high: Float[Tensor, "A H"],
        near: Float[Tensor, "A 3"], far: Float[Tensor, "A 3"],
    ) -> tuple[Float[Tensor, " A"], Float[Tensor, " A"]]:  # fmt: skip
        """Least and greatest distance where the first hidden layer and the |coordinates| lie between these."""


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
        sdf: Tensor = self.sdf_network(rearrange(readings, "B P C N -> B N (P C)"))
        return sdf + ball_distance(points, self.sphere_bias)

    def decode(
        self, readings: Float[Tensor, "B P C N"], points: Float[Tensor, "B N 3"]
    ) -> tuple[Float[Tensor, "B N 1"], Float[Tensor, "B N 3"]]:
        features = rearrange(readings, "B P C N -> B N (P C)")  # a copy: made once for both
        sdf = self.sdf_network(features) + ball_distance(points, self.sphere_bias)
        return sdf, activate_color(self.rgb_network(features), self.color)

    def color_of(self, readings: Float[Tensor, "B P C N"]) -> Float[Tensor, "B N 3"]:
        return activate_color(self.rgb_network(rearrange(readings, "B P C N -> B N (P C)")), self.color)

    def moved_outwards(self, by: float) -> "SeparateHeads":
        """Its ball is as much larger; the half axes of an ellipsoid grow by that share."""
        moved = deepcopy(self)
        bias = self.sphere_bias
        moved.sphere_bias = (
            (bias[0] * (1 + by), bias[1] * (1 + by), bias[2] * (1 + by)) if isinstance(bias, tuple) else bias + by
        )
        return moved

    def first_layer(self, planes: Float[Tensor, "P C *S"]) -> Float[Tensor, "P H *S"]:
        slices = rearrange(self.sdf_network[0].weight, "H (P C) -> P H C", P=len(planes))
        return torch.einsum("phc,pc...->ph...", slices, planes)

    def distance_of_sum(
        self, summed: Float[Tensor, "*S H"], x: Float[Tensor, "*#S"], y: Float[Tensor, "*#S"], z: Float[Tensor, "*#S"]
    ) -> Float[Tensor, "*S"]:
        for layer in list(self.sdf_network)[1:]:
            summed = torch.relu_(summed) if isinstance(layer, nn.ReLU) else layer(summed)
        return summed[..., 0] + ball_at(x, y, z, self.sphere_bias)

    def distance_bounds(
        self,
        low: Float[Tensor, "A H"], high: Float[Tensor, "A H"],
        near: Float[Tensor, "A 3"], far: Float[Tensor, "A 3"],
    ) -> tuple[Float[Tensor, " A"], Float[Tensor, " A"]]:  # fmt: skip
        for layer in list(self.sdf_network)[1:]:
            low, high = linear_bounds(low, high, layer) if isinstance(layer, nn.Linear) else (low.relu(), high.relu())
        near_ball, far_ball = (
            ball_at(place[:, 0], place[:, 1], place[:, 2], self.sphere_bias) for place in (near, far)
        )
        return low[:, 0] + near_ball, high[:, 0] + far_ball


class SummedPlanes(Decoder):
    """The props decoder: the sum of the three readings is the first hidden layer, so a lattice costs no gather.

    One more hidden layer, then distance (times `gain`, plus |p| - sphere_bias, cut by the ball `ball`) and colour: red,
    green and blue, or the shares that the colours of a palette have. With a small gain a step of an optimiser moves the
    surface less, and what the layers before have learned is not drowned. With more contrast parts mix fewer colours.
    """

    def __init__(
        self, channels: int, hidden: int, sphere_bias: Bias, ball: float, color: ColorActivation, palette: int = 0,
        gain: float = 1.0, contrast: float = 1.0,
    ) -> None:  # fmt: skip
        super().__init__()
        self.hidden = nn.Linear(channels, hidden)
        self.out = nn.Linear(hidden, 1 + (palette or 3))
        nn.init.normal_(self.out.weight, std=0.02)
        nn.init.zeros_(self.out.bias)
        self.sphere_bias, self.ball, self.color = sphere_bias, ball, color
        self.palette, self.gain, self.contrast = palette, gain, contrast

    def heads(
        self, summed: Float[Tensor, "*B C"], points: Float[Tensor, "*#B 3"]
    ) -> tuple[Float[Tensor, "*B 1"], Float[Tensor, "*B K"]]:
        """Summed readings to distance and colour."""
        raw = self.out(F.silu(self.hidden(F.silu(summed))))
        distance = self.gain * raw[..., :1] + ball_distance(points, self.sphere_bias)
        sdf = torch.maximum(distance, ball_distance(points, self.ball))
        return sdf, self.shares(raw[..., 1:])

    def shares(self, raw: Float[Tensor, "*B K"]) -> Float[Tensor, "*B K"]:
        """Colour, or how much of each colour of the palette."""
        return torch.softmax(self.contrast * raw, dim=-1) if self.palette else activate_color(raw, self.color)

    def decode(
        self, readings: Float[Tensor, "B P C N"], points: Float[Tensor, "B N 3"]
    ) -> tuple[Float[Tensor, "B N 1"], Float[Tensor, "B N K"]]:
        return self.heads(rearrange(readings.sum(1), "B C N -> B N C"), points)

    def distance(self, readings: Float[Tensor, "B P C N"], points: Float[Tensor, "B N 3"]) -> Float[Tensor, "B N 1"]:
        return self.decode(readings, points)[0]

    def color_of(self, readings: Float[Tensor, "B P C N"]) -> Float[Tensor, "B N K"]:
        hidden = F.silu(self.hidden(F.silu(rearrange(readings.sum(1), "B C N -> B N C"))))
        return self.shares(F.linear(hidden, self.out.weight[1:], self.out.bias[1:]))

    def moved_outwards(self, by: float) -> "SummedPlanes":
        """Not beyond the ball that cuts it."""
        moved = deepcopy(self)
        with torch.no_grad():
            moved.out.bias[0] -= by / self.gain
        return moved

    def first_layer(self, planes: Float[Tensor, "P C *S"]) -> Float[Tensor, "P H *S"]:
        return planes

    def distance_of_sum(
        self, summed: Float[Tensor, "*S H"], x: Float[Tensor, "*#S"], y: Float[Tensor, "*#S"], z: Float[Tensor, "*#S"]
    ) -> Float[Tensor, "*S"]:
        hidden = F.silu(self.hidden(F.silu(summed, inplace=True)), inplace=True)
        said = F.linear(hidden, self.gain * self.out.weight[:1], self.gain * self.out.bias[:1])[..., 0]
        return torch.maximum(said + ball_at(x, y, z, self.sphere_bias), ball_at(x, y, z, self.ball))

    def distance_bounds(
        self,
        low: Float[Tensor, "A H"], high: Float[Tensor, "A H"],
        near: Float[Tensor, "A 3"], far: Float[Tensor, "A 3"],
    ) -> tuple[Float[Tensor, " A"], Float[Tensor, " A"]]:  # fmt: skip
        low, high = silu_bounds(*linear_bounds(*silu_bounds(low, high), self.hidden))
        low, high = (self.gain * end[:, 0] for end in linear_bounds(low, high, self.out))
        (near_ball, near_cut), (far_ball, far_cut) = (
            [ball_at(place[:, 0], place[:, 1], place[:, 2], bias) for bias in (self.sphere_bias, self.ball)]
            for place in (near, far)
        )
        return torch.maximum(low + near_ball, near_cut), torch.maximum(high + far_ball, far_cut)
