"""What a kind of prop is made of, and the helpers that several kinds share.

Object space is the cube [-1, 1]^3, +Z up, front +X; every prop is centred on the origin and inside the ball of radius
0.98 in each of its sizes.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from scaledreamer.training.props.solids import Distance, Points, Profile, box

Sizes = dict[str, Tensor]  # measures of S scenes, each [S, 1], in object units
Parts = dict[str, Distance]


@dataclass(frozen=True)
class Kind:
    """One kind of prop as a union of exact solids with named parts.

    The first letter of a measure says how size adjectives stretch it: w_ with the width, h_ with the height, t_ only
    with the whole.
    """

    measures: Mapping[str, float]  # mid-range, object units
    build: Callable[[Points, Sizes], Parts]
    second: str  # the paint of the part "second" where the prompt names none
    fixed: Mapping[str, str] = field(default_factory=dict)  # further parts, and the paints that no prompt changes

    @property
    def parts(self) -> tuple[str, ...]:
        """Names in the order of their indices."""
        return ("main", "second", *self.fixed)


def shift(points: Points, x: Tensor | float, y: Tensor | float, z: Tensor | float) -> Points:
    """The points as seen from a solid that sits at (x, y, z)."""
    moved = [points[..., i] - offset for i, offset in enumerate((x, y, z))]
    return torch.stack(moved, dim=-1)


def mirrored(points: Points, axes: str) -> Points:
    """The points folded into the half where the named axes are positive, for solids that have a twin there."""
    return torch.stack(
        [points[..., i].abs() if name in axes else points[..., i] for i, name in enumerate("xyz")], dim=-1
    )


def union(first: Distance, *others: Distance) -> Distance:
    """The nearest of all."""
    for other in others:
        first = torch.minimum(first, other)
    return first


def block(points: Points, low: tuple[Tensor, Tensor, Tensor], high: tuple[Tensor, Tensor, Tensor]) -> Distance:
    """A box between two corners."""
    middle = [(a + b) / 2 for a, b in zip(low, high, strict=True)]
    half = [(b - a) / 2 for a, b in zip(low, high, strict=True)]
    return box(shift(points, middle[0], middle[1], middle[2]), (half[0], half[1], half[2]))


def arc(width: Tensor, height: Tensor, z: Tensor, start: float, end: float, steps: int) -> Profile:
    """Corners of an elliptic arc around (0, z) from angle `start` to `end` in radians, counter-clockwise from +u."""
    angles = [start + (end - start) * i / steps for i in range(steps + 1)]
    return [(width * math.cos(a), z + height * math.sin(a)) for a in angles]


def legs(p: Points, half_x: Tensor, half_y: Tensor, thickness: Tensor, low: Tensor, length: Tensor) -> Distance:
    """Four square legs whose outer faces stand at half_x and half_y; they reach a little into what they carry."""
    half = thickness / 2
    folded = torch.stack([p[..., 0].abs() - half_x + half, p[..., 1].abs() - half_y + half, p[..., 2]], dim=-1)
    return box(shift(folded, 0, 0, low + length / 2 + 0.02), (half, half, length / 2 + 0.02))
