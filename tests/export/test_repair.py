"""Any triangles become a closed surface that other programs accept, and one that is closed stays as it is."""

import math

import manifold3d
import numpy as np
import pytest
import trimesh

from scaledreamer.export import extract_mesh, repair
from scaledreamer.export.cleanup import drop_degenerate_faces, merge_vertices
from scaledreamer.export.facts import MeshFacts, measure
from scaledreamer.export.geometry import area_vectors
from scaledreamer.export.holes import fill_holes
from scaledreamer.export.mesh import Mesh
from scaledreamer.export.repair import make_manifold, orient, wedges
from tests.export.fields import FIELDS
from tests.export.shapes import cube, half_sphere, joined, mesh_of, sphere, turned_over, voxels

SQUARE = [[0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 1, 0]]
ARRAYS = ("vertices", "faces", "colors", "normals")


def solid(mesh: Mesh) -> trimesh.Trimesh:
    """As a reader sees it that merges vertices by position."""
    read = trimesh.Trimesh(mesh.vertices, mesh.faces, process=False)
    read.merge_vertices(digits_vertex=12)
    return read


def bounds_a_solid(mesh: Mesh) -> bool:
    """Whether manifold3d, told to merge what is in one place, takes it."""
    read = solid(mesh)
    raw = manifold3d.Mesh(np.float32(read.vertices), np.uint32(read.faces))
    return manifold3d.Manifold(raw).status() == manifold3d.Error.NoError


def repaired(mesh: Mesh) -> Mesh:
    return orient(fill_holes(orient(make_manifold(mesh)), 200))


def assert_sound(mesh: Mesh) -> MeshFacts:
    facts, read = measure(mesh), solid(mesh)
    assert facts.watertight and facts.winding_consistent and facts.degenerate_faces == 0 and facts.volume > 0
    assert read.is_watertight and read.is_winding_consistent and bounds_a_solid(mesh)
    return facts


# --- facts


@pytest.mark.parametrize("name", FIELDS)
def test_facts_of_extracted_meshes_are_those_of_trimesh(name: str) -> None:
    mesh = extract_mesh(FIELDS[name], resolution=32)
    facts, read = measure(mesh), solid(mesh)
    assert (facts.faces, facts.euler, facts.parts) == (len(read.faces), read.euler_number, read.body_count)
    assert (facts.watertight, facts.winding_consistent) == (read.is_watertight, read.is_winding_consistent)
    assert facts.volume == pytest.approx(read.volume) and facts.area == pytest.approx(read.area)
    assert facts.boundary_edges == facts.nonmanifold_edges == facts.degenerate_faces == 0


def test_facts_of_a_cube_and_of_its_separate_triangles() -> None:
    whole = cube(2, 3, 4)
    soup = mesh_of(whole.vertices[whole.faces], np.arange(36))
    for mesh, vertices in ((whole, 8), (soup, 36)):
        facts = measure(mesh)
        assert facts == MeshFacts(vertices, 12, 1, 0, 0, 0, True, True, facts.volume, facts.area, 2)
        assert facts.volume == pytest.approx(1) and facts.area == pytest.approx(6)


def test_facts_count_what_is_wrong() -> None:
    book = mesh_of([[0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1], [0, -1, 0]], [[0, 1, 2], [0, 1, 3], [0, 1, 4]])
    facts = measure(book)
    assert (facts.nonmanifold_edges, facts.boundary_edges, facts.watertight) == (1, 6, False)
    assert not facts.winding_consistent
    bad = mesh_of(
        [*SQUARE, [2, 0, 0]], [[0, 1, 2], [1, 2, 0], [0, 2, 1], [0, 1, 1], [0, 1, 4]]
    )  # a copy, an opposite, a point, a line
    assert measure(bad).degenerate_faces == 4
    turned = cube()
    turned.faces[0] = turned.faces[0][::-1].copy()
    assert not measure(turned).winding_consistent and measure(turned).watertight


def test_facts_of_nothing() -> None:
    facts = measure(mesh_of([], []))
    assert facts == MeshFacts(0, 0, 0, 0, 0, 0, False, True, 0.0, 0.0, 0)


# --- vertices and faces


