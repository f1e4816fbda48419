"""A field on the nodes of a cubic lattice, asked block by block; a field that knows a faster way gives its own."""

from abc import ABC, abstractmethod
from collections.abc import Callable

import torch
from jaxtyping import Float, Int64
from torch import Tensor

Axes = tuple[Float[Tensor, " X"], Float[Tensor, " Y"], Float[Tensor, " Z"]]  # where nodes lie, object units
PointSDF = Callable[[Float[Tensor, "1 N 3"]], Float[Tensor, "B N 1"]]  # signed distance at points
Bounds = tuple[Float[Tensor, " A"], Float[Tensor, " A"]]  # the distance at every node of a block lies between these


class Nodes(ABC):
    """Scene 0 of a field on a lattice; A blocks are named by the indices along their three sides."""

    axes: Axes

    @abstractmethod
    def sdf(
        self, i: Int64[Tensor, "A X"], j: Int64[Tensor, "A Y"], k: Int64[Tensor, "A Z"]
    ) -> Float[Tensor, "A X Y Z"]:
        """Signed distance at the nodes of A blocks."""

    def places(
        self, i: Int64[Tensor, "A X"], j: Int64[Tensor, "A Y"], k: Int64[Tensor, "A Z"]
    ) -> tuple[Float[Tensor, "A X 1 1"], Float[Tensor, "A 1 Y 1"], Float[Tensor, "A 1 1 Z"]]:
        """Coordinates of the nodes of A blocks, as they broadcast."""
        x, y, z = self.axes[0][i], self.axes[1][j], self.axes[2][k]
        return x[:, :, None, None], y[:, None, :, None], z[:, None, None, :]

    def bounds(self, blocks: Int64[Tensor, "A 3"], size: int) -> Bounds | None:
        """Proved bounds of the distance on blocks, None where none are known.

        Along an axis block b of `size` cells holds the nodes size b - 1 ... size b + size - 1 that exist; size is 4, 8,
        ...
        """
        return None


class PlainNodes(Nodes):
    """Every node is a point like any other."""

    def __init__(self, at_points: PointSDF, axes: Axes) -> None:
        self.at_points, self.axes = at_points, axes

    def sdf(
        self, i: Int64[Tensor, "A X"], j: Int64[Tensor, "A Y"], k: Int64[Tensor, "A Z"]
    ) -> Float[Tensor, "A X Y Z"]:
        points = torch.stack(torch.broadcast_tensors(*self.places(i, j, k)), dim=-1)
        return self.at_points(points.reshape(1, -1, 3))[0].float().reshape(points.shape[:-1])


def block_ends(axes: Axes, blocks: Int64[Tensor, "A 3"], size: int) -> Float[Tensor, "A 3 2"]:
    """Where blocks of `size` cells begin and end along each axis."""
    sides = zip(blocks.unbind(1), axes, strict=True)
    return torch.stack([axis[block_range(side, size, len(axis) - 1, size)] for side, axis in sides], dim=1)


def block_range(numbers: Int64[Tensor, "*A"], size: int, last: int, step: int = 1) -> Int64[Tensor, "*A S"]:
    """Indices of every `step`-th node along blocks of `size` cells; those beyond the lattice become its border."""
    along = torch.arange(0, size + 1, step, device=numbers.device)
    return (numbers[..., None] * size - 1 + along).clamp(0, last)
