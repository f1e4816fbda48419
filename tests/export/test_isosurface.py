"""Extraction against surfaces that are known exactly."""

import math
from inspect import unwrap

import numpy as np
import pytest
import torch
import trimesh

from scaledreamer.errors import EmptySurfaceError, ExportError
from scaledreamer.export import Mesh, extract_mesh
from scaledreamer.export.blocks import Lattice
from scaledreamer.export.isosurface import with_field_normals
from tests.export.fields import FIELDS, Analytic, ball, box, bumpy, ramp, union


def merged(mesh: Mesh) -> trimesh.Trimesh:
    """What a reader sees that knows vertices by their positions alone."""
    return trimesh.Trimesh(mesh.vertices, mesh.faces, process=True)


def face_set(mesh: Mesh) -> np.ndarray:
    """Corner positions of all faces, each face from its smallest corner on, faces sorted."""
    corners = mesh.vertices[mesh.faces].round(5)
    order = np.lexsort(corners.transpose(2, 0, 1)[::-1], axis=1)[:, 0]
    turned = np.stack([corners[np.arange(len(corners)), (order + i) % 3] for i in range(3)], axis=1).reshape(-1, 9)
    return turned[np.lexsort(turned.T[::-1])]


@pytest.mark.parametrize("mode", ["fast", "exact", "dense"])
def test_a_ball_has_its_volume_and_its_bounding_box(mode: str) -> None:
    mesh = extract_mesh(FIELDS["an off-centre ball"], resolution=48, mode=mode)
    assert merged(mesh).volume == pytest.approx(4 / 3 * math.pi * 0.5**3, rel=0.01)
    center = np.array([0.2, -0.1, 0.15])
    np.testing.assert_allclose(mesh.vertices.min(axis=0), center - 0.5, atol=0.003)
    np.testing.assert_allclose(mesh.vertices.max(axis=0), center + 0.5, atol=0.003)


def test_vertices_lie_on_the_surface_with_its_colour_and_its_normal() -> None:
    field = FIELDS["an off-centre ball"]
    mesh = with_field_normals(field, extract_mesh(field, resolution=32), step=1 / 32)
    outwards = mesh.vertices - np.array([0.2, -0.1, 0.15], dtype=np.float32)
    np.testing.assert_allclose(np.linalg.norm(outwards, axis=1), 0.5, atol=0.002)
    np.testing.assert_allclose(mesh.normals, outwards / np.linalg.norm(outwards, axis=1, keepdims=True), atol=0.01)
    np.testing.assert_allclose(mesh.colors, ramp(torch.from_numpy(mesh.vertices)).numpy(), atol=1e-6)


@pytest.mark.parametrize("mode", ["fast", "exact"])
@pytest.mark.parametrize("resolution", [8, 21, 34, 41, 56])
@pytest.mark.parametrize("name", FIELDS)
def test_every_mode_gives_the_faces_of_dense(name: str, resolution: int, mode: str) -> None:
    try:
        dense = face_set(extract_mesh(FIELDS[name], resolution, "dense"))
    except EmptySurfaceError:  # thinner than the lattice
        with pytest.raises(EmptySurfaceError):
            extract_mesh(FIELDS[name], resolution, mode)
        return
    fast = face_set(extract_mesh(FIELDS[name], resolution, mode))
    assert len(fast) == len(dense)
    np.testing.assert_allclose(fast, dense, atol=2e-5)


def test_fast_asks_less_than_a_third_of_the_lattice() -> None:
    asked = 0

    def counting(p: torch.Tensor) -> torch.Tensor:
        nonlocal asked
        asked += len(p)
        return ball()(p)

    Lattice(Analytic((counting,)), 96).blocks("fast")
    assert asked < 96**3 / 3


def test_fast_follows_a_surface_that_the_coarse_points_do_not_announce() -> None:
    def tube(p: torch.Tensor) -> torch.Tensor:
        """Almost flat far away, and a thin tube that only one end of gives away."""
        thin = torch.hypot(p[:, 1] - 0.13, p[:, 2] - 0.13) - 0.05
        return torch.where(thin < 0.02, torch.maximum(thin, p[:, 0].abs() - 0.8), torch.full_like(thin, 0.6))

    field = Analytic((union(tube, ball(-0.7, 0.1, 0.1, 0.25)),))
    fast, dense = (face_set(extract_mesh(field, 33, mode)) for mode in ("fast", "dense"))
    np.testing.assert_allclose(fast, dense, atol=2e-5)


@pytest.mark.parametrize("resolution", [8, 20, 33])
@pytest.mark.parametrize("name", FIELDS)
def test_a_mesh_is_closed_and_winds_outwards(name: str, resolution: int) -> None:
    if name in ("a thin torus", "two balls far apart"):
        resolution = 48  # thinner than a coarser lattice
    mesh = extract_mesh(FIELDS[name], resolution)
    assert len(merged(mesh).vertices) == len(mesh.vertices), "no two vertices fall together"
    for seen in (merged(mesh), trimesh.Trimesh(mesh.vertices, mesh.faces, process=False)):
        assert seen.is_watertight and seen.is_winding_consistent and seen.volume > 0
        assert len(seen.faces) == len(mesh.faces) and seen.area_faces.min() > 0
    np.testing.assert_allclose(np.linalg.norm(mesh.normals, axis=1), 1, atol=1e-5)
    around = np.zeros(mesh.vertices.shape)
    for corner in range(3):
        np.add.at(around, mesh.faces[:, corner], seen.face_normals * seen.area_faces[:, None])
    assert ((around * mesh.normals).sum(axis=1) > 0).all()