def test_merged_vertices_are_the_first_at_their_place() -> None:
    soup = mesh_of([[0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 1, 0], [1, 0, 0], [1, 1, 0]], [[0, 1, 2], [3, 4, 5]])
    colored = Mesh(soup.vertices, soup.faces, np.linspace(0, 1, 18, dtype=np.float32).reshape(6, 3), soup.normals)
    merged = merge_vertices(colored)
    np.testing.assert_array_equal(merged.faces, [[0, 1, 2], [2, 1, 3]])
    for name in ("vertices", "colors", "normals"):
        np.testing.assert_array_equal(getattr(merged, name), getattr(colored, name)[[0, 1, 2, 5]])
    assert merge_vertices(merged) is merged


def test_only_equal_positions_merge_and_zero_has_no_sign() -> None:
    apart = mesh_of([[0, 0, 0], [1, 0, 0], [0, 1, 0], [1e-38, 0, 0], [1, 0, 0], [0, -1, 0]], [[0, 1, 2], [3, 4, 5]])
    assert len(merge_vertices(apart).vertices) == 5
    signed = mesh_of([[0.0, 0, 0], [1, 0, 0], [0, 1, 0], [-0.0, -0.0, 0], [0, -1, 0], [1, 0, 0]], np.arange(6))
    assert len(merge_vertices(signed).vertices) == 4


def test_copies_go_and_opposite_copies_cancel_out() -> None:
    whole = cube()
    twice = mesh_of(whole.vertices, np.concatenate([whole.faces, whole.faces[:3, [1, 2, 0]]]))
    np.testing.assert_array_equal(drop_degenerate_faces(twice).faces, whole.faces)
    pocket = mesh_of([*whole.vertices, [3, 3, 3]], [*whole.faces, [0, 1, 8], [1, 0, 8], *whole.faces[:1, [0, 2, 1]]])
    np.testing.assert_array_equal(drop_degenerate_faces(pocket).faces, whole.faces[1:])


def test_a_face_pressed_to_a_line_goes_and_leaves_no_hole() -> None:
    vertices = [*cube().vertices, [0.5, 0, 0]]  # in the middle of the edge from (0, 0, 0) to (1, 0, 0)
    low, high = (int(np.flatnonzero((cube().vertices == corner).all(axis=1))[0]) for corner in ([0, 0, 0], [1, 0, 0]))
    faces = cube().faces.tolist()
    owner = next(face for face in faces if {low, high} <= set(face))  # gets the middle as a corner, its neighbour not
    (apex,) = set(owner) - {low, high}
    faces.remove(owner)
    turn = owner if owner.index(high) == (owner.index(low) + 1) % 3 else owner[::-1]
    start, end = (low, high) if turn is owner else (high, low)
    faces += [[start, 8, apex], [8, end, apex], [start, end, 8]]
    mesh = mesh_of(vertices, faces)
    assert measure(mesh).watertight and measure(mesh).degenerate_faces == 1
    dropped = drop_degenerate_faces(mesh)
    assert len(dropped.faces) == 14 and assert_sound(dropped).volume == pytest.approx(1)


def test_a_needle_of_no_width_goes_and_leaves_no_hole() -> None:
    ball = sphere(2)
    a, b, _ = ball.faces[0]
    vertices = ball.vertices.copy()
    vertices[b] = vertices[a] + np.float32(1e-7)
    mesh = mesh_of(vertices, ball.faces)
    assert measure(mesh).degenerate_faces == 2
    dropped = drop_degenerate_faces(mesh)
    assert len(dropped.faces) == len(ball.faces) - 2
    assert_sound(dropped)


def test_a_single_flat_face_leaves_an_empty_mesh() -> None:
    assert drop_degenerate_faces(mesh_of([[0, 0, 0], [1, 1, 1], [2, 2, 2]], [[0, 1, 2]])).faces.shape == (0, 3)


@pytest.mark.parametrize("name", FIELDS)
def test_extracted_meshes_stay_untouched(name: str) -> None:
    mesh = extract_mesh(FIELDS[name], resolution=32)
    assert drop_degenerate_faces(mesh) is mesh and make_manifold(mesh) is mesh
    assert orient(mesh) is mesh and fill_holes(mesh, 100) is mesh


# --- manifold


@pytest.mark.parametrize("offset", [(1, 1, 0), (1, 1, 1)], ids=["an edge", "a corner"])
def test_two_cubes_that_share_an_edge_or_a_corner_come_apart(offset: tuple[int, int, int]) -> None:
    touching = merge_vertices(joined(cube(), cube(*offset)))
    assert measure(touching).parts == 1
    facts = assert_sound(make_manifold(touching))
    assert (facts.parts, facts.faces, facts.euler) == (2, 24, 4)
    assert 1.9 < facts.volume < 2


