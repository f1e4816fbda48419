"""Collision shapes are convex, closed, small, and hold the mesh; trouble degrades them within the budget."""

import ast
import os
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import trimesh
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from scaledreamer.errors import ExportError
from scaledreamer.export import Mesh, extract_mesh
from scaledreamer.export import collision as module
from scaledreamer.export.collision import CUBE, Collision, Kind, collision
from scaledreamer.export.hull import CORNERS, Hull
from tests.export.fields import FIELDS, Analytic, ball, box, bumpy, cone, torus, union

TABLE = union(
    box((-0.8, -0.6, 0.3), (0.8, 0.6, 0.45)),
    *(box((x - 0.08, y - 0.08, -0.6), (x + 0.08, y + 0.08, 0.4)) for x in (-0.7, 0.7) for y in (-0.5, 0.5)),
)
COORDINATES = arrays(np.float32, (8, 3), elements=st.floats(-2, 2, width=32))


def made_of(vertices: np.ndarray, faces: np.ndarray) -> Mesh:
    vertices = np.asarray(vertices, dtype=np.float32)
    return Mesh(vertices, np.asarray(faces, dtype=np.int64), np.zeros_like(vertices))


def solid(part: Mesh) -> trimesh.Trimesh:
    return trimesh.Trimesh(part.vertices.astype(np.float64), part.faces, process=False)


def beyond(part: Mesh, points: np.ndarray) -> np.ndarray:
    """How far outside of a convex part each point lies."""
    seen = solid(part)
    flat = np.einsum("fc,fc->f", seen.face_normals, seen.triangles_center)
    return (points @ seen.face_normals.T - flat).max(axis=1)


def share_inside(made: Collision, mesh: Mesh) -> float:
    """Share of points spread over the surface by area that lie in some part, within 1e-4 of the size."""
    points, _ = trimesh.sample.sample_surface(solid(mesh), 20_000, seed=7)
    return float((np.min([beyond(part, points) for part in made.parts], axis=0) <= 1e-4 * size(mesh)).mean())


def size(mesh: Mesh) -> float:
    return float(np.ptp(mesh.vertices, axis=0).max())


def assert_sound(made: Collision, mesh: Mesh) -> None:
    """Convex, closed, outward, white, few vertices; together they hold the mesh."""
    assert 1 <= len(made.parts) <= 16
    for part in made.parts:
        seen = solid(part)
        assert len(part.vertices) <= 64 and (part.colors == 1).all()
        assert seen.is_watertight and seen.is_winding_consistent and seen.volume > 0 and seen.euler_number == 2
        assert len(np.unique(part.faces)) == len(part.vertices)
        assert beyond(part, part.vertices.astype(np.float64)).max() < 1e-5 * size(mesh)
    assert share_inside(made, mesh) >= 0.98


@pytest.fixture
def worker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file that is run in place of CoACD's."""
    path = tmp_path / "worker.py"
    monkeypatch.setattr(module, "WORKER", path)
    monkeypatch.setattr(module, "find_spec", lambda name: name)
    return path


@pytest.fixture(scope="module")
def table() -> Mesh:
    return extract_mesh(Analytic((TABLE,)), resolution=32)


def test_none_is_nothing(table: Mesh) -> None:
    made = collision(table, "none", 1.0)
    assert (made.parts, made.kind, made.degraded) == ([], "none", None)


def test_a_box_is_the_bounding_box_exactly(table: Mesh) -> None:
    made = collision(table, "box", 1.0)
    (part,) = made.parts
    assert (made.kind, made.degraded, len(part.faces), len(part.vertices)) == ("box", None, 12, 8)
    np.testing.assert_array_equal(part.vertices.min(axis=0), table.vertices.min(axis=0))
    np.testing.assert_array_equal(part.vertices.max(axis=0), table.vertices.max(axis=0))
    assert solid(part).volume == pytest.approx(np.ptp(table.vertices, axis=0).prod(), rel=1e-5)
    assert_sound(made, table)


@pytest.mark.parametrize("name", FIELDS)
def test_a_hull_is_convex_and_holds_the_surface(name: str) -> None:
    mesh = extract_mesh(FIELDS[name], resolution=41)
    made = collision(mesh, "hull", 1.0)
    assert (made.kind, made.degraded, len(made.parts)) == ("hull", None, 1)
    assert_sound(made, mesh)
    assert solid(made.parts[0]).volume <= 1.08 * solid(mesh).convex_hull.volume


def test_a_hull_that_has_few_corners_is_exact(table: Mesh) -> None:
    (part,) = collision(table, "hull", 1.0).parts
    exact = solid(table).convex_hull
    assert solid(part).volume == pytest.approx(exact.volume, rel=1e-3)
    np.testing.assert_allclose(solid(part).bounds, exact.bounds, atol=3e-4)


