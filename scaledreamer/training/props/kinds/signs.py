"""Signpost, traffic cone and lantern."""

import math

from scaledreamer.training.props.kinds.base import Kind, Parts, Sizes, arc, block, shift, union
from scaledreamer.training.props.solids import Points, box, cylinder, extrude, revolve, ring


def signpost(p: Points, m: Sizes) -> Parts:
    high, wide, board = m["h_all"] / 2, m["w_board"], m["h_board"] / 2
    middle, post = high - 1.3 * board, m["t_post"] / 2
    arrow = [(-wide, middle - board), (0.5 * wide, middle - board), (wide, middle), (0.5 * wide, middle + board),
             (-wide, middle + board)]  # fmt: skip
    front = p[..., 0] - post - m["t_board"] / 2 + 0.02
    plate = extrude(p[..., 1], p[..., 2], front, arrow, m["t_board"] / 2)
    return {"main": plate, "second": box(p, (post, post, high))}


def cone(p: Points, m: Sizes) -> Parts:
    high = m["t_base"] + m["h_cone"]
    low, foot = -high / 2, m["t_base"] - high / 2
    base = block(p, (-m["w_base"], -m["w_base"], low), (m["w_base"], m["w_base"], foot))
    wide, tip = m["w_foot"], m["w_tip"]
    body = revolve(p, [(wide, foot - 0.01), (tip, high / 2)])

    (lower, start), (upper, end) = ((wide + (tip - wide) * at, foot + at * m["h_cone"]) for at in (0.32, 0.56))
    stripe = [(lower - 0.06, start), (lower + 0.035, start), (upper + 0.035, end), (upper - 0.06, end)]
    return {"main": union(base, body), "second": ring(p, stripe)}


def lantern(p: Points, m: Sizes) -> Parts:
    high = m["h_base"] + m["h_glass"] + m["h_roof"] + m["h_handle"]
    low = -high / 2
    glass_low, glass_top = low + m["h_base"], low + m["h_base"] + m["h_glass"]
    base = cylinder(shift(p, 0, 0, low + m["h_base"] / 2), m["w_base"], m["h_base"] / 2)
    glass = cylinder(shift(p, 0, 0, (glass_low + glass_top) / 2), m["w_glass"], m["h_glass"] / 2 + 0.02)
    top = glass_top + m["h_roof"]
    roof = revolve(p, [(m["w_base"], glass_top), (0.4 * m["w_base"], top)])
    thick, wide = m["t_handle"], 0.62 * m["w_base"]
    outer = arc(wide, m["h_handle"] + 0.06, top - 0.06, 0, math.pi, 10)
    inner = arc(wide - thick, m["h_handle"] + 0.06 - thick, top - 0.06, math.pi, 0, 10)
    handle = extrude(p[..., 1], p[..., 2], p[..., 0], [*outer, *inner], thick / 2)
    return {"main": union(base, roof, handle), "second": glass}


KINDS: dict[str, Kind] = {
    "signpost": Kind(
        {"h_all": 1.16, "w_board": 0.46, "h_board": 0.42, "t_post": 0.18, "t_board": 0.14}, signpost, "wood"
    ),
    "cone": Kind({"t_base": 0.13, "h_cone": 0.90, "w_base": 0.42, "w_foot": 0.33, "w_tip": 0.11}, cone, "white"),
    "lantern": Kind(
        {"h_base": 0.18, "h_glass": 0.46, "h_roof": 0.26, "h_handle": 0.24, "w_base": 0.38, "w_glass": 0.29,
         "t_handle": 0.11},
        lantern, "yellow",
    ),
}  # fmt: skip