@pytest.mark.parametrize("inner", [turned_over(cube(2, 2, 1)), turned_over(cube(2, 2, 2))], ids=["an edge", "a corner"])
def test_two_cavities_that_touch_stay_cavities(inner: Mesh) -> None:
    holed = joined(cube(0, 0, 0, 4), turned_over(cube(1, 1, 1)), inner)
    facts = assert_sound(orient(make_manifold(holed)))
    assert 61 < facts.volume < 63


def test_three_faces_at_an_edge_become_two() -> None:
    fan = mesh_of([[0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 0.2], [0, -1, 0]], [[0, 1, 2], [1, 0, 3], [1, 0, 4]])
    facts = measure(make_manifold(fan))
    assert (facts.faces, facts.nonmanifold_edges) == (2, 0)


def test_a_fin_is_dropped_whole_and_its_cube_is_untouched() -> None:
    whole = cube()
    a, b, _ = whole.faces[0]
    fin = [[a, b, 8], [b, 9, 8], [8, 9, 10], [9, 11, 10]]
    mesh = mesh_of([*whole.vertices, [3, 3, 3], [4, 3, 3], [3, 3, 4], [4, 3, 4]], [*whole.faces, *fin])
    cleaned = make_manifold(mesh)
    np.testing.assert_array_equal(cleaned.faces, whole.faces)
    np.testing.assert_array_equal(cleaned.vertices, whole.vertices)


def test_a_tip_that_touches_a_wall_draws_back_and_the_wall_stays() -> None:
    wall = trimesh.creation.box(extents=(2, 2, 2)).subdivide()
    tip = mesh_of([[0, 0, 1], [1, 0, 3], [-1, 1, 3], [-1, -1, 3]], [[0, 2, 1], [0, 3, 2], [0, 1, 3], [1, 2, 3]])
    touching = merge_vertices(joined(mesh_of(wall.vertices, wall.faces), tip))
    assert measure(touching).parts == 1
    apart = make_manifold(touching)
    assert assert_sound(apart).parts == 2
    np.testing.assert_array_equal(apart.vertices[: len(wall.vertices)], np.float32(wall.vertices))
    assert 1 < apart.vertices[-1, 2] < 1.1


def test_faces_around_an_edge_pair_up_across_material_from_within() -> None:
    """Half-edges 0 and 1 have their material ahead, 2 and 3 have it behind."""
    rising = np.array([False, False, True, True])
    for ring, pairs in (
        ([0, 1, 2, 3], {(1, 2), (0, 3)}),
        ([2, 3, 0, 1], {(1, 2), (0, 3)}),
        ([0, 2, 1, 3], {(0, 2), (1, 3)}),
    ):
        assert set(wedges(np.array(ring), rising)) == pairs


def test_a_wall_inside_is_dropped_and_the_shell_stays_closed() -> None:
    shell = voxels(np.ones((1, 1, 2), dtype=bool))
    wall = np.flatnonzero(shell.vertices[:, 2] == shell.vertices[:, 2].mean())
    a, b, c, d = wall[[0, 1, 3, 2]]
    facts = assert_sound(make_manifold(mesh_of(shell.vertices, [*shell.faces, [a, b, c], [a, c, d]])))
    assert (facts.faces, facts.volume) == (len(shell.faces), pytest.approx(2))


def test_a_ring_pinched_in_one_edge_is_split_there() -> None:
    """Two arms touch along one edge and hang together at both its ends."""
    inside = np.zeros((3, 3, 3), dtype=bool)
    inside[:, :, [0, 2]] = True
    inside[0, 0, 1] = inside[1, 1, 1] = True
    pinched = voxels(inside)
    assert measure(pinched).nonmanifold_edges == 1
    facts = assert_sound(make_manifold(pinched))
    assert facts.parts == 1 and facts.volume == pytest.approx(20, rel=0.01)


@pytest.mark.parametrize("seed", range(12))
def test_touching_voxels_come_apart_and_keep_their_volume(seed: int) -> None:
    inside = np.random.default_rng(seed).random((4, 4, 4)) < 0.5
    touching = voxels(inside)
    assert measure(touching).nonmanifold_edges > 0
    apart = orient(make_manifold(touching))
    assert assert_sound(apart).volume == pytest.approx(inside.sum(), rel=0.05)
    assert (np.abs(apart.vertices - 3) <= 3.5).all()
    assert make_manifold(apart) is apart