def test_a_hull_of_three_hundred_thousand_faces_is_made_in_seconds() -> None:
    sphere = trimesh.creation.icosphere(subdivisions=7)
    turn = trimesh.transformations.rotation_matrix(0.7, [1, 2, 3])[:3, :3]
    mesh = made_of(sphere.vertices * [2, 0.5, 0.1] @ turn.T, sphere.faces)
    assert len(mesh.faces) > 300_000
    start = time.process_time()
    made = collision(mesh, "hull", 1.0)
    assert time.process_time() - start < 10  # 0.6 s alone
    assert len(made.parts[0].vertices) == CORNERS
    assert_sound(made, mesh)
    assert solid(made.parts[0]).volume <= 1.08 * solid(mesh).volume


@settings(deadline=None)
@given(points=COORDINATES)
def test_the_hull_of_any_eight_points_is_sound(points: np.ndarray) -> None:
    mesh = made_of(points, CUBE)
    made = collision(mesh, "hull", 1.0)
    assert made.kind == ("box" if made.degraded else "hull")
    if size(mesh) > 1e-30:
        (part,) = made.parts
        seen = solid(part)
        assert seen.is_watertight and seen.is_winding_consistent
        assert beyond(part, points.astype(np.float64)).max() <= 2e-4 * size(mesh)


@pytest.mark.parametrize("kind", ["box", "hull", "convex"])
@pytest.mark.parametrize("tilted", [False, True])
@pytest.mark.parametrize("count", [3, 40])
def test_a_flat_mesh_gets_a_thin_box_with_a_reason(kind: Kind, tilted: bool, count: int) -> None:
    flat = np.random.default_rng(0).uniform(-1, 1, (count, 3)) * [1, 0.6, 0]
    turn = trimesh.transformations.rotation_matrix(0.7, [1, 2, 3])[:3, :3] if tilted else np.eye(3)
    mesh = made_of(flat @ turn.T + 0.3, np.arange(count - count % 3).reshape(-1, 3))
    made = collision(mesh, kind, 5.0)
    if kind == "box" and tilted:
        assert made.degraded is None  # the box along the axes is not thin
        return
    assert (made.kind, len(made.parts)) == ("box", 1) and made.degraded and "flat" in made.degraded
    assert_sound(made, mesh)
    assert solid(made.parts[0]).extents.min() > 0 and solid(made.parts[0]).volume < 0.02 * size(mesh) ** 3


@pytest.mark.parametrize("points", [[[0.3, 0.2, 0.1]] * 3, [[0, 0, 0], [0.5, 1, 0], [1, 2, 0]]])
def test_a_point_and_a_line_get_a_box_too(points: list[list[float]]) -> None:
    made = collision(made_of(np.array(points), np.array([[0, 1, 2]])), "hull", 1.0)
    assert made.kind == "box" and made.degraded
    assert solid(made.parts[0]).is_watertight and solid(made.parts[0]).volume > 0


@pytest.mark.parametrize("factor", [1e-3, 1e3])
def test_size_and_place_do_not_matter(table: Mesh, factor: float) -> None:
    moved = replace(table, vertices=(table.vertices + np.float32(0.5)) * np.float32(factor))
    (part,), (there,) = collision(table, "hull", 1.0).parts, collision(moved, "hull", 1.0).parts
    assert solid(there).volume == pytest.approx(solid(part).volume * factor**3, rel=1e-3)
    assert share_inside(collision(moved, "hull", 1.0), moved) >= 0.98


def test_vertices_without_faces_do_not_count(table: Mesh) -> None:
    stray = made_of(np.concatenate([table.vertices, [[9, 9, 9]]]), table.faces)
    for kind in ("box", "hull"):
        np.testing.assert_array_equal(
            collision(stray, kind, 1.0).parts[0].vertices, collision(table, kind, 1.0).parts[0].vertices
        )


def test_a_mesh_without_faces_is_refused(table: Mesh) -> None:
    with pytest.raises(ExportError, match="without faces"):
        collision(replace(table, faces=table.faces[:0]), "hull", 1.0)


@pytest.mark.parametrize("shape", [TABLE, union(ball(-0.6, radius=0.3), ball(0.6, radius=0.2))], ids=["table", "balls"])
def test_convex_parts_are_sound_fit_better_than_a_hull_and_are_always_the_same(shape: object) -> None:
    pytest.importorskip("coacd")
    mesh = extract_mesh(Analytic((shape,)), resolution=32)
    made, again = collision(mesh, "convex", 200.0), collision(mesh, "convex", 200.0)
    assert (made.kind, made.degraded) == ("convex", None) and len(made.parts) > 1
    assert_sound(made, mesh)
    hull, exact = solid(collision(mesh, "hull", 1.0).parts[0]).volume, solid(mesh).volume
    assert sum(solid(part).volume for part in made.parts) - exact < 0.5 * (hull - exact)
    for part, twin in zip(made.parts, again.parts, strict=True):
        np.testing.assert_array_equal(part.vertices, twin.vertices)


