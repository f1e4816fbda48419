"""Castle tower and tent, and the well that no training sees."""

from scaledreamer.training.props.kinds.base import Kind, Parts, Sizes, block, mirrored, shift, union
from scaledreamer.training.props.solids import Points, cylinder, extrude, revolve, ring


def tower(p: Points, m: Sizes) -> Parts:
    high = m["h_wall"] + m["h_top"] + m["h_roof"]
    low, crown, eaves = -high / 2, m["h_wall"] - high / 2, high / 2 - m["h_roof"]
    wall = cylinder(shift(p, 0, 0, low + m["h_wall"] / 2 + 0.02), m["w_wall"], m["h_wall"] / 2 + 0.02)
    top = cylinder(shift(p, 0, 0, (crown + eaves) / 2), m["w_top"], m["h_top"] / 2)
    roof = revolve(p, [(0.92 * m["w_top"], eaves - 0.01), (m["w_top"] * 0, high / 2)])
    wide = 0.42 * m["w_wall"]
    door = block(p, (m["w_wall"] - 0.1, -wide, low), (m["w_wall"] + 0.03, wide, low + 0.52 * m["h_wall"]))
    return {"main": union(wall, top), "second": roof, "door": door}


def tent(p: Points, m: Sizes) -> Parts:
    low, wide, deep, nothing = -m["h_all"] / 2, m["w_half"], m["w_deep"], m["h_all"] * 0
    canvas = extrude(p[..., 1], p[..., 2], p[..., 0], [(-wide, low), (wide, low), (nothing, -low)], deep)
    flap = [(-0.52 * wide, low), (0.52 * wide, low), (nothing, 0.35 * m["h_all"] * 0.6)]
    door = extrude(p[..., 1], p[..., 2], p[..., 0] - deep, flap, nothing + 0.04)
    return {"main": canvas, "second": door}


def well(p: Points, m: Sizes) -> Parts:
    high = m["h_wall"] + m["h_post"] + m["h_roof"]
    low, eaves, wide, wall = -high / 2, high / 2 - m["h_roof"], m["w_wall"], m["t_wall"]
    rim = low + m["h_wall"]
    curb = ring(p, [(wide - wall, low), (wide, low), (wide, rim), (wide - wall, rim)])
    half = m["t_post"] / 2
    post = block(mirrored(p, "y"), (-half, wide - wall, rim - 0.02), (half, wide - wall + 2 * half, eaves + 0.04))
    gable = [(-0.8 * wide, eaves), (0.8 * wide, eaves), (wide * 0, high / 2)]
    roof = extrude(p[..., 0], p[..., 2], p[..., 1], gable, wide + 0.04)
    return {"main": union(roof, post), "second": curb}


KINDS: dict[str, Kind] = {
    "tower": Kind(
        {"h_wall": 0.66, "h_top": 0.20, "h_roof": 0.38, "w_wall": 0.33, "w_top": 0.43}, tower, "wood", {"door": "iron"}
    ),
    "tent": Kind({"h_all": 0.80, "w_half": 0.50, "w_deep": 0.42}, tent, "iron"),
    "well": Kind(
        {"h_wall": 0.40, "h_post": 0.32, "h_roof": 0.34, "w_wall": 0.42, "t_wall": 0.13, "t_post": 0.13}, well, "iron"
    ),
}  # fmt: skip
