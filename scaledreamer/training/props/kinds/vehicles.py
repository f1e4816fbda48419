"""Car and sailboat, heading for +X, and the truck that no training sees."""

import torch

from scaledreamer.training.props.kinds.base import Kind, Parts, Sizes, block, shift
from scaledreamer.training.props.solids import Distance, Points, cylinder, extrude


def wheels(p: Points, m: Sizes, at: torch.Tensor, side: torch.Tensor, low: torch.Tensor) -> Distance:
    """Four wheels that stand on `low`, at +-`at` along x, their outer faces at +-`side`."""
    radius, half = m["t_wheel"] / 2, m["t_tyre"] / 2
    folded = torch.stack([p[..., 0].abs() - at, p[..., 2] - low - radius, p[..., 1].abs() - side + half], -1)
    return cylinder(folded, radius, half)


def car(p: Points, m: Sizes) -> Parts:
    high = 0.5 * m["t_wheel"] + m["h_body"] + m["h_cabin"]
    low, long, wide = -high / 2, m["w_long"], m["w_wide"]
    floor = low + 0.5 * m["t_wheel"]
    waist = floor + m["h_body"]
    body = block(p, (-long, -wide, floor), (long, wide, waist))
    glass = [
        (-0.72 * long, waist - 0.02),
        (0.42 * long, waist - 0.02),
        (0.12 * long, high / 2),
        (-0.56 * long, high / 2),
    ]
    cabin = extrude(p[..., 0], p[..., 2], p[..., 1], glass, 0.84 * wide)
    return {"main": body, "second": cabin, "wheels": wheels(p, m, 0.58 * long, wide + 0.035, low)}


def boat(p: Points, m: Sizes) -> Parts:
    high = m["h_hull"] + m["h_mast"]
    low, long, wide, nothing = -high / 2, m["w_long"], m["w_wide"], m["w_long"] * 0
    deck = low + m["h_hull"]
    plan = [(long, nothing), (0.45 * long, wide), (-0.9 * long, 0.86 * wide), (-0.9 * long, -0.86 * wide),
            (0.45 * long, -wide)]  # fmt: skip
    hull = extrude(p[..., 0], p[..., 1], p[..., 2] - (low + deck) / 2, plan, m["h_hull"] / 2)
    at, thick = 0.12 * long, m["t_mast"] / 2
    mast = cylinder(shift(p, at, 0, (deck + high / 2) / 2 - 0.02), thick, (high / 2 - deck) / 2 + 0.02)
    foot = deck + 0.1
    cloth = [(at - 0.02, foot), (at - 0.02, high / 2 - 0.05), (at - m["w_sail"], foot)]
    sail = extrude(p[..., 0], p[..., 2], p[..., 1], cloth, m["t_sail"] / 2)
    return {"main": hull, "second": sail, "mast": mast}


def truck(p: Points, m: Sizes) -> Parts:
    high = 0.5 * m["t_wheel"] + m["h_cargo"]
    low, long, wide = -high / 2, m["w_long"], m["w_wide"]
    floor = low + 0.5 * m["t_wheel"]
    cargo = block(p, (-long, -wide, floor), (0.3 * long, wide, high / 2))
    cab = block(p, (0.36 * long, -0.94 * wide, floor), (long, 0.94 * wide, floor + 0.72 * m["h_cargo"]))
    chassis = block(p, (-long, -0.6 * wide, floor), (long, 0.6 * wide, floor + 0.1))
    return {
        "main": torch.minimum(cargo, chassis), "second": cab,
        "wheels": wheels(p, m, 0.62 * long, wide + 0.035, low),
    }  # fmt: skip


KINDS: dict[str, Kind] = {
    "car": Kind(
        {"w_long": 0.60, "w_wide": 0.29, "h_body": 0.26, "h_cabin": 0.26, "t_wheel": 0.32, "t_tyre": 0.14},
        car, "glass", {"wheels": "rubber"},
    ),
    "boat": Kind(
        {"w_long": 0.56, "w_wide": 0.27, "h_hull": 0.30, "h_mast": 0.84, "w_sail": 0.52, "t_mast": 0.13,
         "t_sail": 0.13},
        boat, "white", {"mast": "wood"},
    ),
    "truck": Kind(
        {"w_long": 0.60, "w_wide": 0.28, "h_cargo": 0.50, "t_wheel": 0.32, "t_tyre": 0.14},
        truck, "white", {"wheels": "rubber"},
    ),
}  # fmt: skip