def test_an_open_mesh_has_convex_parts_too(table: Mesh) -> None:
    pytest.importorskip("coacd")
    mesh = replace(table, faces=table.faces[table.vertices[table.faces][..., 2].min(axis=1) > -0.5])
    made = collision(mesh, "convex", 200.0)
    assert made.kind == "convex"
    assert_sound(made, mesh)


def test_a_hung_child_is_ended_with_its_children_within_the_budget(table: Mesh, worker: Path) -> None:
    pids = worker.with_name("pids")
    worker.write_text(
        "import os, signal, subprocess, sys, time\n"
        "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'])\n"
        f"open({str(pids)!r}, 'w').write(f'{{os.getpid()}} {{child.pid}}')\n"
        "time.sleep(600)\n"
    )
    start = time.monotonic()
    made = collision(table, "convex", 3.0)
    assert time.monotonic() - start < 5
    assert made.kind == "hull" and made.degraded and "longer than 3 s" in made.degraded
    assert_sound(made, table)
    assert all(gone(int(pid)) for pid in pids.read_text().split())


def gone(pid: int) -> bool:
    """Whether a process ends within a moment (an orphan's new parent still has to collect it)."""
    for _ in range(100):
        try:
            os.kill(pid, 0)
            if Path(f"/proc/{pid}/stat").read_text().split()[2] == "Z":
                return True
        except (ProcessLookupError, FileNotFoundError):
            return True
        time.sleep(0.05)
    return False


@pytest.mark.parametrize(
    ("program", "reason"),
    [
        ("import no_such_library", "No module named 'no_such_library'"),
        ("import os; os.kill(os.getpid(), 11)", "status -11"),
        ("print('not an archive')", "cannot be read"),
        ("", "cannot be read"),
        ("import numpy, sys; numpy.savez(sys.stdout.buffer)", "0 parts"),
        ("import numpy, sys; numpy.savez(sys.stdout.buffer, numpy.eye(3))", "0 parts"),
        ("import numpy, sys; numpy.savez(sys.stdout.buffer, *[numpy.eye(4, 3)] * 17)", "17 parts"),
        ("import numpy, sys; numpy.savez(sys.stdout.buffer, *[numpy.eye(4, 3) / 99] * 2)", "would have to grow"),
        ("import numpy, sys; numpy.savez(sys.stdout.buffer, numpy.full((4, 3), numpy.nan))", "no points"),
        ("import numpy, sys; numpy.savez(sys.stdout.buffer, numpy.eye(4))", "no points"),
        ("import numpy, sys; numpy.savez(sys.stdout.buffer, numpy.array([None]))", "cannot be read"),
    ],
)
def test_a_child_without_a_good_answer_leaves_one_hull_and_a_reason(
    table: Mesh, worker: Path, program: str, reason: str
) -> None:
    worker.write_text(program)
    made = collision(table, "convex", 60.0)
    assert made.kind == "hull" and made.degraded and reason in made.degraded
    np.testing.assert_array_equal(made.parts[0].vertices, collision(table, "hull", 1.0).parts[0].vertices)


def test_without_the_library_the_reason_says_how_to_get_it(table: Mesh, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "find_spec", lambda name: None)
    made = collision(table, "convex", 60.0)
    assert made.kind == "hull" and made.degraded and "pip install 'scaledreamer[assets]'" in made.degraded


@pytest.mark.parametrize("budget", [0.0, -1.0])
def test_no_time_at_all_is_a_hull(table: Mesh, budget: float) -> None:
    assert collision(table, "convex", budget).kind == "hull"


def test_the_child_imports_numpy_and_coacd_alone() -> None:
    names = set(imports(ast.parse(module.WORKER.read_text())))
    assert names == {"io", "os", "signal", "sys", "numpy", "coacd"}


def imports(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield str(node.module)


@pytest.mark.parametrize("shape", [bumpy, cone(), torus()], ids=["bumpy", "cone", "torus"])
def test_a_hull_grows_as_little_as_its_points_need(shape: object) -> None:
    points = extract_mesh(Analytic((shape,)), resolution=48).vertices.astype(np.float64)
    hull = Hull.around(points)
    assert hull.grown(1.0).beyond(points).max() == pytest.approx(hull.beyond(points).max())
    grown = hull.grown(float(hull.factors(points).max()))
    assert grown.beyond(points).max() <= 1.0001e-4
    assert hull.grown(0.999 * float(hull.factors(points).max())).beyond(points).max() > 1e-4
    np.testing.assert_allclose(Hull.of(grown.vertices).beyond(points), grown.beyond(points), atol=1e-9)
