"""StretchedField: another field in a space whose axes every scene scales for itself.

What a size adjective does is the same for all things; said apart from the thing, it need not be learned for each.
"""

from dataclasses import replace
from typing import Self

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from scaledreamer.model.fields.base import Field, FieldSample, scenes
from scaledreamer.model.fields.decoders import ball_at, ball_distance
from scaledreamer.model.fields.intervals import extent
from scaledreamer.model.fields.nodes import Axes, Bounds, Nodes, block_ends

BALL = 0.98  # of the box: no stretch carries matter out of it


class StretchedField(Field):
    """sdf(p) = s sdf_inner(p / stretch), where s is the geometric mean of the three factors: an exact distance where
    they are equal, and nearly one where they are not. What would leave the box is cut by a ball in it.
    """

    def __init__(self, inner: Field, stretch: Float[Tensor, "B 3"]) -> None:
        self.inner, self.stretch, self.bound = inner, stretch, inner.bound

    @property
    def device(self) -> torch.device:
        return self.inner.device

    @property
    def scale(self) -> Float[Tensor, "B 1 1"]:
        """Inner distances to distances."""
        return self.stretch.prod(1)[:, None, None] ** (1 / 3)

    def __len__(self) -> int:
        return len(self.inner)

    def __getitem__(self, index: int | slice) -> Self:
        return type(self)(self.inner[index], self.stretch[scenes(index, len(self))])

    def query(self, points: Float[Tensor, "B N 3"]) -> FieldSample:
        return self.outer(self.inner.query(points / self.stretch[:, None]), points)

    def sdf(self, points: Float[Tensor, "B N 3"]) -> Float[Tensor, "B N 1"]:
        return self.cut(self.scale * self.inner.sdf(points / self.stretch[:, None]), points)

    def rgb(self, points: Float[Tensor, "B N 3"]) -> Float[Tensor, "B N 3"]:
        return self.inner.rgb(points / self.stretch[:, None])

    def lattice(self, x: Float[Tensor, " X"], y: Float[Tensor, " Y"], z: Float[Tensor, " Z"]) -> FieldSample:
        """Scene by scene, for each has axes of its own."""
        made = [
            self.inner[scene].lattice(x / factors[0], y / factors[1], z / factors[2])
            for scene, factors in enumerate(self.stretch)
        ]
        density = [one.density for one in made if one.density is not None]
        inner = FieldSample(
            torch.cat([one.sdf for one in made]),
            torch.cat([one.rgb for one in made]),
            torch.cat(density) if density else None,
        )
        return self.outer(inner, torch.stack(torch.meshgrid(x, y, z, indexing="ij"), dim=-1).reshape(1, -1, 3))

    def outer(self, inner: FieldSample, points: Float[Tensor, "#B N 3"]) -> FieldSample:
        """What the inner field says, in this field's units and ball; a density has no surface to cut."""
        density = None if inner.density is None else inner.density / self.scale
        return replace(inner, sdf=self.cut(self.scale * inner.sdf, points), density=density)

    def cut(self, sdf: Float[Tensor, "B N 1"], points: Float[Tensor, "#B N 3"]) -> Float[Tensor, "B N 1"]:
        """Without what lies outside the ball."""
        return torch.maximum(sdf, ball_distance(points, BALL * self.bound))

    def nodes(self, axes: Axes) -> Nodes:
        x, y, z = (axis / factor for axis, factor in zip(axes, self.stretch[0], strict=True))
        return StretchedNodes(self.inner.nodes((x, y, z)), self.scale[0, 0], BALL * self.bound, axes)


class StretchedNodes(Nodes):
    """The nodes of the inner field, with their distances in the outer field's units and ball."""

    def __init__(self, inner: Nodes, scale: Float[Tensor, " 1"], ball: float, axes: Axes) -> None:
        self.inner, self.scale, self.ball, self.axes = inner, scale, ball, axes

    def sdf(
        self, i: Int64[Tensor, "A X"], j: Int64[Tensor, "A Y"], k: Int64[Tensor, "A Z"]
    ) -> Float[Tensor, "A X Y Z"]:
        return torch.maximum(self.scale * self.inner.sdf(i, j, k), ball_at(*self.places(i, j, k), self.ball))

    def bounds(self, blocks: Int64[Tensor, "A 3"], size: int) -> Bounds | None:
        found = self.inner.bounds(blocks, size)
        if found is None:
            return None
        near, far = (
            ball_at(place[:, 0], place[:, 1], place[:, 2], self.ball)
            for place in extent(block_ends(self.axes, blocks, size))
        )
        return torch.maximum(self.scale * found[0], near), torch.maximum(self.scale * found[1], far)