def test_copies_keep_colours_and_normals_of_where_they_come_from() -> None:
    touching = merge_vertices(joined(cube(), cube(1, 1, 0)))
    apart = make_manifold(touching)
    nearest = np.linalg.norm(apart.vertices[:, None] - touching.vertices, axis=2).argmin(axis=1)
    np.testing.assert_array_equal(apart.colors, touching.colors[nearest])
    np.testing.assert_allclose(apart.normals, touching.normals[nearest], atol=1e-6)


# --- winding


def test_faces_turned_at_random_turn_back() -> None:
    ball = sphere(3)
    faces = ball.faces.copy()
    some = np.random.default_rng(0).random(len(faces)) < 0.4
    faces[some] = faces[some][:, ::-1]
    facts = assert_sound(orient(mesh_of(ball.vertices, faces)))
    assert facts.volume == pytest.approx(measure(ball).volume)


def test_parts_turn_outward_each_for_itself_and_normals_follow() -> None:
    pair = joined(cube(5, 5, 5), turned_over(cube(-5, 0, 0)))
    right = orient(pair)
    assert_sound(right)
    np.testing.assert_array_equal(right.faces[:12], pair.faces[:12])
    outward = right.vertices[8:] - right.vertices[8:].mean(axis=0)
    assert ((right.normals[8:] * outward).sum(axis=1) > 0).all()


@pytest.mark.parametrize("inside_out", [False, True])
def test_a_cavity_faces_its_inside_and_a_ball_in_it_its_outside(inside_out: bool) -> None:
    onion = joined(sphere(3), turned_over(sphere(3, 0.8)), sphere(3, 0.5))
    volume = measure(onion).volume
    mesh = orient(turned_over(onion) if inside_out else onion)
    assert measure(mesh).volume == pytest.approx(volume) and volume > 0
    assert measure(orient(joined(sphere(3), sphere(3, 0.8)))).volume < measure(sphere(3)).volume


def test_an_open_surface_faces_away_from_its_middle() -> None:
    for mesh in (half_sphere(), turned_over(half_sphere())):
        right = orient(mesh)
        centers = right.vertices[right.faces].mean(axis=1)
        assert ((area_vectors(right.vertices, right.faces) * centers).sum(axis=1) > 0).all()


def test_a_surface_with_one_side_keeps_its_windings() -> None:
    angle = np.arange(10) * 2 * math.pi / 10
    sides = [
        np.stack([r * np.cos(angle), r * np.sin(angle), h * np.sin(angle / 2)], axis=1)
        for r, h in ((1 - 0.2 * np.cos(angle / 2), -0.2), (1 + 0.2 * np.cos(angle / 2), 0.2))
    ]
    faces = [[i, i + 1, i + 10] for i in range(9)] + [[i + 1, i + 11, i + 10] for i in range(9)]
    strip = mesh_of(np.concatenate(sides), [*faces, [9, 10, 19], [10, 0, 19]])
    assert not measure(orient(strip)).winding_consistent
    assert measure(make_manifold(strip)).faces == 20


# --- holes


def test_a_cube_without_a_side_gets_it_back() -> None:
    whole = cube()
    side = whole.vertices[whole.faces][:, :, 2].min(axis=1) == 1
    filled = fill_holes(mesh_of(whole.vertices, whole.faces[~side]), 4)
    assert side.sum() == 2 and len(filled.vertices) == 8
    assert assert_sound(filled).volume == pytest.approx(1) and measure(filled).area == pytest.approx(6)


@pytest.mark.parametrize("subdivisions", [2, 6], ids=["a small rim", "a rim that gets a new vertex"])
def test_a_half_sphere_gets_a_floor(subdivisions: int) -> None:
    dome = half_sphere(subdivisions)
    filled = fill_holes(dome, 1000)
    facts = assert_sound(filled)
    assert facts.volume == pytest.approx(2 / 3 * math.pi, rel=0.1)
    np.testing.assert_array_equal(filled.faces[: len(dome.faces)], merge_vertices(dome).faces)
    if subdivisions == 6:
        rim = np.unique(filled.faces[len(dome.faces) :])[:-1]
        assert len(filled.vertices) == len(np.unique(dome.faces)) + 1 or len(filled.vertices) == len(dome.vertices) + 1
        np.testing.assert_allclose(filled.colors[-1], filled.colors[rim].mean(axis=0), atol=1e-5)
        assert np.linalg.norm(filled.normals[-1]) == pytest.approx(1, abs=1e-5)


