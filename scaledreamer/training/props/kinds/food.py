"""Apple, cake, carrot, donut and ice cream."""

import math

from scaledreamer.training.props.kinds.base import Kind, Parts, Sizes, arc, mirrored, shift, union
from scaledreamer.training.props.solids import Points, capsule, cylinder, revolve, ring


def apple(p: Points, m: Sizes) -> Parts:
    high, wide, nothing = m["h_body"], m["w_body"], m["h_body"] * 0
    p = shift(p, 0, 0, -m["h_stem"] / 2)  # the whole is centred
    steps = [-1.3 + 2.5 * i / 12 for i in range(13)]
    side = [(wide * math.cos(a) ** 0.7 * (1 + 0.1 * math.sin(a)), high / 2 * math.sin(a)) for a in steps]
    body = revolve(p, [*side, (nothing, 0.34 * high)])  # a dimple at the top
    top, thick = 0.34 * high, m["t_stem"] / 2
    stem = capsule(p, (nothing, nothing, top), (nothing, nothing, high / 2 + m["h_stem"] - thick), thick)
    leaf = capsule(
        p, (nothing, nothing, high / 2 + 0.02), (nothing, m["w_leaf"], high / 2 + 0.6 * m["h_stem"]), m["t_leaf"] / 2
    )
    return {"main": body, "second": leaf, "stem": stem}


def cake(p: Points, m: Sizes) -> Parts:
    high = m["h_lower"] + m["h_upper"] + m["h_candle"]
    low, middle, top = -high / 2, m["h_lower"] - high / 2, high / 2 - m["h_candle"]
    lower = cylinder(shift(p, 0, 0, (low + middle) / 2), m["w_lower"], m["h_lower"] / 2)
    upper = cylinder(shift(p, 0, 0, (middle + top) / 2), m["w_upper"], m["h_upper"] / 2)
    half = m["t_icing"] / 2
    icing = union(
        cylinder(shift(p, 0, 0, middle - half + 0.03), m["w_lower"] + 0.035, half),
        cylinder(shift(p, 0, 0, top - half + 0.03), m["w_upper"] + 0.035, half),
    )
    candle = cylinder(shift(p, 0, 0, top + m["h_candle"] / 2 - 0.01), m["t_candle"] / 2, m["h_candle"] / 2 + 0.01)
    return {"main": union(lower, upper), "second": icing, "candle": candle}


def carrot(p: Points, m: Sizes) -> Parts:
    high, nothing = m["h_root"] + m["h_leaves"], m["h_root"] * 0
    low, top = -high / 2, m["h_root"] - high / 2
    wide, thick = m["w_root"], m["t_leaf"] / 2
    root = revolve(p, [(nothing, low), (0.55 * wide, low + 0.4 * m["h_root"]), (wide, top - 0.1), (0.7 * wide, top)])
    tip, away = high / 2 - thick, m["w_leaves"]
    leaves = union(
        capsule(p, (nothing, nothing, top), (nothing, nothing, tip), thick),
        capsule(mirrored(p, "x"), (nothing, nothing, top), (away, nothing, tip - 0.08), thick),
        capsule(mirrored(p, "y"), (nothing, nothing, top), (nothing, away, tip - 0.08), thick),
    )
    return {"main": root, "second": leaves}


def donut(p: Points, m: Sizes) -> Parts:
    across, tube, half = m["w_ring"], m["w_tube"], m["h_tube"] / 2
    circle = [(across + u, v) for u, v in arc(tube, half, half * 0, 0, 2 * math.pi * 15 / 16, 15)]
    glaze = [(across + u, v) for u, v in arc(tube + 0.04, half + 0.04, half * 0, 0.12, math.pi - 0.12, 12)]
    return {"main": ring(p, glaze), "second": ring(p, circle)}


def icecream(p: Points, m: Sizes) -> Parts:
    high, nothing = m["h_cone"] + m["h_scoop"], m["h_cone"] * 0
    low, rim = -high / 2, m["h_cone"] - high / 2
    half = m["h_scoop"] / 2 + 0.04
    scoop = revolve(p, arc(m["w_scoop"], half, high / 2 - half, -math.pi / 2, math.pi / 2, 14))
    return {"main": scoop, "second": revolve(p, [(nothing, low), (m["w_cone"], rim)])}


KINDS: dict[str, Kind] = {
    "apple": Kind(
        {"h_body": 0.92, "w_body": 0.52, "h_stem": 0.24, "t_stem": 0.13, "w_leaf": 0.30, "t_leaf": 0.16},
        apple, "green", {"stem": "wood"},
    ),
    "cake": Kind(
        {"h_lower": 0.38, "h_upper": 0.30, "h_candle": 0.24, "w_lower": 0.54, "w_upper": 0.36, "t_icing": 0.13,
         "t_candle": 0.14},
        cake, "white", {"candle": "gold"},
    ),
    "carrot": Kind(
        {"h_root": 0.86, "h_leaves": 0.42, "w_root": 0.27, "w_leaves": 0.26, "t_leaf": 0.14}, carrot, "green"
    ),
    "donut": Kind({"w_ring": 0.40, "w_tube": 0.20, "h_tube": 0.36}, donut, "dough"),
    "icecream": Kind({"h_cone": 0.70, "h_scoop": 0.54, "w_cone": 0.29, "w_scoop": 0.40}, icecream, "dough"),
}  # fmt: skip
