"""Every face has its own place in the texture, whatever becomes of xatlas."""

import ast
import os
import re
import signal
import subprocess
import sys
import time
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest

from scaledreamer.errors import ExportError
from scaledreamer.export import Mesh, extract_mesh
from scaledreamer.export.raster import SIZES, covered, to_texels
from scaledreamer.export.repair import make_manifold
from scaledreamer.export.simplify import simplify
from scaledreamer.export.unwrap import WORKER, Unwrapped, overlapping_faces, unwrap, uv_utilisation
from tests.export.atlases import flat, has_gutter, signed_areas, soup, times_covered, uv_corners
from tests.export.fields import Analytic, bumpy, cone
from tests.export.shapes import voxels

module = import_module("scaledreamer.export.unwrap")


@pytest.fixture(scope="module")
def mesh() -> Mesh:
    """A bumpy ball of some 2,000 faces."""
    return extract_mesh(Analytic((bumpy,)), resolution=24)


@pytest.fixture(scope="module")
def by_xatlas(mesh: Mesh) -> Unwrapped:
    return unwrap(mesh, 512, 4, budget_s=60)


@pytest.fixture
def broken(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A worker to be written in place of ours; it crashes."""
    worker = tmp_path / "worker.py"
    worker.write_text("import os\nos.abort()\n")
    monkeypatch.setattr(module, "WORKER", worker)
    return worker


def gone(pid: int) -> bool:
    """Whether a process has ended; a dead one whose parent has not asked after it counts as such."""
    status = Path(f"/proc/{pid}/stat")
    try:
        os.kill(pid, 0)
        return status.exists() and status.read_text().rpartition(")")[2].split()[0] == "Z"
    except (ProcessLookupError, FileNotFoundError):
        return True


def assert_valid(before: Mesh, after: Mesh, size: int) -> None:
    """Faces in their order with their corners and what belongs to them; a place of its own for each."""
    assert after.faces.shape == before.faces.shape
    for name in ("vertices", "colors", "normals"):
        np.testing.assert_array_equal(getattr(after, name)[after.faces], getattr(before, name)[before.faces])
    assert after.uvs is not None and ((after.uvs > 0) & (after.uvs < 1)).all()
    assert (signed_areas(after) >= 0).all()
    assert times_covered(after, size).max() == 1 and len(overlapping_faces(after, size)) == 0


def test_xatlas_gives_every_face_a_place_of_its_own(mesh: Mesh, by_xatlas: Unwrapped) -> None:
    assert by_xatlas.degraded is None and by_xatlas.seconds > 0
    assert_valid(mesh, by_xatlas.mesh, 512)
    assert has_gutter(by_xatlas.mesh, 512, 4)
    assert len(by_xatlas.mesh.vertices) < 2 * len(mesh.vertices), "seams are few"
    assert (signed_areas(by_xatlas.mesh) > 0).all(), "no face of a good mesh goes without a place"
    assert uv_utilisation(by_xatlas.mesh) > 0.35


def test_the_same_mesh_gives_the_same_atlas(mesh: Mesh, by_xatlas: Unwrapped) -> None:
    again = unwrap(mesh, 512, 4, budget_s=60).mesh
    for name in ("vertices", "faces", "colors", "normals", "uvs"):
        assert getattr(again, name).tobytes() == getattr(by_xatlas.mesh, name).tobytes()


@pytest.mark.parametrize(("size", "gutter"), [(256, 1), (256, 2), (1024, 7), (2048, 8)])
def test_charts_keep_the_gutter_that_was_asked_for(size: int, gutter: int) -> None:
    cone_mesh = extract_mesh(Analytic((cone(),)), resolution=12)
    unwrapped = unwrap(cone_mesh, size, gutter, budget_s=60)
    assert unwrapped.degraded is None
    assert has_gutter(unwrapped.mesh, size, gutter)


def test_a_face_without_an_area_lies_on_a_point_of_its_neighbour(mesh: Mesh) -> None:
    a, b, _ = mesh.faces[100]
    thin = Mesh(mesh.vertices, np.concatenate([[[a, b, b]], mesh.faces]), mesh.colors, mesh.normals)
    unwrapped = unwrap(thin, 512, 4, budget_s=60)
    assert unwrapped.degraded is None
    assert_valid(thin, unwrapped.mesh, 512)
    places = uv_corners(unwrapped.mesh)
    assert np.ptp(places[0], axis=0).max() == 0
    assert (places[1:].reshape(-1, 2) == places[0, 0]).all(axis=1).any()


def test_faces_that_xatlas_lays_over_each_other_are_cut_off() -> None:
    touching = voxels(np.random.default_rng(1).random((6, 6, 6)) < 0.5)
    mesh = simplify(make_manifold(touching), 300)
    folded = module.ask_xatlas(mesh, 256, 1, np.zeros(0, dtype=np.int64), 60)
    loose = overlapping_faces(folded, 256)
    assert 0 < len(loose) < 10, "xatlas no longer folds this mesh; find another one"
    unwrapped = unwrap(mesh, 256, 1, budget_s=60)
    assert unwrapped.degraded is None
    assert_valid(mesh, unwrapped.mesh, 256)
    for face in unwrapped.mesh.faces[loose]:
        assert np.isin(unwrapped.mesh.faces, face).any(axis=1).sum() == 1, "a chart by itself"
    assert uv_utilisation(unwrapped.mesh) > 0.9 * uv_utilisation(folded)


def test_small_faces_have_a_place_too(mesh: Mesh) -> None:
    tiny = Mesh(mesh.vertices * np.float32(1e-3), mesh.faces, mesh.colors, mesh.normals)
    unwrapped = unwrap(tiny, 512, 4, budget_s=60)
    assert unwrapped.degraded is None and (signed_areas(unwrapped.mesh) > 0).all()


@pytest.mark.parametrize("count", [1, 2, 5, 333])
def test_a_crash_leaves_a_grid(broken: Path, count: int) -> None:
    mesh = soup(count)
    unwrapped = unwrap(mesh, 256, 4, budget_s=60)
    assert unwrapped.degraded == f"xatlas made no atlas: it ended with status {-signal.SIGABRT}"
    assert_valid(mesh, unwrapped.mesh, 256)
    assert has_gutter(unwrapped.mesh, 256, 4)


def test_a_grid_of_20_000_faces_keeps_its_gutter(broken: Path) -> None:
    mesh = soup(20_000)
    unwrapped = unwrap(mesh, 1024, 4, budget_s=60).mesh
    assert len(overlapping_faces(unwrapped, 2048)) == 0 and (signed_areas(unwrapped) > 0).all()
    assert has_gutter(unwrapped, 1024, 4)


def test_a_grid_too_fine_for_its_gutter_shares_what_there_is(broken: Path) -> None:
    unwrapped = unwrap(soup(20_000), 256, 4, budget_s=60).mesh
    assert len(overlapping_faces(unwrapped, 4096)) == 0
    assert (signed_areas(unwrapped) > 0).all()
    assert has_gutter(unwrapped, 256, 1)
    assert uv_utilisation(unwrapped) == pytest.approx((1 - 0.2 * (2 + np.sqrt(2))) ** 2, abs=1e-3)


def test_a_grid_turns_the_longest_side_to_the_diagonal(broken: Path) -> None:
    mesh = soup(8)
    corners = uv_corners(unwrap(mesh, 256, 4, budget_s=60).mesh)
    longest = [
        np.linalg.norm(c - np.roll(c, 1, axis=1), axis=2).argmax(axis=1) for c in (mesh.vertices[mesh.faces], corners)
    ]
    np.testing.assert_array_equal(*longest)


def test_utilisation_is_the_covered_share(broken: Path, by_xatlas: Unwrapped) -> None:
    two = unwrap(soup(2), 256, 4, budget_s=60).mesh
    leg = 256 - 2 * (2 + np.sqrt(2))
    assert uv_utilisation(two) == pytest.approx((leg / 256) ** 2, abs=1e-6)
    assert uv_utilisation(by_xatlas.mesh) == pytest.approx(times_covered(by_xatlas.mesh, 512).mean(), abs=0.01)


def test_more_faces_than_xatlas_is_given_go_onto_a_grid(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subprocess, "Popen", None)  # would fail
    mesh = soup(100_001)
    unwrapped = unwrap(mesh, 1024, 4, budget_s=60)
    assert unwrapped.degraded == "xatlas made no atlas: the mesh has 100001 faces, and it is given at most 100000"
    assert len(overlapping_faces(unwrapped.mesh, 4096)) == 0


@pytest.mark.parametrize(
    ("program", "reason"),
    [
        (
            "import no_such_package",
            "it ended with status 1: ModuleNotFoundError: No module named 'no_such_package'",
        ),
        ("", "its answer cannot be read: .*"),
        ("print('nonsense')", "its answer cannot be read: .*"),
        ("import sys; sys.stdin.close(); sys.exit('no room')", "it ended with status 1: no room"),
    ],
)
def test_what_went_wrong_is_said(broken: Path, program: str, reason: str) -> None:
    broken.write_text(program)
    degraded = unwrap(soup(20), 256, 4, budget_s=60).degraded
    assert degraded is not None and re.fullmatch(f"xatlas made no atlas: {reason}", degraded), degraded


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ("faces[:, [1, 2, 0]], uvs", "its faces are not those of the mesh"),
        ("faces, uvs + 1", "its vertices leave the texture"),
        ("faces, uvs * np.nan", "its vertices leave the texture"),
        ("faces, uvs[np.arange(len(uvs)) % 3]", r"20 of its faces overlap"),
    ],
)
def test_an_atlas_is_not_believed_unseen(broken: Path, change: str, reason: str) -> None:
    broken.write_text(
        "import io, sys\nimport numpy as np\n"
        "asked = np.load(io.BytesIO(sys.stdin.buffer.read()))\n"
        "faces = asked['faces']\n"
        "uvs = np.tile(np.float32([[0.1, 0.1], [0.9, 0.1], [0.1, 0.9]]), (len(faces), 1))\n"
        f"faces, uvs = {change}\n"
        "np.savez(sys.stdout.buffer, source=np.arange(len(uvs)), faces=faces, uvs=uvs)\n"
    )
    degraded = unwrap(soup(20), 256, 4, budget_s=60).degraded
    assert degraded is not None and re.fullmatch(f"xatlas made no atlas: {reason}", degraded), degraded


def hang(worker: Path) -> Path:
    """Make the worker and a child of it sleep; where they note their numbers."""
    noted = worker.with_name("pids")
    worker.write_text(
        "import os, subprocess, sys, time\n"
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'])\n"
        f"open({str(noted)!r} + '~', 'w').write(f'{{os.getpid()}} {{child.pid}}')\n"
        f"os.rename({str(noted)!r} + '~', {str(noted)!r})\n"
        "time.sleep(600)\n"
    )
    return noted


def wait_until_gone(noted: Path) -> None:
    pids = [int(word) for word in noted.read_text().split()]
    assert len(pids) == 2
    for _ in range(100):
        if all(gone(pid) for pid in pids):
            return
        time.sleep(0.05)
    pytest.fail(f"of {pids} some are left")


def test_a_hang_is_ended_within_its_budget_and_leaves_no_process_behind(broken: Path) -> None:
    noted = hang(broken)
    mesh = soup(500)
    start = time.monotonic()
    unwrapped = unwrap(mesh, 512, 4, budget_s=2)
    assert 2 <= time.monotonic() - start < 4
    assert unwrapped.degraded == "xatlas made no atlas: it took longer than 2 s"
    assert_valid(mesh, unwrapped.mesh, 512)
    wait_until_gone(noted)


def test_an_interrupt_leaves_no_process_behind(broken: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    noted = hang(broken)

    def interrupted(self: subprocess.Popen[bytes], *args: object, **kwargs: object) -> None:
        while not noted.exists():
            time.sleep(0.02)
        raise KeyboardInterrupt

    monkeypatch.setattr(subprocess.Popen, "communicate", interrupted)
    with pytest.raises(KeyboardInterrupt):
        unwrap(soup(20), 512, 4, budget_s=60)
    wait_until_gone(noted)


def test_a_worker_that_nobody_waits_for_ends_by_itself() -> None:
    with subprocess.Popen([sys.executable, "-P", str(WORKER), "-0.5"], stdin=subprocess.PIPE) as worker:
        assert worker.wait(timeout=60) == -signal.SIGALRM  # half a second after its start


def test_the_worker_imports_numpy_and_xatlas_alone() -> None:
    nodes = [node for node in ast.walk(ast.parse(WORKER.read_text())) if isinstance(node, ast.Import | ast.ImportFrom)]
    names = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    assert len(nodes) == len(names) and names - sys.stdlib_module_names == {"numpy", "xatlas"}


def test_a_texel_on_an_edge_that_faces_share_is_covered_once() -> None:
    """Eight triangles around a texel's centre: their edges, level, upright and slanting, run through centres."""
    turn = np.arange(8) * np.pi / 4
    ring = np.sign(np.round(np.stack([np.cos(turn), np.sin(turn)], axis=1), 9)) * 32 / 256
    uvs = np.concatenate([[[0, 0]], ring]) + 64.5 / 256
    faces = np.stack([np.zeros(8, int), np.arange(8) + 1, (np.arange(8) + 1) % 8 + 1], axis=1)
    fan = flat(uvs, faces)
    assert fan.uvs is not None
    texel = np.concatenate([t for _, t in covered(to_texels(fan.uvs, 256), fan.faces, 256)])
    assert len(texel) == len(np.unique(texel)) == 64 * 64
    assert (times_covered(fan, 256).ravel()[texel] <= 1).all()


@pytest.mark.parametrize("size", [0, -256, 128, 1000, 8192, True])
def test_other_sizes_are_refused(mesh: Mesh, size: int) -> None:
    with pytest.raises(ExportError, match=f"texture size {size}; choose one of .*{SIZES[-1]}"):
        unwrap(mesh, size, 4, budget_s=60)


def test_nothing_is_not_unwrapped(mesh: Mesh) -> None:
    empty = Mesh(mesh.vertices, np.zeros((0, 3), dtype=np.int64), mesh.colors)
    with pytest.raises(ExportError, match="without faces"):
        unwrap(empty, 512, 4, budget_s=60)
    with pytest.raises(ExportError, match="no uvs"):
        uv_utilisation(mesh)
