"""Sword, hammer, axe and shield, each with its broad side to +X."""

import math

from scaledreamer.training.props.kinds.base import Kind, Parts, Sizes, arc, block, shift, union
from scaledreamer.training.props.solids import Points, Profile, cylinder, extrude, sphere


def sword(p: Points, m: Sizes) -> Parts:
    high = m["h_blade"] + m["t_guard"] + m["h_grip"]
    low, guard = -high / 2, m["h_grip"] - high / 2
    edge, wide = guard + m["t_guard"], m["w_blade"]
    outline = [(-wide, edge - 0.02), (wide, edge - 0.02), (wide, 0.5 * high - 0.22), (wide * 0, 0.5 * high),
               (-wide, 0.5 * high - 0.22)]  # fmt: skip
    blade = extrude(p[..., 1], p[..., 2], p[..., 0], outline, m["t_blade"] / 2)
    thick = m["t_grip"] / 2
    grip = cylinder(shift(p, 0, 0, (low + guard) / 2 + 0.02), thick, (guard - low) / 2)
    cross = block(p, (-thick, -m["w_guard"], guard), (thick, m["w_guard"], edge))
    pommel = sphere(shift(p, 0, 0, low + 1.3 * thick), 1.3 * thick)
    return {"main": blade, "second": union(grip, cross, pommel)}


def hammer(p: Points, m: Sizes) -> Parts:
    high = m["h_handle"] + m["h_head"]
    neck = high / 2 - m["h_head"]
    head = block(p, (-m["w_deep"], -m["w_head"], neck), (m["w_deep"], m["w_head"], high / 2))
    handle = cylinder(shift(p, 0, 0, (neck - high / 2) / 2 + 0.02), m["t_handle"] / 2, m["h_handle"] / 2 + 0.02)
    return {"main": head, "second": handle}


def axe(p: Points, m: Sizes) -> Parts:
    high, wide = m["h_all"], m["w_blade"]
    p = shift(p, 0, -0.35 * wide, 0)  # the blade is at +Y; the whole is centred
    middle, half = 0.5 * high - 0.55 * m["h_blade"], m["h_blade"] / 2
    edge = [(0.72 * wide + u, v) for u, v in arc(0.28 * wide, half, middle, -math.pi / 2, math.pi / 2, 8)]
    outline: Profile = [(-0.10 + wide * 0, middle - 0.34 * half), *edge, (-0.10 + wide * 0, middle + 0.34 * half)]
    blade = extrude(p[..., 1], p[..., 2], p[..., 0], outline, m["t_blade"] / 2)
    return {"main": blade, "second": cylinder(p, m["t_handle"] / 2, high / 2)}


def shield(p: Points, m: Sizes) -> Parts:
    wide, high, plate = m["w_half"], m["h_all"] / 2, m["t_plate"] / 2

    def outline(share: float) -> Profile:
        corners = ((1, 1), (1, 0.05), (0.78, -0.45), (0, -1), (-0.78, -0.45), (-1, 0.05), (-1, 1))
        return [(share * u * wide, share * v * high) for u, v in corners]

    front = extrude(p[..., 1], p[..., 2], p[..., 0] - 0.04, outline(0.84), plate)
    rim = extrude(p[..., 1], p[..., 2], p[..., 0] + 0.03, outline(1.0), plate)
    return {"main": front, "second": rim, "boss": sphere(shift(p, plate + 0.01, 0, 0.1 * high), m["t_boss"] / 2)}


KINDS: dict[str, Kind] = {
    "sword": Kind(
        {"h_blade": 0.90, "h_grip": 0.32, "t_guard": 0.14, "w_blade": 0.13, "w_guard": 0.32, "t_blade": 0.13,
         "t_grip": 0.16},
        sword, "gold",
    ),
    "hammer": Kind(
        {"h_handle": 0.82, "h_head": 0.34, "w_head": 0.38, "w_deep": 0.18, "t_handle": 0.17}, hammer, "wood"
    ),
    "axe": Kind({"h_all": 1.24, "h_blade": 0.60, "w_blade": 0.46, "t_blade": 0.14, "t_handle": 0.16}, axe, "wood"),
    "shield": Kind({"w_half": 0.46, "h_all": 1.12, "t_plate": 0.16, "t_boss": 0.26}, shield, "iron", {"boss": "gold"}),
}  # fmt: skip
