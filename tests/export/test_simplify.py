"""Fewer faces, the same surface: closed where it was, near enough, never more broken; and how far off is measured."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
import trimesh
from jaxtyping import Float
from scipy.spatial import cKDTree
from torch import Tensor

from scaledreamer.errors import ExportError
from scaledreamer.export import Mesh
from scaledreamer.export.deviation import SAMPLES, Nearby, deviation, spread
from scaledreamer.export.facts import measure
from scaledreamer.export.isosurface import extract_mesh
from scaledreamer.export.repair import make_manifold
from scaledreamer.export.simplify import coarse_hull, simplify, simplify_to_error
from tests.export.fields import Analytic, ball
from tests.export.shapes import cube, half_sphere, joined, mesh_of, sphere, turned_over, voxels
from tests.export.test_repair import bounds_a_solid, solid


def of(made: trimesh.Trimesh) -> Mesh:
    return mesh_of(made.vertices, made.faces)


def blob(seed: int) -> Mesh:
    """A ball with bumps: 1,280 faces."""
    ball, rng = sphere(3), np.random.default_rng(seed)
    waves = np.sin(ball.vertices @ rng.normal(0, 3, (3, 4)) + rng.uniform(0, 6, 4)).sum(axis=1, keepdims=True)
    return mesh_of(ball.vertices * (1 + 0.08 * waves), ball.faces)


def caves(seed: int) -> Mesh:
    """Blocks that touch at edges and corners, cut apart: many handles and hollows."""
    return make_manifold(voxels(np.random.default_rng(seed).random((5, 5, 5)) < 0.5))


CLOSED: dict[str, Callable[[], Mesh]] = {
    "a ball": lambda: sphere(3),
    "a bumpy ball": lambda: blob(0),
    "a ring": lambda: of(trimesh.creation.torus(1, 0.3)),
    "a cube of many faces": lambda: of(trimesh.creation.box().subdivide().subdivide().subdivide()),
    "two balls": lambda: joined(sphere(2), mesh_of(sphere(3).vertices + 3, sphere(3).faces)),
    "a hollow ball": lambda: joined(sphere(3), turned_over(sphere(3, 0.5))),
    "caves": lambda: caves(3),
}
SLIVERS: dict[str, Callable[[], Mesh]] = {
    "a column of 400 sides": lambda: of(trimesh.creation.cylinder(1, 2, sections=400)),
    "a column that leans": lambda: of(trimesh.creation.cylinder(1, 2, sections=400, transform=turn())),
    "a needle": lambda: mesh_of(sphere(3).vertices * [1, 0.01, 0.01], sphere(3).faces),
    "a needle that leans": lambda: mesh_of((sphere(3).vertices * [1, 0.01, 0.01]) @ turn()[:3, :3], sphere(3).faces),
}


def turn() -> np.ndarray:
    return trimesh.transformations.rotation_matrix(1.0, [1, 2, 3])


# --- a budget of faces


@pytest.mark.parametrize("faces", [4, 13, 60, 500])
@pytest.mark.parametrize("name", CLOSED)
def test_a_closed_mesh_stays_closed_within_any_budget(name: str, faces: int) -> None:
    mesh = CLOSED[name]()
    light = simplify(mesh, faces)
    facts = measure(light)
    assert facts.watertight and facts.winding_consistent and facts.degenerate_faces == 0 and facts.volume > 0
    assert solid(light).is_watertight and bounds_a_solid(light)
    assert facts.faces <= min(faces, len(mesh.faces))
    assert facts.faces >= min(0.98 * faces, faces - 1, len(mesh.faces))


@pytest.mark.parametrize("seed", range(4))
def test_a_budget_is_kept_and_the_shape_too(seed: int) -> None:
    mesh, faces = blob(seed), int(np.random.default_rng(seed).integers(300, 1200))
    light = simplify(mesh, faces)
    before, after = measure(mesh), measure(light)
    assert 0.98 * faces <= after.faces <= faces and after.euler == before.euler == 2
    assert after.volume == pytest.approx(before.volume, rel=0.02) and after.area == pytest.approx(before.area, rel=0.02)
    assert deviation(mesh, light) < 0.06
    np.testing.assert_allclose(light.vertices.min(axis=0), mesh.vertices.min(axis=0), atol=0.05)
    np.testing.assert_allclose(light.vertices.max(axis=0), mesh.vertices.max(axis=0), atol=0.05)


@pytest.mark.parametrize("name", SLIVERS)
def test_slivers_become_fewer_and_nothing_is_lost(name: str) -> None:
    mesh, faces = SLIVERS[name](), 300
    before, after = measure(mesh), measure(simplify(mesh, faces))
    assert after.watertight and after.winding_consistent and after.degenerate_faces == 0
    assert 0.8 * faces <= after.faces <= faces
    assert after.volume == pytest.approx(before.volume, rel=0.03)


@pytest.mark.parametrize("faces", [300, 600, 1000, 2000])
def test_a_thin_bridge_holds(faces: int) -> None:
    """A thread between two balls, which the first way that is tried tears."""
    left, right = ball(x=-0.5, radius=0.3), ball(x=0.5, radius=0.3)

    def shape(p: Float[Tensor, "N 3"]) -> Float[Tensor, " N"]:
        thread = torch.maximum(torch.hypot(p[:, 1] - 0.003, p[:, 2] - 0.005) - 0.02, p[:, 0].abs() - 0.4)
        return torch.stack([left(p), right(p), thread]).amin(0)

    mesh = extract_mesh(Analytic((shape,)), 64)
    after = measure(simplify(mesh, faces))
    assert measure(mesh).parts == after.parts == 1
    assert after.watertight


def test_crumbs_go_and_leave_their_faces_to_the_rest() -> None:
    """A ball with eight far smaller ones around it, of which each is .2 % of all area."""
    small, places = sphere(3, 0.05), 1.5 * np.vstack([np.eye(3), -np.eye(3), [[1, 1, 0], [1, 0, 1]]])
    mesh = joined(sphere(4), *(mesh_of(small.vertices + place, small.faces) for place in places))
    light = measure(simplify(mesh, 400, 0.01))
    assert measure(mesh).parts == measure(simplify(mesh, 400)).parts == 9
    assert light.parts == 1 and light.watertight and 392 <= light.faces <= 400


def test_flat_faces_cost_nothing() -> None:
    fine = of(trimesh.creation.box(extents=(1, 1, 1)).subdivide().subdivide().subdivide())
    light = simplify(fine, 12)
    assert len(light.faces) == 12 and measure(light).volume == pytest.approx(1) and deviation(fine, light) < 1e-6


def test_a_mesh_within_its_budget_stays_as_it_is() -> None:
    mesh = blob(0)
    assert simplify(mesh, len(mesh.faces)) is mesh and simplify(mesh, 10**6) is mesh
    assert len(simplify(mesh, len(mesh.faces) - 1).faces) < len(mesh.faces)


@pytest.mark.parametrize("faces", [3, 0, -1])
def test_fewer_than_four_faces_are_refused(faces: int) -> None:
    with pytest.raises(ExportError, match=f"cannot simplify to {faces} faces; a closed surface has at least 4"):
        simplify(sphere(1), faces)


def test_a_mesh_without_any_area_is_refused() -> None:
    line = mesh_of([[x, 0, 0] for x in range(7)], [[k, k + 1, k + 2] for k in range(5)])
    with pytest.raises(ExportError, match="cannot simplify this mesh of 5 faces to 4; ask for more"):
        simplify(line, 4)


@pytest.mark.parametrize("factor", [1e-6, 1e6])
def test_the_unit_does_not_matter(factor: float) -> None:
    mesh, light = blob(1), simplify(blob(1), 400)
    other = simplify(mesh_of(mesh.vertices * np.float32(factor), mesh.faces), 400)
    assert len(other.faces) == len(light.faces)
    assert measure(other).volume == pytest.approx(measure(light).volume * factor**3, rel=0.01)


def test_many_at_once_are_as_one_after_the_other() -> None:
    """The library keeps its mesh in globals."""
    meshes = [blob(seed) for seed in range(6)]
    with ThreadPoolExecutor(6) as pool:
        together = list(pool.map(lambda mesh: simplify(mesh, 300), meshes))
    for mesh, other in zip(meshes, together, strict=True):
        light = simplify(mesh, 300)
        assert light.vertices.tobytes() == other.vertices.tobytes() and light.faces.tobytes() == other.faces.tobytes()


# --- defects


def damaged(seed: int) -> dict[str, Mesh]:
    """A bumpy ball with one thing wrong."""
    rng, mesh = np.random.default_rng(seed), blob(seed)
    turned = rng.random((len(mesh.faces), 1)) < 0.2
    fin = [*mesh.faces[7, :2], len(mesh.vertices)]
    return {
        "holes": mesh_of(mesh.vertices, mesh.faces[rng.random(len(mesh.faces)) > 0.02]),
        "half": half_sphere(3),
        "turned": mesh_of(mesh.vertices, np.where(turned, mesh.faces[:, ::-1], mesh.faces)),
        "fin": mesh_of([*mesh.vertices, [2, 2, 2]], [*mesh.faces, fin]),
        "copies": mesh_of(mesh.vertices, np.concatenate([mesh.faces, rng.choice(mesh.faces, 30)])),
        "single triangles": mesh_of(mesh.vertices[mesh.faces], np.arange(mesh.faces.size)),
    }


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("defect", damaged(0))
def test_defects_do_not_become_worse(defect: str, seed: int) -> None:
    mesh = damaged(seed)[defect]
    for faces in (400, 60):
        light = simplify(mesh, faces)
        before, after = measure(mesh), measure(light)
        assert 0.95 * faces <= after.faces <= faces and after.degenerate_faces == 0
        assert after.nonmanifold_edges <= before.nonmanifold_edges and after.watertight >= before.watertight
        assert after.winding_consistent >= before.winding_consistent
        assert after.area == pytest.approx(before.area, rel=0.25)


def test_an_open_border_is_still_there() -> None:
    light = simplify(half_sphere(4), 300)
    assert measure(light).boundary_edges > 0 and light.vertices[:, 2].min() < 0.05 < 0.95 < light.vertices[:, 2].max()


# --- hulls of few faces


@pytest.mark.parametrize("faces", [4, 7, 12, 50])
def test_a_coarse_hull_is_convex_between_vertices_of_the_mesh(faces: int) -> None:
    mesh = blob(2)
    hull = coarse_hull(mesh, faces)
    seen = solid(hull)
    assert 4 <= len(hull.faces) <= faces and seen.is_watertight and seen.volume > 0
    assert seen.is_convex and cKDTree(mesh.vertices).query(hull.vertices)[0].max() == 0


def test_the_hull_of_a_cube_is_the_cube() -> None:
    fine = of(trimesh.creation.box(extents=(1, 1, 1)).subdivide().subdivide())
    for faces in (12, 100):
        facts = measure(coarse_hull(fine, faces))
        assert (facts.faces, facts.vertices) == (12, 8) and facts.volume == pytest.approx(1)


def test_a_hull_stands_in_where_edges_alone_would_lose_more() -> None:
    assert measure(simplify(sphere(4), 20)).volume > 0.5 * 4 / 3 * np.pi


# --- colours and normals


def test_attributes_are_those_of_the_nearest_vertex_before() -> None:
    mesh = blob(4)
    light = simplify(mesh, 200)
    _, near = cKDTree(mesh.vertices).query(light.vertices)
    np.testing.assert_array_equal(light.colors, mesh.colors[near])
    np.testing.assert_array_equal(light.normals, mesh.normals[near])
    low, side = mesh.vertices.min(axis=0), np.ptp(mesh.vertices, axis=0).max()
    assert np.abs(light.colors - (light.vertices - low) / side).max() < 0.05, "a ramp over the box, as before"


# --- by error


@pytest.mark.parametrize("seed", range(2))
def test_a_larger_error_leaves_fewer_faces_and_none_is_exceeded(seed: int) -> None:
    mesh, counts = blob(seed), []
    for error in (0.01, 0.05, 0.3):
        light = simplify_to_error(mesh, error, 12, 1000)
        assert deviation(mesh, light) <= error or len(light.faces) >= 0.98 * 1000
        assert 12 <= len(light.faces) <= 1000 and measure(light).watertight
        counts.append(len(light.faces))
    assert counts == sorted(counts, reverse=True) and counts[0] > 3 * counts[-1]


def test_an_error_that_no_count_keeps_takes_the_most_faces() -> None:
    mesh = blob(0)
    light = simplify_to_error(mesh, 1e-6, 12, 300)
    assert 0.98 * 300 <= len(light.faces) <= 300
    assert simplify_to_error(mesh, 1e-6, 12, 10**6).vertices.tobytes() == mesh.vertices.tobytes()


def test_any_error_takes_nearly_the_fewest_faces() -> None:
    assert 12 <= len(simplify_to_error(blob(0), 10.0, 12, 1000).faces) <= 40


# --- how far apart


@pytest.mark.parametrize("gap", [0.01, 0.25])
def test_spheres_of_one_middle_are_their_radii_apart(gap: float) -> None:
    found = deviation(sphere(5), sphere(5, 1 + gap))
    assert found == deviation(sphere(5, 1 + gap), sphere(5)) and 0.999 * gap <= found <= gap + 1e-6


@pytest.mark.parametrize(("moved", "apart"), [(0.0, 0.0), (0.3, 0.3), (1.0, 1.0), (10.0, 10.0)])
def test_a_moved_cube_is_as_far_off_as_it_was_moved(moved: float, apart: float) -> None:
    assert deviation(cube(), cube(moved)) == pytest.approx(apart, abs=1e-6)


def test_both_ways_count() -> None:
    """Every point of the cube is on the pair, but the other cube is far from it."""
    pair = joined(cube(), cube(3))
    assert deviation(cube(), pair) == deviation(pair, cube()) == pytest.approx(3, abs=0.05)


def test_more_faces_of_the_same_surface_are_no_deviation() -> None:
    fine = of(trimesh.creation.box(extents=(1, 1, 1)).subdivide().subdivide())
    assert deviation(fine, mesh_of(cube().vertices - 0.5, cube().faces)) < 1e-6


@pytest.mark.parametrize("faces", [[[0, 1, 2]], [[0, 2, 1]], [[0, 0, 2]], [[0, 1, 0], [1, 1, 2]]])
def test_faces_pressed_to_a_line_are_as_near_as_the_line(faces: list[list[int]]) -> None:
    strip = Nearby(mesh_of([[0, 0, 0], [1, 0, 0], [3, 0, 0]], faces))
    points = np.array([[1.5, 2, 0], [-3, 0, 4], [6, 4, 0], [2.5, 0, 0]])
    for point, apart in zip(points, (2, 5, 5, 0), strict=True):
        assert strip.distances(point[None])[0] == pytest.approx(apart, abs=1e-12)


def test_a_face_pressed_to_a_point_is_as_near_as_the_point() -> None:
    point = Nearby(mesh_of([[1, 1, 1], [9, 9, 9]], [[0, 0, 0]]))
    assert point.distances(np.array([[1.0, 4, 5]]))[0] == pytest.approx(5)


@pytest.mark.parametrize("seed", range(5))
def test_the_largest_distance_is_that_of_a_plain_search(seed: int) -> None:
    """Triangles of all shapes, a third of them slivers; no distance is less than it is, and the largest is exact."""
    rng = np.random.default_rng(seed)
    corners = rng.uniform(-1, 1, (60, 1, 3)) + rng.normal(0, 0.3, (60, 3, 3))
    corners[::3, 2] = (corners[::3, 0] + corners[::3, 1]) / 2 + rng.normal(0, 1e-7, (20, 3))
    points = rng.uniform(-2, 2, (300, 3))
    mesh = mesh_of(corners, np.arange(180))
    triangles = np.repeat(mesh.vertices[mesh.faces].astype(np.float64), 300, axis=0)
    closest = trimesh.triangles.closest_point(triangles, np.tile(points, (60, 1)))
    plain = np.linalg.norm(closest - np.tile(points, (60, 1)), axis=1).reshape(60, 300).min(axis=0)
    found = Nearby(mesh).distances(points)
    assert found.max() == pytest.approx(plain.max(), abs=1e-9) and (found >= plain - 1e-9).all()


def test_samples_are_spread_by_area() -> None:
    mesh = joined(cube(side=2), cube(5))
    points, owners = spread(mesh)
    assert len(points) == SAMPLES and (owners < 12).mean() == pytest.approx(4 / 5, abs=1e-3)
    for owner in (0, 13):
        a, b, c = mesh.vertices[mesh.faces[owner]].astype(np.float64)
        normal = np.cross(b - a, c - a)
        assert np.abs((points[owners == owner] - a) @ normal).max() < 1e-12 and (owners == owner).sum() > 10
    middle = points[owners < 12].mean(axis=0)
    np.testing.assert_allclose(middle, [1, 1, 1], atol=0.05)