def test_holes_larger_than_allowed_stay() -> None:
    whole = cube()
    side = whole.vertices[whole.faces][:, :, 2].min(axis=1) == 1
    face = int(np.flatnonzero(~side)[0])
    holed = mesh_of(whole.vertices, np.delete(whole.faces, [*np.flatnonzero(side), face], axis=0))
    assert measure(fill_holes(holed, 2)).boundary_edges == measure(holed).boundary_edges
    assert measure(fill_holes(holed, 3)).boundary_edges <= 6


def test_holes_that_meet_in_a_vertex_are_closed_one_by_one() -> None:
    ball = sphere(2)
    vertex = 20
    around = np.flatnonzero((ball.faces == vertex).any(axis=1))
    opposite = [around[0], next(f for f in around if len({*ball.faces[f], *ball.faces[around[0]]}) == 5)]
    holed = mesh_of(ball.vertices, np.delete(ball.faces, opposite, axis=0))
    facts = assert_sound(fill_holes(holed, 3))
    assert facts.faces == len(ball.faces) and facts.volume == pytest.approx(measure(ball).volume)


def test_a_cover_never_runs_along_an_edge_that_is_there() -> None:
    """One diagonal of the square hole belongs to a flap below, and the other makes the same edge through the other."""
    top = [[0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 1, 0], [0.5, 0.5, -1]]
    walls = [[1, 0, 4], [2, 1, 4], [3, 2, 4], [0, 3, 4]]
    flap = [[0, 2, 5], [2, 0, 6], [0, 5, 6], [2, 6, 5]]
    mesh = mesh_of([*top, [0.4, 0.6, -0.4], [0.6, 0.4, -0.4]], walls + flap)
    filled = fill_holes(mesh, 4)
    assert measure(filled).watertight
    diagonal = [{0, 2} <= set(face) for face in filled.faces.tolist()]
    assert sum(diagonal) == 2


def test_a_single_triangle_stays_open() -> None:
    single = mesh_of([[0, 0, 0], [1, 0, 0], [0, 1, 0]], [[0, 1, 2]])
    for step in (merge_vertices, drop_degenerate_faces, make_manifold, orient, lambda mesh: fill_holes(mesh, 9)):
        assert step(single) is single


# --- together


@pytest.mark.parametrize("seed", range(8))
def test_a_damaged_ball_is_repaired(seed: int) -> None:
    """Faces missing, turned, doubled; fins; vertices not shared."""
    rng, ball = np.random.default_rng(seed), sphere(3)
    faces = ball.faces[rng.random(len(ball.faces)) > 0.05]
    turned = rng.random(len(faces)) < 0.1
    faces[turned] = faces[turned][:, ::-1]
    doubled = faces[rng.random(len(faces)) < 0.05]
    fins = rng.choice(faces, 5)[:, [0, 1]]
    tips = rng.normal(size=(5, 3)) * 2
    faces = np.concatenate([faces, doubled, np.column_stack([fins, len(ball.vertices) + np.arange(5)])])
    soup = np.concatenate([ball.vertices, tips])[rng.permutation(faces)]
    facts = assert_sound(repaired(mesh_of(soup, np.arange(3 * len(faces)))))
    assert facts.volume == pytest.approx(measure(ball).volume, rel=0.1)
    assert facts.parts == 1


@pytest.mark.parametrize("seed", range(6))
def test_random_triangles_end_manifold(seed: int) -> None:
    rng = np.random.default_rng(seed)
    mesh = mesh_of(rng.normal(size=(12, 3)), rng.integers(0, 12, (40, 3)))
    facts = measure(repaired(mesh))
    assert facts.nonmanifold_edges == facts.degenerate_faces == 0


def test_what_no_round_has_solved_loses_its_smallest_faces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(repair, "ROUNDS", 0)
    touching = voxels(np.random.default_rng(3).random((4, 4, 4)) < 0.5)
    facts = measure(make_manifold(touching))
    assert facts.nonmanifold_edges == 0 and 0 < facts.faces < len(touching.faces)


def test_repairs_do_not_depend_on_anything_but_the_mesh() -> None:
    inside = np.random.default_rng(3).random((4, 4, 4)) < 0.5
    one, other = repaired(voxels(inside)), repaired(voxels(inside))
    for name in ARRAYS:
        assert getattr(one, name).tobytes() == getattr(other, name).tobytes()


def test_a_large_sphere_goes_through_every_step() -> None:
    ball = sphere(7)
    holed = mesh_of(ball.vertices, ball.faces[5:])
    facts = assert_sound(repaired(holed))
    assert facts.faces >= 327_678 and facts.volume == pytest.approx(4 / 3 * math.pi, rel=1e-3)
