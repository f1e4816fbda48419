"""The ten kinds of the first world."""

import math

import torch

from scaledreamer.training.props.kinds.base import Kind, Parts, Sizes, arc, legs, shift
from scaledreamer.training.props.solids import Points, Profile, box, cylinder, extrude, revolve, ring


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


KINDS: dict[str, Kind] = {
    "barrel": Kind(
        {"h_all": 1.25, "w_end": 0.42, "w_bulge": 0.13, "t_band": 0.13},
        barrel, "iron",
    ),
    "chest": Kind(
        {"h_body": 0.46, "h_lid": 0.32, "w_depth": 0.80, "w_length": 1.14, "t_band": 0.13, "t_lock": 0.13},
        chest, "iron", {"lock": "gold"},
    ),
    "tree": Kind(
        {"h_trunk": 0.32, "h_crown": 1.06, "w_crown": 0.54, "w_trunk": 0.13},
        tree, "wood",
    ),
    "bottle": Kind(
        {"h_body": 0.84, "w_body": 0.46, "h_neck": 0.26, "w_neck": 0.17, "h_cork": 0.17, "w_cork": 0.12},
        bottle, "glass", {"cork": "wood"},
    ),
    "mushroom": Kind(
        {"h_stem": 0.66, "w_stem": 0.19, "h_cap": 0.46, "w_cap": 0.60},
        mushroom, "cream",
    ),
    "chair": Kind(
        {"h_leg": 0.50, "h_back": 0.62, "w_seat": 0.84, "t_leg": 0.17, "t_seat": 0.14, "t_cushion": 0.07},
        chair, "cream",
    ),
    "table": Kind(
        {"h_leg": 0.70, "w_depth": 0.86, "w_length": 1.16, "t_leg": 0.17, "t_top": 0.14},
        table, "wood",
    ),
    "house": Kind(
        {"h_wall": 0.54, "h_roof": 0.46, "w_wall": 0.86, "w_depth": 0.86, "t_eaves": 0.08, "h_door": 0.32},
        house, "cream", {"door": "wood"},
    ),
    "mug": Kind(
        {"h_all": 0.92, "w_all": 0.44, "t_wall": 0.12, "h_handle": 0.34, "w_handle": 0.36, "t_handle": 0.13},
        mug, "cream",
    ),
    "rocket": Kind(
        {"h_body": 0.88, "h_nose": 0.50, "w_body": 0.27, "w_fin": 0.26, "h_fin": 0.42, "t_fin": 0.11},
        rocket, "white", {"window": "cyan"},
    ),
}  # fmt: skip
