"""Small fields whose surfaces are known exactly."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Self

import torch
from jaxtyping import Float
from torch import Tensor

from scaledreamer.model.fields.base import Field, FieldSample

Shape = Callable[[Float[Tensor, "N 3"]], Float[Tensor, " N"]]


@dataclass(frozen=True)
class Analytic(Field):
    """One scene a shape; the colour is a ramp over the box, so every place has its own."""

    shapes: tuple[Shape, ...]
    bound: float = 1.0

    def query(self, points: Float[Tensor, "B N 3"]) -> FieldSample:
        return FieldSample(self.sdf(points), ramp(points, self.bound))

    def sdf(self, points: Float[Tensor, "B N 3"]) -> Float[Tensor, "B N 1"]:
        return torch.stack([shape(p) for shape, p in zip(self.shapes, points, strict=True)])[..., None]

    def __len__(self) -> int:
        return len(self.shapes)

    def __getitem__(self, index: int | slice) -> Self:
        chosen = self.shapes[index] if isinstance(index, slice) else (self.shapes[index],)
        return type(self)(chosen, self.bound)


def ramp(points: Float[Tensor, "*S 3"], bound: float = 1.0) -> Float[Tensor, "*S 3"]:
    """sRGB colour at a place: dark at one corner of the box, bright at the other."""
    return (points / bound + 1) / 2


def ball(x: float = 0, y: float = 0, z: float = 0, radius: float = 0.5) -> Shape:
    return lambda p: (p - torch.tensor([x, y, z])).norm(dim=-1) - radius


def box(low: tuple[float, float, float], high: tuple[float, float, float]) -> Shape:
    def sdf(p: Float[Tensor, "N 3"]) -> Float[Tensor, " N"]:
        middle, half = (torch.tensor(low) + torch.tensor(high)) / 2, (torch.tensor(high) - torch.tensor(low)) / 2
        beyond = (p - middle).abs() - half
        return beyond.clamp(min=0).norm(dim=-1) + beyond.amax(dim=-1).clamp(max=0)

    return sdf


def torus(radius: float = 0.6, thickness: float = 0.04) -> Shape:
    return lambda p: torch.hypot(p[:, :2].norm(dim=-1) - radius, p[:, 2]) - thickness


def cone(length: float = 1.2, radius: float = 0.4) -> Shape:
    """Its tip points along +X, its flat end is at -length/2, and it is shifted by 0.2 along +Z."""

    def sdf(p: Float[Tensor, "N 3"]) -> Float[Tensor, " N"]:
        across = torch.hypot(p[:, 1], p[:, 2] - 0.2)
        side = (across - radius * (length / 2 - p[:, 0]) / length) / math.hypot(1, radius / length)
        return torch.maximum(side, -length / 2 - p[:, 0])

    return sdf


def bumpy(p: Float[Tensor, "N 3"]) -> Float[Tensor, " N"]:
    """A ball with waves: its distance is only roughly one, and steeper than one."""
    return p.norm(dim=-1) - 0.6 + 0.12 * torch.sin(9 * p[:, 0]) * torch.sin(8 * p[:, 1]) * torch.sin(7 * p[:, 2])


def union(*shapes: Shape) -> Shape:
    return lambda p: torch.stack([shape(p) for shape in shapes]).amin(dim=0)


def scaled(shape: Shape, factor: float) -> Shape:
    """The same surface with a distance that grows `factor` times as fast."""
    return lambda p: factor * shape(p)


def noise(p: Float[Tensor, "N 3"]) -> Float[Tensor, " N"]:
    """Waves in all directions: many sheets, ambiguous cells, and a surface that leaves through every side."""
    waves = torch.tensor([[7.0, 3, 1], [-2, 8, 3], [4, -3, 9], [9, 9, -8]])
    return (torch.sin(p @ waves.T + torch.tensor([0.1, 1.7, 2.9, 4.2]))).sum(dim=-1) / 8 + 0.05


FIELDS: dict[str, Field] = {
    "an off-centre ball": Analytic((ball(0.2, -0.1, 0.15),)),
    "a box that reaches a corner of the cube": Analytic((box((-1.2, -0.3, 0.1), (0.4, 1.4, 1.3)),)),
    "a box with its sides on lattice points": Analytic((box((-0.5, -0.5, -0.5), (0.5, 0.5, 0.5)),)),
    "a step on lattice points in a steep field": Analytic(
        (scaled(union(box((-1, -1, -1), (1, 1, 0)), box((-1, -1, -1), (0, 1, 1))), 50.0),), bound=2.0
    ),
    "two balls far apart": Analytic((union(ball(-0.6, 0, 0, 0.2), ball(0.6, 0.3, 0.3, 0.1)),)),
    "a thin torus": Analytic((torus(),)),
    "a bumpy ball": Analytic((bumpy,)),
    "a bumpy ball in a steep field": Analytic((scaled(bumpy, 50.0),)),
    "a bumpy ball in a flat field": Analytic((scaled(bumpy, 0.05),)),
    "a ball in a bigger box": Analytic((ball(0.3, 0, 0, 1.5),), bound=2.0),
    "everything inside": Analytic((lambda p: p.norm(dim=-1) - 9,)),
    "waves": Analytic((noise,)),
}
