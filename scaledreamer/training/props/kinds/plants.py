"""Round tree and cactus."""

import math

from scaledreamer.training.props.kinds.base import Kind, Parts, Sizes, arc, mirrored, shift, union
from scaledreamer.training.props.solids import Points, capsule, cylinder, revolve, sphere


def oak(p: Points, m: Sizes) -> Parts:
    high = m["h_trunk"] + m["h_crown"]
    low, middle, wide = -high / 2, high / 2 - m["h_crown"] / 2, m["w_crown"]
    crown = revolve(p, arc(0.86 * wide, m["h_crown"] / 2, middle, -math.pi / 2, math.pi / 2, 14))
    away, radius = 0.40 * wide, 0.60 * wide
    lobes = union(
        sphere(shift(mirrored(p, "x"), away, 0, middle - 0.06), radius),
        sphere(shift(mirrored(p, "y"), 0, away, middle + 0.06), radius),
    )
    trunk = cylinder(shift(p, 0, 0, low + m["h_trunk"] / 2 + 0.08), m["w_trunk"], m["h_trunk"] / 2 + 0.08)
    return {"main": union(crown, lobes), "second": trunk}


def cactus(p: Points, m: Sizes) -> Parts:
    high, nothing = m["h_pot"] + m["h_body"], m["h_pot"] * 0
    low, soil, thick, arm = -high / 2, m["h_pot"] - high / 2, m["t_body"] / 2, m["t_arm"] / 2
    body = capsule(p, (nothing, nothing, soil), (nothing, nothing, high / 2 - thick), thick)
    elbow, reach = soil + 0.34 * m["h_body"], m["w_arm"]
    folded = mirrored(p, "y")
    across = capsule(folded, (nothing, nothing, elbow), (nothing, reach, elbow), arm)
    upwards = capsule(folded, (nothing, reach, elbow), (nothing, reach, elbow + m["h_arm"]), arm)
    pot = revolve(p, [(0.76 * m["w_pot"], low), (m["w_pot"], soil)])
    return {"main": union(body, across, upwards), "second": pot}


KINDS: dict[str, Kind] = {
    "oak": Kind({"h_trunk": 0.46, "h_crown": 0.80, "w_crown": 0.56, "w_trunk": 0.14}, oak, "wood"),
    "cactus": Kind(
        {"h_pot": 0.36, "h_body": 0.84, "w_pot": 0.34, "t_body": 0.34, "t_arm": 0.19, "w_arm": 0.32, "h_arm": 0.26},
        cactus, "clay",
    ),
}  # fmt: skip
