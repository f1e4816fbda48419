"""Crate, bucket and vase."""

import math

import torch

from scaledreamer.training.props.kinds.base import Kind, Parts, Sizes, arc, union
from scaledreamer.training.props.solids import Points, box, extrude, revolve, ring


def crate(p: Points, m: Sizes) -> Parts:
    half_w, half_h, bar = m["w_side"] / 2, m["h_side"] / 2, m["t_bar"] / 2
    inset = 0.035
    body = box(p, (half_w - inset, half_w - inset, half_h - inset))
    x, y, z = (p[..., i].abs() - half + bar for i, half in enumerate((half_w, half_w, half_h)))
    frame = union(
        box(torch.stack([x, y, p[..., 2]], -1), (bar, bar, half_h)),
        box(torch.stack([x, p[..., 1], z], -1), (bar, half_w, bar)),
        box(torch.stack([p[..., 0], y, z], -1), (half_w, bar, bar)),
    )
    return {"main": body, "second": frame}


def bucket(p: Points, m: Sizes) -> Parts:
    low = -(m["h_all"] + m["h_handle"]) / 2
    rim, wall = low + m["h_all"], m["t_wall"]
    top, bottom = m["w_top"], m["w_bottom"]
    pail = revolve(p, [(bottom, low), (top, rim), (top - wall, rim), (bottom - wall, low + 1.2 * wall)])
    thick, at = m["t_handle"], rim - 0.04
    outer = arc(top, m["h_handle"] + 0.04, at, 0, math.pi, 12)
    inner = arc(top - thick, m["h_handle"] + 0.04 - thick, at, math.pi, 0, 12)
    return {"main": pail, "second": extrude(p[..., 1], p[..., 2], p[..., 0], [*outer, *inner], thick / 2)}


def vase(p: Points, m: Sizes) -> Parts:
    high, belly, neck, lip = m["h_all"], m["w_belly"], m["w_neck"], m["w_lip"]
    profile = [
        (m["w_foot"], -0.5 * high), (0.80 * belly, -0.34 * high), (belly, -0.12 * high), (0.78 * belly, 0.12 * high),
        (neck, 0.30 * high), (lip, 0.5 * high), (lip - 0.1, 0.5 * high), (neck - 0.08, 0.3 * high),
    ]  # fmt: skip
    inner, outer = belly * 0.85, belly + 0.035
    band = [(inner, -0.19 * high), (outer, -0.19 * high), (outer, -0.06 * high), (inner, -0.06 * high)]
    return {"main": revolve(p, profile), "second": ring(p, band)}


KINDS: dict[str, Kind] = {
    "crate": Kind({"w_side": 0.86, "h_side": 0.86, "t_bar": 0.15}, crate, "wood"),
    "bucket": Kind(
        {"h_all": 0.76, "w_top": 0.46, "w_bottom": 0.33, "t_wall": 0.11, "h_handle": 0.36, "t_handle": 0.12},
        bucket, "iron",
    ),
    "vase": Kind({"h_all": 1.20, "w_foot": 0.22, "w_belly": 0.42, "w_neck": 0.19, "w_lip": 0.30}, vase, "gold"),
}  # fmt: skip
