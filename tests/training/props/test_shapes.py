"""The ground truth: exact distances, parts where they belong, adjectives that change the shape."""

import itertools
import math

import pytest
import torch
from torch import Tensor

from scaledreamer.model.cameras import turntable
from scaledreamer.model.rendering.shading import shade
from scaledreamer.training.props.kinds import KINDS
from scaledreamer.training.props.materials import appearance, grain
from scaledreamer.training.props.palette import PALETTE
from scaledreamer.training.props.renders import BALL, paint, picture
from scaledreamer.training.props.shapes import paints, shape, truth
from scaledreamer.training.props.solids import box, capsule, cylinder, extrude, polygon, revolve, ring, sphere
from scaledreamer.training.props.words import SIZES
from scaledreamer.training.props.world import WIDE, Prop

RNG = torch.Generator().manual_seed(0)
POINTS = torch.rand(1, 4000, 3, generator=RNG) * 2 - 1


def number(value: float) -> Tensor:
    return torch.tensor([[value]])


def grid(count: int) -> Tensor:
    axis = torch.linspace(-1, 1, count)
    return torch.stack(torch.meshgrid(axis, axis, axis, indexing="ij"), -1).reshape(1, -1, 3)


def test_a_box_as_box_as_prism_and_as_sum_of_faces_is_the_same() -> None:
    a, b, c = number(0.3), number(0.5), number(0.2)
    corners = [(-a, -b), (a, -b), (a, b), (-a, b)]
    prism = extrude(POINTS[..., 0], POINTS[..., 1], POINTS[..., 2], corners, c)
    assert torch.allclose(box(POINTS, (a, b, c)), prism, atol=1e-6)


def test_a_cylinder_as_a_revolved_profile_is_the_same() -> None:
    profile = [(number(0.4), number(-0.3)), (number(0.4), number(0.3))]
    assert torch.allclose(cylinder(POINTS, number(0.4), number(0.3)), revolve(POINTS, profile), atol=1e-6)


def test_a_ring_has_its_hole() -> None:
    outline = [
        (number(0.4), number(-0.1)),
        (number(0.6), number(-0.1)),
        (number(0.6), number(0.1)),
        (number(0.4), number(0.1)),
    ]
    centre, tube = torch.zeros(1, 1, 3), torch.tensor([[[0.5, 0.0, 0.0]]])
    assert float(ring(centre, outline)) == pytest.approx(0.4)
    assert float(ring(tube, outline)) == pytest.approx(-0.1)


def test_a_polygon_of_many_corners_is_a_disc() -> None:
    angles = [2 * math.pi * i / 400 for i in range(400)]
    corners = [(number(0.7 * math.cos(a)), number(0.7 * math.sin(a))) for a in angles]
    u, v = POINTS[..., 0], POINTS[..., 1]
    assert torch.allclose(polygon(u, v, corners), torch.hypot(u, v) - 0.7, atol=1e-3)


def test_a_capsule_is_a_swept_sphere() -> None:
    start, end = (number(-0.3), number(0.1), number(0.0)), (number(0.2), number(0.4), number(0.3))
    along = torch.linspace(0, 1, 400)[:, None, None]
    a, b = (torch.tensor([[float(each) for each in at]]) for at in (start, end))
    swept = (POINTS - (a + along * (b - a))).norm(dim=-1).amin(0) - 0.15
    assert torch.allclose(capsule(POINTS, start, end, number(0.15))[0], swept, atol=1e-4)
    short = capsule(POINTS, (number(0), number(0), number(-1e-4)), (number(0), number(0), number(1e-4)), number(0.15))
    assert torch.allclose(sphere(POINTS, number(0.15)), short, atol=2e-4)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("kind", WIDE.kinds)
def test_the_distance_is_exact_outside_and_never_too_deep(kind: str, size: str) -> None:
    """Outside, walking the distance along the gradient lands on the surface; everywhere the slope is at most one."""
    solid = shape(kind, size)
    points = POINTS[:, :800]
    distance = solid.sdf(points)
    other = points + 0.02 * torch.randn(points.shape, generator=RNG)
    assert bool(((solid.sdf(other) - distance).abs() <= (other - points).norm(dim=-1) * 1.001 + 1e-5).all())
    probe = points.clone().requires_grad_()
    (slope,) = torch.autograd.grad(solid.sdf(probe).sum(), probe)
    outside = distance > 0.02
    landed = solid.sdf((points - distance[..., None] * slope)[outside][None])
    assert float(landed.abs().quantile(0.98)) < 2e-3


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("kind", WIDE.kinds)
def test_every_prop_fits_its_ball_and_shows_all_its_parts(kind: str, size: str) -> None:
    rng = torch.Generator().manual_seed(1)
    for scene in (shape(kind, size), shape(kind, size, rng=rng)):
        nodes = grid(41)
        inside = scene.sdf(nodes)[0] < 0
        assert float(nodes[0][inside].norm(dim=-1).max()) < 0.98 < BALL
    seen = torch.cat([picture(shape(kind, size), turntable(8, elevation=e), 48).part for e in (-0.1, 0.8)])
    assert set(seen.unique().tolist()) == set(range(len(KINDS[kind].parts) + 1))


@pytest.mark.parametrize("kind", WIDE.kinds)
def test_adjectives_change_the_shape_and_colours_do_not(kind: str) -> None:
    nodes = grid(33)
    plain, *others = (shape(kind, size).sdf(nodes)[0] < 0 for size in SIZES)
    for other in others:
        assert float((plain & other).sum() / (plain | other).sum()) < 0.9
    assert torch.equal(truth(Prop(kind, "red")).sdf(nodes), truth(Prop(kind, "pink")).sdf(nodes))


