"""The field interface: a function of space, B scenes at once, that says where matter is and what colour it has."""

import operator
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Self

import torch
from jaxtyping import Float
from torch import Tensor

from scaledreamer.model.fields.nodes import Axes, Nodes, PlainNodes

FINITE_DIFFERENCE = 0.01  # object units, the official step


@dataclass(frozen=True)
class FieldSample:
    """What a field says at points."""

    sdf: Float[Tensor, "B N 1"]  # signed distance in object units, negative inside
    rgb: Float[Tensor, "B N 3"]  # sRGB-encoded; official colour activations may leave [0, 1] by 0.001
    density: Float[Tensor, "B N 1"] | None = None  # per object unit, of a field that stores one; else from the distance


class Field(ABC):
    """B scenes in the cube [-bound, bound]^3 of object space (+Z up, front +X)."""

    bound: float

    @property
    def device(self) -> torch.device:
        """Where points must be; a field that stores tensors says where they are."""
        return torch.device("cpu")

    @abstractmethod
    def query(self, points: Float[Tensor, "B N 3"]) -> FieldSample:
        """Signed distance and colour at points; outside the box the stored features read zero, nothing is clamped."""

    @abstractmethod
    def sdf(self, points: Float[Tensor, "B N 3"]) -> Float[Tensor, "B N 1"]:
        """Signed distance alone."""

    def rgb(self, points: Float[Tensor, "B N 3"]) -> Float[Tensor, "B N 3"]:
        """sRGB colour alone; a field may know a faster way."""
        return self.query(points).rgb

    @abstractmethod
    def __len__(self) -> int:
        """B, how many scenes."""

    @abstractmethod
    def __getitem__(self, index: int | slice) -> Self:
        """Some of the scenes; an integer gives a field of one scene, and IndexError beyond the last."""

    def lattice(self, x: Float[Tensor, " X"], y: Float[Tensor, " Y"], z: Float[Tensor, " Z"]) -> FieldSample:
        """The field at every node of a lattice, nodes in C order (z fastest); a field may know a faster way."""
        nodes = torch.stack(torch.meshgrid(x, y, z, indexing="ij"), dim=-1).reshape(1, -1, 3)
        return self.query(nodes.expand(len(self), -1, -1))

    def nodes(self, axes: Axes) -> Nodes:
        """Scene 0 on the nodes of the lattice of three axes; a field may know a faster way than by points."""
        return PlainNodes(self[0].sdf, axes)


def scenes(index: int | slice, count: int) -> slice:
    """One scene, or some, of `count` as a slice. Raises IndexError beyond the last, so that a field can be iterated."""
    if isinstance(index, slice):
        return index
    place = range(count)[operator.index(index)]
    return slice(place, place + 1)


def sdf_gradient(
    field: Field, points: Float[Tensor, "B N 3"], sdf: Float[Tensor, "B N 1"], step: float = FINITE_DIFFERENCE
) -> Float[Tensor, "B N 3"]:
    """Forward differences of the distance. As in the official code only the shifted point is clamped to the box, so
    outside it the result says nothing.
    """
    shifted = points[:, :, None, :] + step * torch.eye(3, device=points.device, dtype=points.dtype)
    moved = field.sdf(shifted.clamp(-field.bound, field.bound).flatten(1, 2))
    return (moved.reshape(points.shape) - sdf) / step
