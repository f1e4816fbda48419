"""StretchedField: another field in a space whose axes every scene scales for itself.

What a size adjective does is the same for all things; said apart from the thing, it need not be learned for each.
"""

from dataclasses import replace
from typing import Self

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from scaledreamer.model.fields.base import Field, FieldSample, scenes
from scaledreamer.model.fields.nodes import Axes, Bounds, Nodes


class StretchedField(Field):
    """sdf(p) = s sdf_inner(p / stretch), where s is the geometric mean of the three factors: an exact distance where
    they are equal, and nearly one where they are not. Factors of at most 1 keep what lies in the inner box in the box.
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
        return self.scaled(self.inner.query(points / self.stretch[:, None]))

    def sdf(self, points: Float[Tensor, "B N 3"]) -> Float[Tensor, "B N 1"]:
        return self.scale * self.inner.sdf(points / self.stretch[:, None])

    def rgb(self, points: Float[Tensor, "B N 3"]) -> Float[Tensor, "B N 3"]:
        return self.inner.rgb(points / self.stretch[:, None])

    def lattice(self, x: Float[Tensor, " X"], y: Float[Tensor, " Y"], z: Float[Tensor, " Z"]) -> FieldSample:
        """Scene by scene, for each has axes of its own."""
        made = [
            self.inner[scene].lattice(x / factors[0], y / factors[1], z / factors[2])
            for scene, factors in enumerate(self.stretch)
        ]
        density = [one.density for one in made if one.density is not None]
        return self.scaled(
            FieldSample(
                torch.cat([one.sdf for one in made]),
                torch.cat([one.rgb for one in made]),
                torch.cat(density) if density else None,
            )
        )

    def scaled(self, inner: FieldSample) -> FieldSample:
        """What the inner field says, in this field's units."""
        density = None if inner.density is None else inner.density / self.scale
        return replace(inner, sdf=self.scale * inner.sdf, density=density)

    def nodes(self, axes: Axes) -> Nodes:
        x, y, z = (axis / factor for axis, factor in zip(axes, self.stretch[0], strict=True))
        return StretchedNodes(self.inner.nodes((x, y, z)), self.scale[0, 0], axes)


class StretchedNodes(Nodes):
    """The nodes of the inner field, with their distances in the outer field's units."""

    def __init__(self, inner: Nodes, scale: Float[Tensor, " 1"], axes: Axes) -> None:
        self.inner, self.scale, self.axes = inner, scale, axes

    def sdf(
        self, i: Int64[Tensor, "A X"], j: Int64[Tensor, "A Y"], k: Int64[Tensor, "A Z"]
    ) -> Float[Tensor, "A X Y Z"]:
        return self.scale * self.inner.sdf(i, j, k)

    def bounds(self, blocks: Int64[Tensor, "A 3"], size: int) -> Bounds | None:
        found = self.inner.bounds(blocks, size)
        return None if found is None else (self.scale * found[0], self.scale * found[1])