def extent(occupied: Tensor, points: Tensor) -> Tensor:
    return points[0][occupied].amax(0) - points[0][occupied].amin(0)


@pytest.mark.parametrize("kind", WIDE.kinds)
def test_tall_is_taller_wide_is_wider_small_is_smaller(kind: str) -> None:
    nodes = grid(61)
    plain, tall, wide, small = (extent(shape(kind, size).sdf(nodes)[0] < 0, nodes) for size in SIZES)
    across = int(plain[1] > plain[0])  # the longer side: what is thin stays as thick
    assert tall[2] > plain[2] * 1.15 and tall[across] < plain[across]
    assert wide[2] < plain[2] and wide[across] > plain[across] * 1.1
    assert bool((small < plain * 0.8).all())


def test_colours_are_the_palettes_and_the_second_colour_can_be_chosen() -> None:
    mushroom = truth(Prop("mushroom", "red", second="blue"))
    cap, stem = torch.tensor([[[0.0, 0.0, 0.3], [0.0, 0.0, -0.4]]])[0]
    rgb = mushroom.query(torch.stack([cap, stem])[None]).rgb[0]
    assert torch.allclose(rgb[0], torch.tensor(PALETTE["red"]))
    assert torch.allclose(rgb[1], torch.tensor(PALETTE["blue"]))
    assert all(paints(prop).shape == (len(KINDS[prop.kind].parts), 3) for prop in WIDE.props())


def test_the_front_of_a_chair_a_chest_and_a_house_looks_along_x() -> None:
    def part_at(kind: str, point: tuple[float, float, float]) -> str:
        return KINDS[kind].parts[int(shape(kind).part(torch.tensor([[point]])))]

    assert part_at("chest", (0.45, 0.0, 0.07)) == "lock"
    assert part_at("house", (0.45, 0.0, -0.4)) == "door"
    chair = shape("chair").sdf(torch.tensor([[[-0.36, 0.0, 0.4], [0.36, 0.0, 0.4]]]))[0]
    assert chair[0] < 0 < chair[1]


def test_the_mug_is_hollow_and_its_handle_has_a_hole() -> None:
    solid = shape("mug")
    nodes = grid(61)
    inside = (solid.sdf(nodes)[0] < 0).reshape(61, 61, 61)
    column = inside[30, 26]  # along z through the middle of the cup
    assert int(column.sum()) < 15, "only the floor is solid"
    across = inside[30, :, 30]  # along y: wall, hollow, wall, hole, handle
    changes = int((across[1:] != across[:-1]).sum())
    assert changes == 6


def test_a_picture_shows_the_paint_times_the_light() -> None:
    prop = Prop("barrel", "yellow")
    view = picture(shape("barrel"), turntable(2), 64)
    rgba = paint(view, paints(prop)[None].expand(2, -1, -1), "any", 2)
    assert rgba.shape == (2, 4, 32, 32)
    middle = rgba[0, :3, 16, 16]
    ratio = middle / torch.tensor(PALETTE["yellow"])
    assert float(ratio.std()) < 0.02 and 0.4 <= float(ratio.mean()) <= 1.0
    assert float(rgba[0, 3, 0, 0]) == 0 and bool((rgba[:, :3] <= rgba[:, 3:] + 1e-6).all())


def test_no_two_kinds_look_alike() -> None:
    views = torch.stack([picture(shape(kind), turntable(4, elevation=0.3), 48).part > 0 for kind in WIDE.kinds])
    both = (views[:, None] & views[None]).flatten(3).sum(-1)
    either = (views[:, None] | views[None]).flatten(3).sum(-1)
    alike = (both / either).amin(-1)  # from the side that tells them apart
    alike.fill_diagonal_(0)
    assert float(alike.max()) < 0.9, [WIDE.kinds[int(each)] for each in (alike == alike.max()).nonzero()[0]]


def test_a_material_is_seen_on_the_main_part_alone() -> None:
    view = picture(shape("barrel"), turntable(4), 64)
    colors = paints(Prop("barrel", "red")).expand(4, -1, -1)
    dull = paint(view, colors, "any", 1)
    pictures = {material: paint(view, colors, material, 1) for material in ("wooden", "metal", "stone", "glossy")}
    main = (view.part == 1)[:, None].expand(-1, 3, -1, -1)
    for material, seen in pictures.items():
        assert torch.equal(seen[:, :3][~main], dull[:, :3][~main]) and torch.equal(seen[:, 3], dull[:, 3])
        assert float((seen[:, :3] - dull[:, :3])[main].abs().mean()) > 0.03, material
        assert float(seen.min()) >= 0 and float(seen.max()) <= 1
    for one, other in itertools.combinations(pictures.values(), 2):
        assert float((one - other)[:, :3][main].abs().mean()) > 0.03


@pytest.mark.parametrize("material", ["any", "wooden", "metal", "stone", "glossy"])
def test_the_true_field_lit_as_dull_paint_is_what_the_pictures_show(material: str) -> None:
    prop = Prop("apple", "green", material=material)
    solid, field = shape("apple"), truth(prop)
    directions = torch.nn.functional.normalize(torch.randn(1, 400, 3, generator=RNG), dim=-1)
    points = directions * 0.9
    for _ in range(60):
        points = points - directions * solid.sdf(points)[..., None]
    points = points[(solid.sdf(points).abs() < 1e-3) & (solid.part(points) == 0)][None]
    lit = shade(solid.normal(points))
    green = torch.tensor(PALETTE["green"]).expand_as(points)
    seen = appearance(material, green, lit[..., 0], grain(points), points[..., 2])
    assert torch.allclose(field.query(points).rgb * lit, seen, atol=1e-5)
