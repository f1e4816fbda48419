"""Ground truth: every prop as a shape with random or mid-range proportions, and as a field.

Nothing that trains the generator imports this module.
"""

from dataclasses import dataclass
from typing import Self

import torch
from einops import rearrange
from jaxtyping import Float, Int
from torch import Tensor

from scaledreamer.model.fields.base import Field, FieldSample
from scaledreamer.model.rendering.shading import shade
from scaledreamer.training.props.kinds import KINDS
from scaledreamer.training.props.kinds.base import Sizes
from scaledreamer.training.props.materials import appearance, grain
from scaledreamer.training.props.palette import PALETTE
from scaledreamer.training.props.solids import Distance, Points
from scaledreamer.training.props.world import Prop

JITTER = 0.06  # every measure of a drawn prop is its mid value times 1 + U(-JITTER, JITTER)
# What a size adjective does: factors for widths (w_), heights (h_) and thicknesses (t_).
STRETCH = {
    "plain": (1.0, 1.0, 1.0),
    "tall": (0.80, 1.30, 1.0),
    "wide": (1.25, 0.78, 1.0),
    "small": (0.68, 0.68, 0.68),
}


@dataclass(frozen=True)
class Shape:
    """S scenes of one kind: where matter is, and which part it is."""

    kind: str
    measures: Sizes

    def parts(self, points: Points) -> Float[Tensor, "P S N"]:
        """Signed distance to each part, in the order of the kind's parts; negative inside."""
        kind = KINDS[self.kind]
        built = kind.build(points, self.measures)
        return torch.stack([built[name] for name in kind.parts])

    def sdf(self, points: Points) -> Distance:
        """Signed distance to the union: exact outside and on the surface, never too deep inside."""
        return self.parts(points).amin(0)

    def part(self, points: Points) -> Int[Tensor, "S N"]:
        """Index of the part that a point is in, or nearest to."""
        return self.parts(points).argmin(0)

    def normal(self, points: Points, eps: float = 2e-3) -> Points:
        """Unit outward normals by central differences over a tetrahedron."""
        corners = torch.tensor([[1.0, -1, -1], [-1, -1, 1], [-1, 1, -1], [1, 1, 1]])
        stencil = rearrange(points[:, :, None] + eps * corners, "S N K C -> S (N K) C")
        around = rearrange(self.sdf(stencil), "S (N K) -> S N K", K=4)
        return torch.nn.functional.normalize(around @ corners, dim=-1)


def shape(kind: str, size: str = "plain", scenes: int = 1, rng: torch.Generator | None = None) -> Shape:
    """`scenes` shapes of one kind and size: mid-range proportions, or random ones where `rng` is given."""
    if kind not in KINDS:
        raise ValueError(f"unknown kind {kind!r}; choose one of {sorted(KINDS)}")
    if size not in STRETCH:
        raise ValueError(f"unknown size {size!r}; choose one of {sorted(STRETCH)}")
    factors = dict(zip("wht", STRETCH[size], strict=True))
    measures = {}
    for name, middle in KINDS[kind].measures.items():
        spread = torch.zeros(scenes, 1) if rng is None else torch.rand(scenes, 1, generator=rng) * 2 - 1
        measures[name] = middle * factors[name[0]] * (1 + JITTER * spread)
    return Shape(kind, measures)


def paints(prop: Prop) -> Float[Tensor, "P 3"]:
    """The sRGB colour of each part of a prop, in the order of the kind's parts."""
    kind = KINDS[prop.kind]
    names = [prop.color, prop.second or kind.second, *kind.fixed.values()]
    return torch.tensor([PALETTE[name] for name in names])


@dataclass(frozen=True)
class TrueField(Field):
    """The ground truth of one prop as a field of one scene."""

    prop: Prop
    shape: Shape
    bound: float = 1.0

    def __len__(self) -> int:
        return 1

    def __getitem__(self, index: int | slice) -> Self:
        return self

    def sdf(self, points: Float[Tensor, "1 N 3"]) -> Float[Tensor, "1 N 1"]:
        return self.shape.sdf(points)[..., None]

    def query(self, points: Float[Tensor, "1 N 3"]) -> FieldSample:
        """Distance, and the colour of the part that a point is in or nearest to, as a renderer lights it: dull."""
        parts = self.shape.parts(points)
        part = parts.argmin(0)
        color = paints(self.prop)[part]
        if self.prop.material != "any":
            lit = shade(self.shape.normal(points))[..., 0]
            seen = appearance(self.prop.material, color, lit, grain(points), points[..., 2])
            color = torch.where((part == 0)[..., None], (seen / lit[..., None]).clamp(0, 1), color)
        return FieldSample(parts.amin(0)[..., None], color)


def truth(prop: Prop, rng: torch.Generator | None = None) -> TrueField:
    """The ground truth of a prop (random proportions where `rng` is given)."""
    return TrueField(prop, shape(prop.kind, prop.size, rng=rng))