def test_a_surface_that_leaves_the_box_is_capped_on_the_border() -> None:
    mesh = extract_mesh(FIELDS["a box that reaches a corner of the cube"], resolution=41)
    np.testing.assert_allclose(mesh.vertices.min(axis=0), [-1, -0.3, 0.1], atol=0.002)
    np.testing.assert_allclose(mesh.vertices.max(axis=0), [0.4, 1, 1], atol=0.002)
    assert merged(mesh).volume == pytest.approx(1.4 * 1.3 * 0.9, rel=0.01)


def test_a_cap_is_flat_and_faces_out_of_the_box() -> None:
    field = Analytic((ball(z=0.9, radius=0.6),))
    mesh = with_field_normals(field, extract_mesh(field, resolution=32), step=1 / 32)
    cap = mesh.normals[(mesh.vertices[:, 2] == 1) & (np.linalg.norm(mesh.vertices[:, :2], axis=1) < 0.5)]
    assert len(cap) > 50
    np.testing.assert_allclose(cap, np.tile([0.0, 0, 1], (len(cap), 1)), atol=1e-6)


def test_a_box_that_is_all_inside_becomes_the_cube_itself() -> None:
    mesh = extract_mesh(FIELDS["everything inside"], resolution=9)
    assert merged(mesh).volume == pytest.approx(8)
    assert set(np.abs(mesh.vertices).max(axis=1)) == {1}


def test_the_lattice_includes_both_ends_of_the_box() -> None:
    for axis in Lattice(Analytic((ball(),), bound=2.0), 65).axes:
        assert (axis[0], axis[-1], axis[32]) == (-2, 2, 0)


def test_a_tight_lattice_is_spent_on_the_object() -> None:
    field = Analytic((ball(0.7, -0.1, 0.15, radius=0.2),))
    loose, tight = extract_mesh(field, 64), extract_mesh(field, 64, tight=True)
    assert len(tight.vertices) > 8 * len(loose.vertices)
    assert merged(tight).volume == pytest.approx(4 / 3 * math.pi * 0.2**3, rel=0.005)
    np.testing.assert_allclose(tight.vertices.max(axis=0), np.array([0.7, -0.1, 0.15]) + 0.2, atol=0.001)


def test_a_tight_lattice_stays_inside_the_box() -> None:
    mesh = extract_mesh(FIELDS["a box that reaches a corner of the cube"], resolution=40, tight=True)
    np.testing.assert_allclose(mesh.vertices.min(axis=0), [-1, -0.3, 0.1], atol=0.002)
    np.testing.assert_allclose(mesh.vertices.max(axis=0), [0.4, 1, 1], atol=0.002)
    assert merged(mesh).is_watertight


def test_only_the_first_scene_is_extracted() -> None:
    both = extract_mesh(Analytic((ball(radius=0.3), box((-0.9,) * 3, (0.9,) * 3))), resolution=16)
    first = extract_mesh(Analytic((ball(radius=0.3),)), resolution=16)
    np.testing.assert_array_equal(both.vertices, first.vertices)


def test_all_parts_are_kept() -> None:
    assert extract_mesh(FIELDS["two balls far apart"], resolution=32).vertices[:, 0].min() < -0.7
    assert merged(extract_mesh(FIELDS["two balls far apart"], resolution=32)).body_count == 2


@pytest.mark.parametrize("mode", ["fast", "exact", "dense"])
def test_a_field_without_a_surface_says_how_near_it_came(mode: str) -> None:
    with pytest.raises(EmptySurfaceError, match=r"smallest signed distance found is 0\.25"):
        extract_mesh(Analytic((lambda p: p.norm(dim=-1) + 0.25,)), resolution=17, mode=mode)


@pytest.mark.parametrize("mode", ["fast", "exact", "dense"])
@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_field_that_is_not_finite_is_refused_with_the_place(mode: str, value: float) -> None:
    field = Analytic((lambda p: torch.where(p[:, 0] > 0.9, value, bumpy(p)),))
    with pytest.raises(ExportError, match=rf"signed distance is \[?{value}\]? at \[1\.0, "):
        extract_mesh(field, resolution=17, mode=mode)


@pytest.mark.parametrize("resolution", [0, 7, 513, 32.0, True, "64"])
def test_a_resolution_out_of_range_is_refused(resolution: object) -> None:
    with pytest.raises(ExportError, match=r"cannot use resolution .*; choose an integer from 8 to 512"):
        unwrap(extract_mesh)(FIELDS["a bumpy ball"], resolution)  # without the check of types that tests run under


def test_an_unknown_mode_is_refused_with_the_choices() -> None:
    with pytest.raises(ExportError, match=r"unknown mode 'slow'; choose one of \['fast', 'exact', 'dense'\]"):
        unwrap(extract_mesh)(FIELDS["a bumpy ball"], 16, mode="slow")


def test_extraction_leaves_no_gradient_behind() -> None:
    radius = torch.tensor(0.5, requires_grad=True)
    mesh = extract_mesh(Analytic((lambda p: p.norm(dim=-1) - radius,)), resolution=12)
    assert radius.grad is None and len(mesh.faces) > 0
