"""Stool, bed, bookshelf, lamp, and the bench that no training sees."""

from scaledreamer.training.props.kinds.base import Kind, Parts, Sizes, block, legs, mirrored, shift, union
from scaledreamer.training.props.solids import Points, box, cylinder, revolve


def stool(p: Points, m: Sizes) -> Parts:
    high = m["h_leg"] + m["t_seat"]
    half = m["w_seat"] * 0.7
    seat = cylinder(shift(p, 0, 0, high / 2 - m["t_seat"] / 2), m["w_seat"], m["t_seat"] / 2)
    return {"main": seat, "second": legs(p, half, half, m["t_leg"], -high / 2, m["h_leg"])}


def bed(p: Points, m: Sizes) -> Parts:
    long, wide, low = m["w_length"] / 2, m["w_wide"] / 2, -m["h_head"] / 2
    top = low + m["h_base"]
    base = block(p, (-long, -wide, low), (long, wide, top))
    head = block(p, (-long, -wide, low), (m["t_head"] - long, wide, -low))
    blanket = block(p, (m["t_head"] - long, 0.04 - wide, top - 0.02), (long - 0.05, wide - 0.04, top + m["t_mattress"]))
    above = top + m["t_mattress"]
    pillow = block(
        p, (m["t_head"] - long + 0.03, -0.72 * wide, above - 0.03),
        (m["t_head"] - long + 0.03 + 0.42 * wide, 0.72 * wide, above + m["t_pillow"]),
    )  # fmt: skip
    return {"main": blanket, "second": union(base, head), "pillow": pillow}


def shelf(p: Points, m: Sizes) -> Parts:
    deep, wide, high, board = m["w_deep"] / 2, m["w_wide"] / 2, m["h_all"] / 2, m["t_board"] / 2
    back = block(p, (-deep, -wide, -high), (2 * board - deep, wide, high))
    side = box(shift(mirrored(p, "y"), 0, wide - board, 0), (deep, board, high))
    ends = box(shift(mirrored(p, "z"), 0, 0, high - board), (deep, wide, board))
    boards = box(shift(mirrored(p, "z"), 0, 0, high / 3), (deep, wide, board))
    room = 2 * high / 3 - 2 * board
    rows = []
    for place, left, share in ((-2, -0.9, 0.80), (0, -0.5, 0.66), (2, -0.9, 0.74)):
        floor = place * high / 3 - room / 2
        start = (-deep + board, left * (wide - 2 * board), floor - 0.02)
        end = (0.72 * deep, (left + 1.4) * (wide - 2 * board), floor + share * room)
        rows.append(block(p, start, end))
    return {"main": union(back, side, ends, boards), "second": union(rows[0], rows[1], rows[2])}


def lamp(p: Points, m: Sizes) -> Parts:
    high = m["t_base"] + m["h_pole"] + m["h_shade"]
    low, shade = -high / 2, high / 2 - m["h_shade"]
    base = cylinder(shift(p, 0, 0, low + m["t_base"] / 2), m["w_base"], m["t_base"] / 2)
    pole = cylinder(shift(p, 0, 0, (low + shade) / 2 + 0.04), m["t_pole"] / 2, (shade - low) / 2 + 0.04)
    cover = revolve(p, [(m["w_shade"], shade), (0.56 * m["w_shade"], high / 2)])
    return {"main": cover, "second": union(base, pole)}


def bench(p: Points, m: Sizes) -> Parts:
    high = m["h_leg"] + m["t_seat"] + m["h_back"]
    deep, wide, low = m["w_deep"] / 2, m["w_wide"] / 2, -high / 2
    seat_low = low + m["h_leg"]
    seat = block(p, (-deep, -wide, seat_low), (deep, wide, seat_low + m["t_seat"]))
    back = block(p, (-deep, -wide, seat_low), (m["t_seat"] - deep, wide, -low))
    stand = block(
        mirrored(p, "y"), (0.02 - deep, 0.62 * wide, low), (deep - 0.02, 0.62 * wide + m["t_leg"], seat_low + 0.02)
    )
    return {"main": union(seat, back), "second": stand}


KINDS: dict[str, Kind] = {
    "stool": Kind({"h_leg": 0.62, "w_seat": 0.46, "t_seat": 0.16, "t_leg": 0.16}, stool, "wood"),
    "bed": Kind(
        {"w_length": 1.06, "w_wide": 0.74, "h_base": 0.28, "h_head": 0.68, "t_head": 0.14, "t_mattress": 0.16,
         "t_pillow": 0.11},
        bed, "wood", {"pillow": "white"},
    ),
    "shelf": Kind({"w_deep": 0.46, "w_wide": 0.86, "h_all": 1.20, "t_board": 0.11}, shelf, "cream"),
    "lamp": Kind(
        {"t_base": 0.12, "h_pole": 0.56, "h_shade": 0.48, "w_base": 0.32, "t_pole": 0.15, "w_shade": 0.44}, lamp, "iron"
    ),
    "bench": Kind(
        {"h_leg": 0.36, "h_back": 0.36, "t_seat": 0.14, "t_leg": 0.16, "w_deep": 0.44, "w_wide": 1.10}, bench, "iron"
    ),
}  # fmt: skip
