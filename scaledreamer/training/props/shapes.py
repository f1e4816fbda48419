"""Ground truth: every kind of prop as a union of exact solids with named parts.

Object space is the cube [-1, 1]^3, +Z up, front +X; every prop is centred on the origin and inside the unit ball.
Nothing that trains the generator imports this module.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Self

import torch
from einops import rearrange
from jaxtyping import Float, Int
from torch import Tensor

from scaledreamer.model.fields.base import Field, FieldSample
from scaledreamer.model.rendering.shading import shade
from scaledreamer.training.props.materials import appearance, grain
from scaledreamer.training.props.palette import PALETTE
from scaledreamer.training.props.solids import Distance, Points, Profile, box, cylinder, extrude, revolve, ring
from scaledreamer.training.props.world import Prop

Sizes = dict[str, Tensor]  # measures of S scenes, each [S, 1], in object units
Parts = dict[str, Distance]

JITTER = 0.06  # every measure of a drawn prop is its mid value times 1 + U(-JITTER, JITTER)
# What a size adjective does: factors for widths (w_), heights (h_) and thicknesses (t_).
STRETCH = {
    "plain": (1.0, 1.0, 1.0),
    "tall": (0.80, 1.30, 1.0),
    "wide": (1.25, 0.78, 1.0),
    "small": (0.68, 0.68, 0.68),
}
# The second colour of a kind when the prompt names none, and the paints that no prompt changes.
SECOND = {
    "barrel": "iron", "chest": "iron", "tree": "wood", "bottle": "glass", "mushroom": "cream",
    "chair": "cream", "table": "wood", "house": "cream", "mug": "cream", "rocket": "white",
}  # fmt: skip
FIXED = {"lock": "gold", "cork": "wood", "door": "wood", "window": "cyan"}

# Mid-range measures. The prefix says which factor of STRETCH applies.
MEASURES: dict[str, dict[str, float]] = {
    "barrel": {"h_all": 1.25, "w_end": 0.42, "w_bulge": 0.13, "t_band": 0.13},
    "chest": {"h_body": 0.46, "h_lid": 0.32, "w_depth": 0.80, "w_length": 1.14, "t_band": 0.13, "t_lock": 0.13},
    "tree": {"h_trunk": 0.32, "h_crown": 1.06, "w_crown": 0.54, "w_trunk": 0.13},
    "bottle": {"h_body": 0.84, "w_body": 0.46, "h_neck": 0.26, "w_neck": 0.17, "h_cork": 0.17, "w_cork": 0.12},
    "mushroom": {"h_stem": 0.66, "w_stem": 0.19, "h_cap": 0.46, "w_cap": 0.60},
    "chair": {"h_leg": 0.50, "h_back": 0.62, "w_seat": 0.84, "t_leg": 0.17, "t_seat": 0.14, "t_cushion": 0.07},
    "table": {"h_leg": 0.70, "w_depth": 0.86, "w_length": 1.16, "t_leg": 0.17, "t_top": 0.14},
    "house": {"h_wall": 0.54, "h_roof": 0.46, "w_wall": 0.86, "w_depth": 0.86, "t_eaves": 0.08, "h_door": 0.32},
    "mug": {"h_all": 0.92, "w_all": 0.44, "t_wall": 0.12, "h_handle": 0.34, "w_handle": 0.36, "t_handle": 0.13},
    "rocket": {"h_body": 0.88, "h_nose": 0.50, "w_body": 0.27, "w_fin": 0.26, "h_fin": 0.42, "t_fin": 0.11},
}


def arc(width: Tensor, height: Tensor, z: Tensor, start: float, end: float, steps: int) -> Profile:
    """Corners of an elliptic arc around (0, z) from angle `start` to `end` in radians, counter-clockwise from +u."""
    angles = [start + (end - start) * i / steps for i in range(steps + 1)]
    return [(width * math.cos(a), z + height * math.sin(a)) for a in angles]


def shift(points: Points, x: Tensor | float, y: Tensor | float, z: Tensor | float) -> Points:
    """The points as seen from a solid that sits at (x, y, z)."""
    moved = [points[..., i] - offset for i, offset in enumerate((x, y, z))]
    return torch.stack(moved, dim=-1)


def barrel(p: Points, m: Sizes) -> Parts:
    half = m["h_all"] / 2
    stations = [-1 + 2 * i / 8 for i in range(9)]
    body = revolve(p, [(m["w_end"] + m["w_bulge"] * (1 - s * s), s * half) for s in stations])
    band_radius, band = m["w_end"] + m["w_bulge"] * (1 - 0.58**2), m["t_band"] / 2
    inner, outer = band_radius - 0.04, band_radius + 0.035
    outline = [(inner, -band), (outer, -band), (outer, band), (inner, band)]
    folded = torch.stack([p[..., 0], p[..., 1], p[..., 2].abs() - 0.58 * half], dim=-1)
    return {"main": body, "second": ring(folded, outline)}


def chest(p: Points, m: Sizes) -> Parts:
    height = m["h_body"] + m["h_lid"]
    low, seam, half = -height / 2, m["h_body"] - height / 2, m["w_length"] / 2

    def outline(grow: float) -> Profile:
        depth = m["w_depth"] / 2 + grow
        return [(-depth, low - grow), (depth, low - grow), *arc(depth, m["h_lid"] + grow, seam, 0, math.pi, 10)]

    x, y, z = p.unbind(-1)
    bands = extrude(x, z, y.abs() - 0.56 * half, outline(0.03), m["t_band"] / 2)
    lock = m["t_lock"] / 2
    at_lock = shift(p, m["w_depth"] / 2, 0, seam)
    return {"main": extrude(x, z, y, outline(0), half), "second": bands, "lock": box(at_lock, (lock, lock, lock))}


def tree(p: Points, m: Sizes) -> Parts:
    height = m["h_trunk"] + m["h_crown"]
    low, top, radius = m["h_trunk"] - height / 2, height / 2, m["w_crown"]
    tier = m["h_crown"] / 3
    crown = [
        (radius, low), (radius * 0.50, low + tier), (radius * 0.82, low + tier),
        (radius * 0.36, low + 2 * tier), (radius * 0.64, low + 2 * tier), (radius * 0, top),
    ]  # fmt: skip
    trunk = cylinder(shift(p, 0, 0, low - m["h_trunk"] / 2 + 0.02), m["w_trunk"], m["h_trunk"] / 2 + 0.02)
    return {"main": revolve(p, crown), "second": trunk}


def bottle(p: Points, m: Sizes) -> Parts:
    height = m["h_body"] + m["h_neck"] + m["h_cork"]
    body_middle = m["h_body"] / 2 - height / 2
    shoulder = m["h_body"] - height / 2
    neck = cylinder(shift(p, 0, 0, shoulder + m["h_neck"] / 2 - 0.04), m["w_neck"], m["h_neck"] / 2 + 0.04)
    cork = cylinder(shift(p, 0, 0, height / 2 - m["h_cork"] / 2 - 0.02), m["w_cork"], m["h_cork"] / 2 + 0.02)
    body = revolve(p, arc(m["w_body"] / math.cos(0.2), m["h_body"] / 2 / 0.97, body_middle, -1.25, 1.4, 14))
    return {"main": body, "second": neck, "cork": cork}


def mushroom(p: Points, m: Sizes) -> Parts:
    height = m["h_stem"] + m["h_cap"]
    brim = m["h_stem"] - height / 2
    stem = revolve(p, [(m["w_stem"] * 1.12, -height / 2), (m["w_stem"] * 0.88, brim + 0.05)])
    cap = revolve(p, arc(m["w_cap"], m["h_cap"], brim, 0, math.pi / 2, 10))
    return {"main": cap, "second": stem}


def legs(p: Points, half_x: Tensor, half_y: Tensor, thickness: Tensor, low: Tensor, length: Tensor) -> Distance:
    """Four square legs whose outer faces stand at half_x and half_y; they reach a little into what they carry."""
    half = thickness / 2
    folded = torch.stack([p[..., 0].abs() - half_x + half, p[..., 1].abs() - half_y + half, p[..., 2]], dim=-1)
    return box(shift(folded, 0, 0, low + length / 2 + 0.02), (half, half, length / 2 + 0.02))


def chair(p: Points, m: Sizes) -> Parts:
    height = m["h_leg"] + m["t_seat"] + m["h_back"]
    low, half = -height / 2, m["w_seat"] / 2
    seat_top = low + m["h_leg"] + m["t_seat"]
    seat = box(shift(p, 0, 0, seat_top - m["t_seat"] / 2), (half, half, m["t_seat"] / 2))
    thickness = m["t_seat"] / 2
    back = box(
        shift(p, thickness - half, 0, seat_top + m["h_back"] / 2 - 0.02), (thickness, half, m["h_back"] / 2 + 0.02)
    )
    wood = torch.minimum(torch.minimum(seat, back), legs(p, half, half, m["t_leg"], low, m["h_leg"]))
    inset, puff = 0.8 * (half - thickness), m["t_cushion"] / 2
    return {
        "main": wood,
        "second": box(shift(p, thickness, 0, seat_top + puff - 0.01), (inset, half * 0.8, puff + 0.01)),
    }


def table(p: Points, m: Sizes) -> Parts:
    height = m["h_leg"] + m["t_top"]
    half_x, half_y = m["w_depth"] / 2, m["w_length"] / 2
    top = box(shift(p, 0, 0, height / 2 - m["t_top"] / 2), (half_x, half_y, m["t_top"] / 2))
    return {"main": top, "second": legs(p, half_x * 0.92, half_y * 0.92, m["t_leg"], -height / 2, m["h_leg"])}


def house(p: Points, m: Sizes) -> Parts:
    height = m["h_wall"] + m["h_roof"]
    low, eaves = -height / 2, m["h_wall"] - height / 2
    half_x, half_y = m["w_depth"] / 2, m["w_wall"] / 2
    walls = box(shift(p, 0, 0, low + m["h_wall"] / 2 + 0.02), (half_x, half_y, m["h_wall"] / 2 + 0.02))
    over = m["t_eaves"]
    gable = [(-half_y - over, eaves), (half_y + over, eaves), (half_y * 0, height / 2)]
    roof = extrude(p[..., 1], p[..., 2], p[..., 0], gable, half_x + over)
    door_half = m["h_door"] / 2
    door = box(shift(p, half_x, 0, low + door_half), (door_half * 0 + 0.03, 0.6 * door_half, door_half))
    return {"main": roof, "second": walls, "door": door}


def mug(p: Points, m: Sizes) -> Parts:
    radius, half, wall = m["w_all"], m["h_all"] / 2, m["t_wall"]
    p = shift(p, 0, -0.4 * m["w_handle"], 0)  # the handle is at +Y; centre the whole
    inner, floor, lining = radius - wall, wall * 1.5 - half, wall * 0.4
    cup = revolve(p, [(radius, -half), (radius, half), (inner, half), (inner, floor)])
    rim = half - 0.5 * wall
    inside = revolve(p, [(inner, floor - 0.01), (inner, rim), (inner - lining, rim), (inner - lining, floor + lining)])
    long, high, thick = m["w_handle"], m["h_handle"], m["t_handle"]
    outer_arc = arc(long, high, half * 0, -math.pi / 2, math.pi / 2, 8)
    inner_arc = arc(long - thick, high - thick, half * 0, math.pi / 2, -math.pi / 2, 8)
    x, y, z = p.unbind(-1)
    handle = extrude(y - radius + wall / 2, z, x, [*outer_arc, *inner_arc], thick * 0.6)
    return {"main": torch.minimum(cup, handle), "second": inside}


def rocket(p: Points, m: Sizes) -> Parts:
    height, radius = m["h_body"] + m["h_nose"], m["w_body"]
    low, shoulder = -height / 2, m["h_body"] - height / 2
    body = revolve(p, [(radius * 0.75, low + 0.05), (radius, low + m["h_body"] * 0.4), (radius, shoulder)])
    nose_arc = [
        (radius * 1.04 * math.cos(a) ** 0.8, shoulder + m["h_nose"] * math.sin(a)) for a in (0, 0.3, 0.6, 0.9, 1.2)
    ]
    nose = revolve(p, [*nose_arc, (radius * 0, height / 2)])
    diagonal = (p[..., :2].sum(-1).abs() / math.sqrt(2), (p[..., 0] - p[..., 1]).abs() / math.sqrt(2))
    along, across = torch.maximum(*diagonal), torch.minimum(*diagonal)  # four fins, folded into one
    tip = radius * 0.8 + m["w_fin"]
    fin = [(radius * 0.5, low + 0.07), (tip, low), (tip, low + 0.4 * m["h_fin"]), (radius * 0.9, low + m["h_fin"])]
    fins = extrude(along, p[..., 2], across, fin, m["t_fin"] / 2)
    at_pane = torch.stack([p[..., 1], p[..., 2] - shoulder + 0.7 * radius, p[..., 0] - radius], dim=-1)
    pane = cylinder(at_pane, radius * 0.48, radius * 0 + 0.03)
    return {"main": torch.minimum(nose, fins), "second": body, "window": pane}


BUILDERS: dict[str, Callable[[Points, Sizes], Parts]] = {
    "barrel": barrel, "chest": chest, "tree": tree, "bottle": bottle, "mushroom": mushroom,
    "chair": chair, "table": table, "house": house, "mug": mug, "rocket": rocket,
}  # fmt: skip
PART_NAMES: dict[str, tuple[str, ...]] = {
    "barrel": ("main", "second"), "chest": ("main", "second", "lock"), "tree": ("main", "second"),
    "bottle": ("main", "second", "cork"), "mushroom": ("main", "second"), "chair": ("main", "second"),
    "table": ("main", "second"), "house": ("main", "second", "door"), "mug": ("main", "second"),
    "rocket": ("main", "second", "window"),
}  # fmt: skip


@dataclass(frozen=True)
class Shape:
    """S scenes of one kind: where matter is, and which part it is."""

    kind: str
    measures: Sizes

    def parts(self, points: Points) -> Float[Tensor, "P S N"]:
        """Signed distance to each part, in the order of PART_NAMES; negative inside."""
        built = BUILDERS[self.kind](points, self.measures)
        return torch.stack([built[name] for name in PART_NAMES[self.kind]])

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
    if kind not in MEASURES:
        raise ValueError(f"unknown kind {kind!r}; choose one of {sorted(MEASURES)}")
    if size not in STRETCH:
        raise ValueError(f"unknown size {size!r}; choose one of {sorted(STRETCH)}")
    factors = dict(zip("wht", STRETCH[size], strict=True))
    measures = {}
    for name, middle in MEASURES[kind].items():
        spread = torch.zeros(scenes, 1) if rng is None else torch.rand(scenes, 1, generator=rng) * 2 - 1
        measures[name] = middle * factors[name[0]] * (1 + JITTER * spread)
    return Shape(kind, measures)


def paints(prop: Prop) -> Float[Tensor, "P 3"]:
    """The sRGB colour of each part of a prop, in the order of PART_NAMES."""
    second = prop.second or SECOND[prop.kind]
    names = [{"main": prop.color, "second": second}.get(part) or FIXED[part] for part in PART_NAMES[prop.kind]]
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
